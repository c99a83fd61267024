#include "preload/shared_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "preload/real.h"
#include "preload/stream.h"
#include "shim/wire/raw_syscall.h"
#include "shim/wire/stream_call.h"

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
  if (bytes == 0 || raw::Failed(flags) || (flags & O_APPEND) != 0 || (flags & O_ACCMODE) != O_RDWR)
    return true;
  bool stranger;
  const int64_t begin =
      CallAtOrigin(fd, StreamCall::kAdvance, {static_cast<int64_t>(AtOnce(bytes)), fd}, {}, &stranger);
  if (stranger) return true;
  *place = begin;
  return begin >= 0;
}

bool TakeOffset(int fd) {
  const long now = raw::Syscall(SYS_lseek, fd, 0, SEEK_CUR);
  if (raw::Failed(now) || !wire::IsAway(now)) return false;
  const int before = errno;
  bool stranger;
  const int64_t taken = CallAtOrigin(fd, StreamCall::kTakeOffset, {0, fd}, {}, &stranger);
  errno = before;
  return !stranger && taken >= 0;
}

void TakeOffsets() {
  for (int fd = 0; fd < kLookedAt; ++fd) {
    if (IsSharedFile(fd)) TakeOffset(fd);
  }
}

// In a step from where it is, so that one that has gone away meanwhile stays away.
off_t SeekShared(int fd, off_t offset, int whence) {
  // A device may stay where it is.
  constexpr int kTries = 100;
  for (int i = 0; i < kTries; ++i) {
    const off_t now = real::lseek(fd, 0, SEEK_CUR);
    if (now < 0) return now;
    if (wire::IsAway(now) && TakeOffset(fd)) continue;
    struct stat status;
    off_t wanted = offset;
    if (whence == SEEK_CUR) {
      wanted += now;
    } else if (whence == SEEK_END && real::fstat(fd, &status) == 0) {
      wanted += status.st_size;
    } else if (whence != SEEK_SET) {
      return real::lseek(fd, offset, whence);
    }
    const off_t reached = real::lseek(fd, wanted - now, SEEK_CUR);
    if (reached < 0 || reached == wanted) return reached;
    const bool gone = wire::IsAway(reached) && !wire::IsAway(wanted);
    if (gone) real::lseek(fd, now - wanted, SEEK_CUR);
    if (!gone && whence == SEEK_CUR) return reached;  // somebody else has read, too
  }
  return real::lseek(fd, offset, whence);
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
