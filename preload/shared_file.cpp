#include "preload/shared_file.h"

#include <errno.h>
#include <fcntl.h>

#include "preload/stream.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {
namespace {

using wire::StreamCall;

// The kernel writes no more at a time (MAX_RW_COUNT).
size_t AtOnce(size_t bytes) {
  constexpr size_t kMost = 0x7ffff000;
  return bytes < kMost ? bytes : kMost;
}

}  // namespace

bool ReservePlace(int fd, size_t bytes, off_t* place) {
  *place = -1;
  const long flags = raw::Syscall(SYS_fcntl, fd, F_GETFL);
  if (bytes == 0 || raw::Failed(flags) || (flags & O_APPEND) != 0) return true;
  bool stranger;
  const int64_t begin =
      CallAtOrigin(fd, StreamCall::kAdvance, {static_cast<int64_t>(AtOnce(bytes)), fd}, {}, &stranger);
  if (stranger) return true;
  *place = begin;
  return begin >= 0;
}

void ReturnPlace(int fd, size_t bytes, off_t place, ssize_t written) {
  const auto reserved = static_cast<ssize_t>(AtOnce(bytes));
  if (written == reserved) return;
  const int before = errno;
  bool stranger;
  CallAtOrigin(fd, StreamCall::kTakeBack, {place + reserved, fd, place + (written > 0 ? written : 0)}, {},
               &stranger);
  errno = before;
}

}  // namespace elsewhere::preload
