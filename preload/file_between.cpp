// Bytes that go from one descriptor to another within the kernel, where either may be a mapped file, a stream
// or a shared file.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "preload/by_name.h"
#include "preload/files.h"
#include "preload/hooks.h"
#include "preload/output_file.h"
#include "preload/readable.h"
#include "preload/real.h"
#include "preload/shared_file.h"
#include "preload/stream.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {
namespace {

template <class Move>
ssize_t Between(int from, const off_t* offset, int to, const off_t* to_offset, size_t size, Move move) {
  const NotedOutput noted(to);
  for (const off_t* each : {offset, to_offset}) {
    if (each != nullptr && !IsReadable(each, sizeof *each)) return move();
  }
  for (;;) {
    if (IsMappedFile(from)) {
      const off_t at = offset != nullptr ? *offset : raw::Syscall(SYS_lseek, from, 0, SEEK_CUR);
      if (at >= 0 && !FetchRange(from, at, size)) return -1;
    }
    if (IsKnown(to) && !IsMappedFile(to) && !BeforeOutput(to)) return -1;
    const ssize_t moved =
        IsMappedFile(to) ? WriteMapped(to, size, to_offset != nullptr ? *to_offset : -1, move) : move();
    if (moved != 0 || offset != nullptr || !MayBeAway(KindOf(from)) || !TakeOffset(from)) return moved;
  }
}

// EAGAIN may be the other end's word, so it is only asked again where this one has nothing.
template <class Move>
ssize_t BetweenPipes(int from, size_t size, unsigned flags, Move move) {
  if (!IsKnown(from) || IsMappedFile(from)) return move();
  for (;;) {
    if (!BeforeInput(from, size, (flags & SPLICE_F_NONBLOCK) != 0 ? MSG_DONTWAIT : 0)) return -1;
    const ssize_t moved = move();
    const bool taken = moved == -1 && errno == EAGAIN && KindOf(from) == DescriptorKind::kPipeRead;
    if (!taken || WaitingHere(from) > 0) return moved;
  }
}

// A piece of it: how much `from` has is known when it was read.
ssize_t CopyToShared(int from, off_t* offset, int to, size_t size, bool waits) {
  char piece[16384];
  if (size > sizeof piece) size = sizeof piece;
  if (offset != nullptr && !IsReadable(offset, sizeof *offset)) {
    errno = EFAULT;
    return -1;
  }
  pollfd input{from, POLLIN, 0};
  if (!waits && hooks::poll(&input, 1, 0) == 0) {
    errno = EAGAIN;
    return -1;
  }
  const ssize_t got =
      offset != nullptr ? by_name::pread(from, piece, size, *offset) : hooks::read(from, piece, size);
  if (got <= 0) return got;
  const ssize_t written = hooks::write(to, piece, static_cast<size_t>(got));
  if (offset != nullptr && written > 0) *offset += written;
  if (offset == nullptr && written < got) hooks::lseek(from, (written > 0 ? written : 0) - got, SEEK_CUR);
  return written;
}

}  // namespace

namespace hooks {

// Of what is read elsewhere the caller reads and writes.
ssize_t sendfile(int fd, int from, off_t* offset, size_t size) {
  if (IsOutputFile(from)) {
    errno = EINVAL;
    return -1;
  }
  if (IsSharedFile(fd)) return CopyToShared(from, offset, fd, size, true);
  return Between(from, offset, fd, nullptr, size, [&] { return real::sendfile(fd, from, offset, size); });
}
ssize_t copy_file_range(int fd, off64_t* offset, int to, off64_t* to_offset, size_t size, unsigned flags) {
  if (IsOutputFile(to) || IsOutputFile(fd))
    return output::copy_file_range(fd, offset, to, to_offset, size, flags);
  if (IsSharedFile(to) && to_offset == nullptr) return CopyToShared(fd, offset, to, size, true);
  return Between(fd, offset, to, to_offset, size,
                 [&] { return real::copy_file_range(fd, offset, to, to_offset, size, flags); });
}
ssize_t splice(int fd, off_t* offset, int to, off_t* to_offset, size_t size, unsigned flags) {
  if (IsOutputFile(fd)) {
    errno = EINVAL;
    return -1;
  }
  if (IsSharedFile(to) && to_offset == nullptr)
    return CopyToShared(fd, offset, to, size, (flags & SPLICE_F_NONBLOCK) == 0);
  return BetweenPipes(fd, size, flags, [&] {
    return Between(fd, offset, to, to_offset, size,
                   [&] { return real::splice(fd, offset, to, to_offset, size, flags); });
  });
}
ssize_t tee(int fd, int to, size_t size, unsigned flags) {
  const NotedOutput noted(to);
  return BetweenPipes(fd, size, flags, [&] { return real::tee(fd, to, size, flags); });
}

}  // namespace hooks
}  // namespace elsewhere::preload
