// Descriptors of mapped files: what comes before and behind the kernel's work on the local file.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "preload/agent.h"
#include "preload/files.h"
#include "preload/hooks.h"
#include "preload/kernel_lock.h"
#include "preload/output_file.h"
#include "preload/real.h"
#include "preload/self.h"
#include "preload/shared_file.h"
#include "preload/stdio.h"
#include "preload/stream.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {
namespace {

constexpr uint16_t kNoEntry = 0xffff;

// Number of the descriptor's FileEntry; 0: not asked yet.
constinit std::atomic<uint16_t> entries[kDescriptorCount] = {};
constinit std::atomic<int> highest = -1;          // no mapped descriptor is above
constinit std::atomic<bool> maps_memory = false;  // a mapped file is mapped writable somewhere in here

bool Identity(int fd, int64_t* device, int64_t* inode) {
  struct stat status;
  if (raw::Failed(raw::Syscall(SYS_fstat, fd, raw::Address(&status)))) return false;
  *device = static_cast<int64_t>(status.st_dev);
  *inode = static_cast<int64_t>(status.st_ino);
  return true;
}

// nullptr: it has none, and the agent has to be asked each time.
abi::FileEntry* EntryOf(int fd) {
  abi::Table* table = AgentTable();
  if (table == nullptr) return nullptr;
  uint16_t number = entries[fd].load(std::memory_order_relaxed);
  if (number == 0) {
    bool stranger;
    const int before = errno;
    const int64_t found = CallAboutFile(abi::Operation::kFileFind, fd, 0, 0, nullptr, 0, &stranger);
    errno = before;
    number = found > 0 && found <= abi::kFileCount ? static_cast<uint16_t>(found) : kNoEntry;
    if (!stranger) entries[fd].store(number, std::memory_order_relaxed);
  }
  return number == kNoEntry || number > abi::kFileCount ? nullptr : &table->files[number - 1];
}

int StatusFlags(int fd) {
  return static_cast<int>(raw::Syscall(SYS_fcntl, fd, F_GETFL));
}

bool IsWritable(int fd) {
  const int flags = StatusFlags(fd);
  return flags >= 0 && (flags & O_ACCMODE) != O_RDONLY && (flags & O_PATH) == 0;
}

off_t Position(int fd) {
  return raw::Syscall(SYS_lseek, fd, 0, SEEK_CUR);
}

}  // namespace

int64_t CallAboutFile(abi::Operation operation, int fd, int64_t first, int64_t second, void* answer,
                      size_t room, bool* stranger) {
  int64_t device = 0, inode = 0;
  *stranger = !Identity(fd, &device, &inode);
  if (!*stranger) {
    const int before = errno;
    const int64_t result =
        CallAgent(operation, {device, inode, first, second}, {nullptr, 0, answer, room, nullptr});
    if (result != -1 || errno != EBADF) return result;
    errno = before;
    *stranger = true;
  }
  // Libc closed what was mapped, and the number means something else now.
  SetKind(fd, DescriptorKind::kNothing);
  entries[fd].store(0, std::memory_order_relaxed);
  return -1;
}

void FileOpened(int fd, int64_t entry, bool directory) {
  if (static_cast<unsigned>(fd) >= kDescriptorCount) return;
  entries[fd].store(static_cast<uint16_t>(entry), std::memory_order_relaxed);
  int before = highest.load(std::memory_order_relaxed);
  while (fd > before && !highest.compare_exchange_weak(before, fd)) {
  }
  if (!directory && !FollowsStdio()) FollowStdio();
  SetKind(fd, directory ? DescriptorKind::kMappedDirectory : DescriptorKind::kMappedFile);
}

void FileCopied(int from, int to) {
  if (!IsMapped(from) || static_cast<unsigned>(to) >= kDescriptorCount) return;
  FileOpened(to, entries[from].load(std::memory_order_relaxed),
             KindOf(from) == DescriptorKind::kMappedDirectory);
}

bool FetchRange(int fd, off_t offset, size_t length) {
  if (offset < 0) return true;  // the kernel says what is wrong with it
  const abi::FileEntry* entry = EntryOf(fd);
  if (entry != nullptr && entry->whole.load(std::memory_order_acquire) != 0) return true;
  bool stranger;
  const int64_t done = CallAboutFile(abi::Operation::kFileFetch, fd, offset, static_cast<int64_t>(length),
                                     nullptr, 0, &stranger);
  return stranger || done >= 0;
}

bool FetchBeforeInput(int fd, size_t bytes, int) {
  const abi::FileEntry* entry = EntryOf(fd);
  if (entry != nullptr && entry->whole.load(std::memory_order_acquire) != 0) return true;
  const off_t at = Position(fd);
  return at < 0 || FetchRange(fd, at, bytes);
}

// Holes of the local file mean nothing: all up to the end is data, as POSIX allows.
off_t SeekFile(int fd, off_t offset, int whence) {
  if (whence == SEEK_END) {
    // Where another host may have moved the end, it is asked for first.
    const abi::FileEntry* entry = EntryOf(fd);
    if (entry != nullptr && entry->known_size.load(std::memory_order_acquire) == UINT64_MAX &&
        !FetchRange(fd, 0, 0))
      return -1;
  }
  if (whence != SEEK_DATA && whence != SEEK_HOLE) return SeekShared(fd, offset, whence);
  struct stat status;
  if (raw::Failed(raw::Syscall(SYS_fstat, fd, raw::Address(&status)))) return real::lseek(fd, offset, whence);
  if (offset < 0 || offset >= status.st_size) {
    errno = ENXIO;
    return -1;
  }
  return real::lseek(fd, whence == SEEK_DATA ? offset : status.st_size, SEEK_SET);
}

bool BeforeFileOutput(int fd, size_t bytes, off_t offset, OutputPlace* place) {
  const int flags = StatusFlags(fd);
  if (flags < 0 || (flags & O_APPEND) != 0) return true;
  const off_t at = offset >= 0 ? offset : Position(fd);
  if (at < 0) return true;
  const abi::FileEntry* entry = EntryOf(fd);
  if (entry != nullptr && static_cast<uint64_t>(at) >= entry->known_size.load(std::memory_order_acquire))
    return true;
  place->offset = at;
  place->positional = offset >= 0;
  // What is fetched later would be laid over it.
  return FetchRange(fd, at, bytes);
}

void AfterFileOutput(int fd, const OutputPlace& place, ssize_t written) {
  if (written <= 0) return;
  const int before = errno;
  bool stranger = false;
  if (place.offset >= 0) {
    CallAboutFile(abi::Operation::kFileWritten, fd, place.offset, written, nullptr, 0, &stranger);
    // Another thread moved the shared position in between: it went where it is now, or both.
    const off_t end = place.positional || stranger ? -1 : Position(fd);
    if (end >= written && end - written != place.offset)
      CallAboutFile(abi::Operation::kFileWritten, fd, end - written, written, nullptr, 0, &stranger);
  }
  const abi::FileEntry* entry = stranger || !IsMappedFile(fd) ? nullptr : EntryOf(fd);
  if (entry != nullptr) {
    struct stat status;
    const uint64_t notify = entry->notify_at.load(std::memory_order_relaxed);
    if (!raw::Failed(raw::Syscall(SYS_fstat, fd, raw::Address(&status))) &&
        static_cast<uint64_t>(status.st_size) >= notify)
      CallAboutFile(abi::Operation::kFileGrew, fd, 0, 0, nullptr, 0, &stranger);
  }
  errno = before;
}

bool MakeWholeForStdio(int fd, bool written) {
  return FollowsStdio() || MakeWhole(fd, written);
}

bool MakeWhole(int fd, bool written) {
  bool stranger;
  if (!written) return FetchRange(fd, 0, SIZE_MAX >> 1);
  return CallAboutFile(abi::Operation::kFileUnseen, fd, 0, 0, nullptr, 0, &stranger) >= 0 || stranger;
}

bool BeforeMapping(int fd, size_t size, int protection, int flags, off_t offset) {
  const bool shared = (flags & MAP_TYPE) != MAP_PRIVATE;
  if (!shared || !IsWritable(fd)) return FetchRange(fd, offset, size);
  // It may become writable by mprotect, too.
  (void)protection;
  maps_memory.store(true, std::memory_order_relaxed);
  bool stranger;
  return CallAboutFile(abi::Operation::kFileUnseen, fd, MAP_SHARED, 0, nullptr, 0, &stranger) >= 0 ||
         stranger;
}

int FlushFile(int fd, bool closes) {
  bool stranger;
  const int64_t why = closes ? abi::kFileClosing : 0;
  const int64_t done = CallAboutFile(abi::Operation::kFileFlush, fd, why, 0, nullptr, 0, &stranger);
  return stranger ? 0 : static_cast<int>(done);
}

int FileCloses(int fd) {
  const int result = IsMappedFile(fd) && IsWritable(fd) ? FlushFile(fd, true) : 0;
  if (IsMappedFile(fd)) GiveUpRecordLocks(fd, entries[fd].load(std::memory_order_relaxed));
  SetKind(fd, DescriptorKind::kNothing);
  entries[fd].store(0, std::memory_order_relaxed);
  return result;
}

// The descriptor is gone also when its content could not be sent.
int CloseFile(int fd) {
  if (InVforkChild()) return real::close(fd);
  const int flushed = FileCloses(fd);
  const int error = errno;
  const int closed = real::close(fd);
  if (closed == 0 && flushed != 0) {
    errno = error;
    return -1;
  }
  return closed;
}

namespace {

template <class Do>
void ForWritableFiles(Do what) {
  const int last = highest.load(std::memory_order_relaxed);
  for (int fd = 0; fd <= last; ++fd) {
    if (IsMappedFile(fd) && IsWritable(fd)) what(fd);
  }
}

}  // namespace

void FlushFiles() {
  if (!HasMaps() || InVforkChild()) return;
  const int before = errno;
  ForWritableFiles([](int fd) { FlushFile(fd, true); });
  if (maps_memory.load(std::memory_order_relaxed)) CallAgent(abi::Operation::kFileFlushAll, {});
  errno = before;
}

void FlushFilesBeforeFork() {
  if (!HasMaps() || InVforkChild()) return;
  const int before = errno;
  ForWritableFiles([](int fd) { FlushFile(fd); });
  CallAgent(abi::Operation::kFileFlushAll,
            {maps_memory.load(std::memory_order_relaxed) ? 0 : abi::kFileClosing});
  errno = before;
}

// Libc reads standard input and writes standard output without a hook.
void FilesAfterExec() {
  const int before = errno;
  for (int fd = 0; fd <= 2; ++fd) {
    if (!IsMappedFile(fd)) continue;
    const int flags = StatusFlags(fd);
    if ((flags & O_ACCMODE) == O_RDONLY) {
      MakeWholeForStdio(fd, false);
    } else if ((flags & O_APPEND) == 0) {
      MakeWholeForStdio(fd, true);
    }
  }
  errno = before;
}

void BecomesStandard(int from, int to) {
  if ((to != 1 && to != 2) || !IsMappedFile(from) || InVforkChild() || !IsWritable(from) ||
      (StatusFlags(from) & O_APPEND) != 0)
    return;
  const abi::FileEntry* entry = EntryOf(from);
  // Whatever goes behind the end is noticed anyway.
  if (entry != nullptr && static_cast<uint64_t>(Position(from)) >= entry->known_size.load()) return;
  const int before = errno;
  MakeWholeForStdio(from, true);
  errno = before;
}

// Runs before libc writes what stands in its buffers, so that is done here first.
__attribute__((destructor)) void StoreAtExit() {
  if (!HasMaps() || highest.load(std::memory_order_relaxed) < 0 || InVforkChild()) return;
  real::fflush(nullptr);
  FlushFiles();
}

int StatusOfFile(int fd, struct stat* status) {
  if (KindOf(fd) == DescriptorKind::kMappedDirectory) {
    char self[32];
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    char target[kPathSize];
    const long size = raw::Syscall(SYS_readlink, raw::Address(self), raw::Address(target), sizeof target - 1);
    if (size > 0) {
      target[size] = '\0';
      MappedPath at;
      FileCall call;
      if (FindMapped(AT_FDCWD, target, &at)) {
        call.operation = abi::FileOperation::kStatus;
        call.arguments[0] = 0;
        const int before = errno;
        if (CallFile(at, &call) >= 0) {
          if (!HasRoom(status)) return -1;
          FillStatus(call.answer.status, status);
          return 0;
        }
        errno = before;
      }
    }
    return real::fstat(fd, status);
  }
  abi::FileStatus found;
  bool stranger;
  const int64_t result =
      CallAboutFile(abi::Operation::kFileStatus, fd, 0, 0, &found, sizeof found, &stranger);
  if (stranger) return real::fstat(fd, status);
  if (result < 0 || !HasRoom(status)) return -1;
  FillStatus(found, status);
  return 0;
}

namespace hooks {

int fsync(int fd) {
  if (IsOutputFile(fd)) return output::fsync(fd);
  if (KindOf(fd) == DescriptorKind::kMappedDirectory)
    return ChangeDirectory(fd, abi::FileOperation::kSettle, 0, 0, 0);
  return IsMappedFile(fd) ? FlushFile(fd) : 0;
}
int fdatasync(int fd) {
  if (IsOutputFile(fd)) return output::fdatasync(fd);
  return hooks::fsync(fd);
}
int syncfs(int) {
  return CallAgent(abi::Operation::kFileFlushAll, {}) < 0 ? -1 : 0;
}
void sync() {
  const int before = errno;
  CallAgent(abi::Operation::kFileFlushAll, {});
  errno = before;
  real::sync();
}
int msync(void* start, size_t size, int flags) {
  if ((flags & MS_SYNC) != 0 && maps_memory.load(std::memory_order_relaxed) &&
      CallAgent(abi::Operation::kFileFlushAll, {}) < 0)
    return -1;
  return real::msync(start, size, flags);
}

int ftruncate(int fd, off_t size) {
  if (IsOutputFile(fd)) return output::ftruncate(fd, size);
  if (size < 0 || !IsWritable(fd)) {
    errno = EINVAL;
    return -1;
  }
  bool stranger;
  const int64_t done = CallAboutFile(abi::Operation::kFileTruncate, fd, size, 0, nullptr, 0, &stranger);
  return stranger ? real::ftruncate(fd, size) : static_cast<int>(done);
}

int fallocate(int fd, int mode, off_t offset, off_t size) {
  if (IsOutputFile(fd)) return output::fallocate(fd, mode, offset, size);
  if (mode != 0 && mode != FALLOC_FL_KEEP_SIZE) {
    errno = EOPNOTSUPP;
    return -1;
  }
  const int result = real::fallocate(fd, mode, offset, size);
  return result;
}
int posix_fallocate(int fd, off_t offset, off_t size) {
  if (IsOutputFile(fd)) return output::posix_fallocate(fd, offset, size);
  return real::posix_fallocate(fd, offset, size);
}

int fchmod(int fd, mode_t mode) {
  if (IsOutputFile(fd)) return output::fchmod(fd, mode);
  bool stranger;
  if (KindOf(fd) == DescriptorKind::kMappedDirectory)
    return ChangeDirectory(fd, abi::FileOperation::kSetMode, mode, 1, 0);
  const int64_t done = CallAboutFile(abi::Operation::kFileSetMode, fd, mode, 0, nullptr, 0, &stranger);
  return stranger ? real::fchmod(fd, mode) : static_cast<int>(done);
}
int fchown(int fd, uid_t user, gid_t group) {
  if (IsOutputFile(fd)) return output::fchown(fd, user, group);
  bool stranger;
  const auto user_number = static_cast<int64_t>(static_cast<int32_t>(user)),
             group_number = static_cast<int64_t>(static_cast<int32_t>(group));
  if (KindOf(fd) == DescriptorKind::kMappedDirectory)
    return ChangeDirectory(fd, abi::FileOperation::kSetOwner, user_number, group_number, 1);
  const int64_t done =
      CallAboutFile(abi::Operation::kFileSetOwner, fd, user_number, group_number, nullptr, 0, &stranger);
  return stranger ? real::fchown(fd, user, group) : static_cast<int>(done);
}
int futimens(int fd, const struct timespec* times) {
  if (IsOutputFile(fd)) return output::futimens(fd, times);
  int64_t atime, mtime;
  if (!FileTimes(times, &atime, &mtime)) return -1;
  bool stranger;
  if (KindOf(fd) == DescriptorKind::kMappedDirectory)
    return ChangeDirectory(fd, abi::FileOperation::kSetTimes, atime, mtime, 1);
  const int64_t done = CallAboutFile(abi::Operation::kFileSetTimes, fd, atime, mtime, nullptr, 0, &stranger);
  return stranger ? real::futimens(fd, times) : static_cast<int>(done);
}
int futimes(int fd, const struct timeval* times) {
  struct timespec converted[2];
  return hooks::futimens(fd, ToTimespec(times, converted));
}

ssize_t preadv2(int fd, const struct iovec* parts, int count, off_t offset, int flags) {
  if (IsOutputFile(fd)) return output::preadv2(fd, parts, count, offset, flags);
  const size_t bytes = TotalSize(parts, count);
  const auto read = [&] { return real::preadv2(fd, parts, count, offset, flags); };
  if (IsMappedFile(fd) && offset >= 0) return FetchRange(fd, offset, bytes) ? read() : -1;
  return WithInput(fd, bytes, (flags & RWF_NOWAIT) != 0 ? MSG_DONTWAIT : 0, read);
}
ssize_t pwritev2(int fd, const struct iovec* parts, int count, off_t offset, int flags) {
  const NotedOutput noted(fd);
  if (IsOutputFile(fd)) return output::pwritev2(fd, parts, count, offset, flags);
  if (IsSharedFile(fd) && offset == -1 && (flags & RWF_APPEND) == 0)
    return WriteShared(fd, TotalSize(parts, count),
                       [&](off_t place) { return real::pwritev2(fd, parts, count, place, flags); });
  const auto write = [&] { return real::pwritev2(fd, parts, count, offset, flags); };
  if (IsMappedFile(fd)) return WriteMapped(fd, TotalSize(parts, count), offset, write);
  return BeforeOutput(fd) ? write() : -1;
}

void _exit(int status) {
  FlushFiles();
  KernelLocksEnd();
  real::_exit(status);
  __builtin_unreachable();
}

}  // namespace hooks
}  // namespace elsewhere::preload
