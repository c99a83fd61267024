// Mapped files: names below a mapped directory are asked of the agent, descriptors are the kernel's.
//
// Which paths: absolute ones by their text; relative ones by what they are relative to, when that is in the
// host's tree of a map (runtime/file/tree.h) or when ".." or the current directory's place may lead into one.
// The kernel never sees a mapped path, so a current directory and directory descriptors are those of the
// tree, and their kernel names tell which mapped directory they stand for; nothing is remembered here that
// could be wrong after a rename, a fork or an exec.
//
// Descriptors: the local file's, which the kernel reads and writes. Before input the range is asked for
// unless all of the file is there (one load); after output in the middle of a file the agent is told (what
// grew it notices by itself); close sends what changed. Async-signal-safe except where libc's own function is
// not.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>

#include "preload/descriptor.h"
#include "preload/readable.h"
#include "shim/wire/abi.h"

struct iocb;

namespace elsewhere::preload {

// The session has maps; set once at start-up.
extern constinit bool has_maps;
inline bool HasMaps() {
  return has_maps;
}
inline bool IsMappedFile(int fd) {
  return KindOf(fd) == DescriptorKind::kMappedFile;
}
inline bool IsMapped(int fd) {
  const DescriptorKind kind = KindOf(fd);
  return kind == DescriptorKind::kMappedFile || kind == DescriptorKind::kMappedDirectory;
}

// At start-up: `maps` as kEnvMaps has it, or nullptr.
void ReadMaps(const char* maps);
// In a restored process: on this host other numbers and trees hold.
void MapsAfterRestore();
// In a program that was just executed: what it inherited is used by libc without a hook.
void FilesAfterExec();
void ForgetFileConnection();
// This process is about to become another user, who may not reach the agent by himself.
void KeepFileConnection();
// The current directory has changed.
void NoteDirectory();
mode_t FileModeMask();  // umask, without changing it

// ---- Paths

struct MappedPath {
  uint32_t map = 0;
  bool left =
      false;  // it is not mapped, but only seen from a mapped directory: `path` is where it leads, absolute
  char path[abi::kFilePathSize];  // below the mapped directory, without a leading '/'
};
// `path` seen from `directory` (AT_FDCWD or a descriptor). False: it is none of ours, or no path at all. One
// that is too long together with where it begins gives a path with a name that is too long.
bool FindMapped(int directory, const char* path, MappedPath* found);
// The same for a path that the kernel does not know, because a symbolic link on the local disk leads to where
// only mapped files are.
bool FindBehindLinks(int directory, const char* path, MappedPath* found);
// Of a path that the kernel does not know: whether a symbolic link is on the way.
bool HasLinks(int directory, const char* path);
// True: a path that is not mapped is not there, nor behind a link, as was to be expected. False: nobody
// knows.
bool IsMissing(int directory, const char* path);
// "/proc/self/fd/N"
inline constexpr size_t kDescriptorName = 32;
void NameDescriptor(int fd, char (&to)[kDescriptorName]);
// `text`, a path that the kernel answered, as the program knows it; false: it is not in a tree.
bool FromTree(const char* text, size_t size, char* to, size_t room, size_t* length);

// ---- Calls

struct FileCall {
  abi::FileOperation operation{};
  int64_t arguments[4] = {0, 0, 0, 0};
  const char* second = nullptr;
  size_t second_size = SIZE_MAX;  // SIZE_MAX: up to its zero
  int descriptor = -1;            // what came with the answer
  abi::FileAnswer answer;
};
// result, or -1 with errno; EREMOTE: answer.text (terminated) is where the path leads.
int64_t CallFile(const MappedPath& at, FileCall* call);

// Runs `mapped(const MappedPath&, FileCall*)` where the path is mapped, following links out of a map, and
// `local(int directory, const char* path)` where it is not. `looks`: that makes no name, so a name that is
// missing is ENOENT to it, whatever its other arguments are.
template <class Mapped, class Local>
auto OnPath(int directory, const char* path, Mapped mapped, Local local, bool looks = false)
    -> decltype(local(directory, path)) {
  using Result = decltype(local(directory, path));
  if (!HasMaps()) return local(directory, path);
  MappedPath at;
  if (!FindMapped(directory, path, &at)) {
    if (looks && !at.left && IsMissing(directory, path)) {
      errno = ENOENT;
      return static_cast<Result>(-1);
    }
    const Result result = at.left ? local(AT_FDCWD, at.path) : local(directory, path);
    if (result != static_cast<Result>(-1) || errno != ENOENT) return result;
    if (!FindBehindLinks(directory, path, &at)) {
      errno = ENOENT;
      return result;
    }
  }
  FileCall call;
  for (int links = 0; links < 40; ++links) {
    const auto result = static_cast<Result>(mapped(static_cast<const MappedPath&>(at), &call));
    if (call.answer.error != EREMOTE || call.answer.text_size == 0) return result;
    if (!FindMapped(AT_FDCWD, call.answer.text, &at)) return local(AT_FDCWD, call.answer.text);
  }
  errno = ELOOP;
  return static_cast<Result>(-1);
}

// A call of that operation and nothing more, as OnPath wants it.
inline auto Ask(abi::FileOperation operation, int64_t first = 0, int64_t second = 0, int64_t third = 0,
                int64_t fourth = 0) {
  return [=](const MappedPath& at, FileCall* call) {
    call->operation = operation;
    call->arguments[0] = first;
    call->arguments[1] = second;
    call->arguments[2] = third;
    call->arguments[3] = fourth;
    return CallFile(at, call) < 0 ? -1 : 0;
  };
}

// AT_EMPTY_PATH: a mapped descriptor itself is meant.
inline bool NamesDescriptor(int directory, const char* path, int flags) {
  return (flags & AT_EMPTY_PATH) != 0 && IsMapped(directory) && path != nullptr && IsReadable(path) &&
         *path == '\0';
}

// open(2) of a mapped path: the new descriptor.
int OpenMapped(const MappedPath& at, int flags, mode_t mode, FileCall* call);
// Of a path that is mapped; -2: it is not.
int OpenIfMapped(int directory, const char* path, int flags, mode_t mode);

void FillStatus(const abi::FileStatus& from, struct stat* to);

// As kSetTimes wants them; false: EINVAL. No times: now.
bool FileTimes(const struct timespec* times, int64_t* atime, int64_t* mtime);
const struct timespec* ToTimespec(const struct timeval* from, struct timespec* to);
// A change of what a directory's descriptor stands for.
int ChangeDirectory(int fd, abi::FileOperation operation, int64_t first, int64_t second, int64_t third);

// fpathconf(3) of a mapped descriptor.
long LimitOfMapped(int fd, int name);

// ---- Descriptors

// `from` is about to be copied to `to`: standard output is written by libc without a hook (a shell's
// builtins).
void BecomesStandard(int from, int to);

// What descriptor.h wants.
bool FetchBeforeInput(int fd, size_t bytes, int flags);
off_t SeekFile(int fd, off_t offset, int whence);
struct OutputPlace {
  off_t offset = -1;  // where it goes, where that matters
  bool positional = false;
};
// `offset` -1: the current one.
bool BeforeFileOutput(int fd, size_t bytes, off_t offset, OutputPlace* place);
void AfterFileOutput(int fd, const OutputPlace& place, ssize_t written);

template <class Write>
ssize_t WriteMapped(int fd, size_t bytes, off_t offset, Write write) {
  OutputPlace place;
  if (!BeforeFileOutput(fd, bytes, offset, &place)) return -1;
  const auto written = static_cast<ssize_t>(write());
  AfterFileOutput(fd, place, written);
  return written;
}

// A call about fd's file. `*stranger`: it is no mapped file (any more); what was known is forgotten.
int64_t CallAboutFile(abi::Operation operation, int fd, int64_t first, int64_t second, void* answer,
                      size_t room, bool* stranger);
bool FetchRange(int fd, off_t offset, size_t length);
// Everything, also for those who read without a hook; `written`: and write.
bool MakeWhole(int fd, bool written);
// The same where libc's streams are not followed (stdio.h).
bool MakeWholeForStdio(int fd, bool written);
// fcntl's commands for record locks, and flock (file_locks.cpp).
int LockMappedFile(int fd, int command, struct flock* lock);
int FlockMappedFile(int fd, int operation);
// A descriptor of the file with this entry (0: not known) is about to be closed: its record locks go.
void GiveUpRecordLocks(int fd, uint16_t entry);
// Sends what was written through fd; -1 with errno where it could not be.
int FlushFile(int fd, bool closes = false);
void FileOpened(int fd, int64_t entry, bool directory);
void FileCopied(int from, int to);
// `fd` is about to be closed or replaced.
int FileCloses(int fd);
int CloseFile(int fd);
// fstat of a mapped file or directory.
int StatusOfFile(int fd, struct stat* status);
bool BeforeMapping(int fd, size_t size, int protection, int flags, off_t offset);
// io_submit(2): what the kernel does by itself, and before it what must be here. Answers -errno.
long SubmitAsynchronous(unsigned long context, long count, struct iocb** blocks);
// Before this process ends or becomes another program.
void FlushFiles();
// Before children may see this process's files elsewhere.
void FlushFilesBeforeFork();

}  // namespace elsewhere::preload
