// Plain files that processes of several hosts inherited open for reading (DescriptorKind::kSharedFile).
//
// Where one is only read, one host at a time has its offset; on others it is away, so that a read finds the
// end, and looks whether it is (wire::kOffsetAway): then the offset is asked for, and the read made again.
// What reads at once costs nothing.
//
// Where it is open for writing, too, the bytes are written here, into the file of that name. Where they go is
// asked of the description's origin, which moves its offset behind them at once (StreamCall::kAdvance): so
// no two writers get the same place, on whatever hosts they are. What is read goes by this host's offset
// (runtime/stream/plain_files.h). What a program writes without libc does, too.
#pragma once

#include <sys/types.h>

#include "preload/descriptor.h"

namespace elsewhere::preload {

inline bool IsSharedFile(int fd) {
  return KindOf(fd) == DescriptorKind::kSharedFile;
}
// May this be a plain file that stands for a description of another host's?
inline bool MayShareOffset(int fd) {
  return KindOf(fd) == DescriptorKind::kNothing || IsSharedFile(fd);
}

// Where the next `bytes` that are written to fd go; -1: the kernel finds it. False, with errno: nowhere.
bool ReservePlace(int fd, size_t bytes, off_t* place);
// Of all that this process has, for who reads without libc.
void TakeOffsets();
off_t SeekShared(int fd, off_t offset, int whence);

// Of these only so many were written (-1: none).
void ReturnPlace(int fd, size_t bytes, off_t place, ssize_t written);

// `write`: of at most `bytes`, as pwritev2 takes its offset.
template <class Write>
ssize_t WriteShared(int fd, size_t bytes, Write write) {
  off_t place;
  if (!ReservePlace(fd, bytes, &place)) return -1;
  const ssize_t written = write(place);
  if (place >= 0) ReturnPlace(fd, bytes, place, written);
  return written;
}

}  // namespace elsewhere::preload
