// Functions that make, remove and rename files by name, and the creation mask: what is mapped is asked of the
// agent, all else goes to libc.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <atomic>

#include "preload/files.h"
#include "preload/hooks.h"
#include "preload/real.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {
namespace {

using abi::FileOperation;

// The creation mask; -1: not asked yet. Kept by the hook of umask.
constinit std::atomic<int> mask_known = -1;

// One path of a rename, free of links that lead out of its map.
struct Place {
  bool mapped = false;
  int directory = AT_FDCWD;
  const char* path = nullptr;
  MappedPath at;
  char outside[abi::kFilePathSize];

  void Find() {
    mapped = FindMapped(directory, path, &at);
    if (mapped || !at.left) return;
    directory = AT_FDCWD;
    path = at.path;
  }
  void Lead(const FileCall& call) {
    memcpy(outside, call.answer.text, call.answer.text_size + 1);
    directory = AT_FDCWD;
    path = outside;
    Find();
  }
};

int Rename(int directory, const char* from, int to_directory, const char* to, unsigned flags) {
  if (!IsReadable(from) || !IsReadable(to)) return real::renameat2(directory, from, to_directory, to, flags);
  Place source, target;
  source.directory = directory;
  source.path = from;
  target.directory = to_directory;
  target.path = to;
  source.Find();
  target.Find();
  for (int links = 0; links < 40; ++links) {
    if (!source.mapped && !target.mapped) {
      return flags == 0
                 ? real::renameat(source.directory, source.path, target.directory, target.path)
                 : real::renameat2(source.directory, source.path, target.directory, target.path, flags);
    }
    if (source.mapped != target.mapped || source.at.map != target.at.map) {
      errno = EXDEV;
      return -1;
    }
    FileCall call;
    call.operation = FileOperation::kRename;
    call.arguments[0] = flags;
    call.second = target.at.path;
    if (CallFile(source.at, &call) >= 0) return 0;
    if (call.answer.error != EREMOTE || call.answer.text_size == 0) return -1;
    (call.answer.result == -2 ? target : source).Lead(call);
  }
  errno = ELOOP;
  return -1;
}

// The descriptor that `from` names by /proc/self/fd or AT_EMPTY_PATH; -1: none.
int DescriptorNamed(int directory, const char* from, int flags) {
  if (*from == '\0') return (flags & AT_EMPTY_PATH) != 0 ? directory : -1;
  constexpr char kOwn[] = "/proc/self/fd/";
  if ((flags & AT_SYMLINK_FOLLOW) == 0 || strncmp(from, kOwn, sizeof kOwn - 1) != 0) return -1;
  const char* digit = from + sizeof kOwn - 1;
  int fd = *digit == '\0' ? -1 : 0;
  for (; *digit >= '0' && *digit <= '9' && fd < 1000000; ++digit) fd = fd * 10 + (*digit - '0');
  return *digit == '\0' ? fd : -1;
}

// A name for an O_TMPFILE file; others have one, and objects have no second.
int Link(int directory, const char* from, int to_directory, const char* to, int flags) {
  if ((flags & ~(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH)) != 0 || !IsReadable(from) || !IsReadable(to))
    return real::linkat(directory, from, to_directory, to, flags);
  MappedPath source, target;
  const int fd = DescriptorNamed(directory, from, flags);
  const bool of_descriptor = fd >= 0 && IsMappedFile(fd);
  const bool source_mapped = of_descriptor || FindMapped(directory, from, &source),
             target_mapped = FindMapped(to_directory, to, &target);
  if (!source_mapped && !target_mapped) {
    return real::linkat(source.left ? AT_FDCWD : directory, source.left ? source.path : from,
                        target.left ? AT_FDCWD : to_directory, target.left ? target.path : to, flags);
  }
  FileCall call;
  struct stat status;
  if (of_descriptor && target_mapped && !raw::Failed(raw::Syscall(SYS_fstat, fd, raw::Address(&status)))) {
    call.operation = FileOperation::kLinkFile;
    call.arguments[2] = static_cast<int64_t>(status.st_dev);
    call.arguments[3] = static_cast<int64_t>(status.st_ino);
    return CallFile(target, &call) < 0 ? -1 : 0;
  }
  if (!of_descriptor && source_mapped && target_mapped && source.map == target.map) {
    call.operation = FileOperation::kHardLink;
    call.second = target.path;
    return CallFile(source, &call) < 0 ? -1 : 0;
  }
  errno = EXDEV;
  return -1;
}

int MakeNode(int directory, const char* path, mode_t mode, dev_t device, bool fifo) {
  return OnPath(
      directory, path,
      [&](const MappedPath& at, FileCall* call) {
        const mode_t type = fifo ? S_IFIFO : mode & S_IFMT;
        return Ask(FileOperation::kMakeNode, type | (mode & 07777 & ~FileModeMask()),
                   static_cast<int64_t>(device))(at, call);
      },
      [&](int from, const char* name) {
        return fifo ? real::mkfifoat(from, name, mode) : real::mknodat(from, name, mode, device);
      });
}

// The letters of mkstemp and its kin, replaced by what `make` takes as a new name.
template <class Make>
int MakeTemporary(char* pattern, int suffix, Make make) {
  const size_t length = strlen(pattern);
  if (suffix < 0 || length < 6 + static_cast<size_t>(suffix) ||
      memcmp(pattern + length - static_cast<size_t>(suffix) - 6, "XXXXXX", 6) != 0) {
    errno = EINVAL;
    return -1;
  }
  char* letters = pattern + length - static_cast<size_t>(suffix) - 6;
  constexpr char kLetters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
  const int before = errno;
  for (int attempt = 0; attempt < 1000; ++attempt) {
    uint8_t random[6];
    raw::Syscall(SYS_getrandom, raw::Address(random), sizeof random, 0);
    for (int i = 0; i < 6; ++i) letters[i] = kLetters[random[i] % (sizeof kLetters - 1)];
    const int result = make();
    if (result >= 0 || errno != EEXIST) {
      if (result >= 0) errno = before;
      return result;
    }
  }
  return -1;
}

int MakeTemporaryFile(char* pattern, int suffix, int flags) {
  return MakeTemporary(pattern, suffix, [&] {
    return hooks::open(pattern, (flags & ~O_ACCMODE) | O_RDWR | O_CREAT | O_EXCL, 0600);
  });
}

bool IsMappedPath(const char* path) {
  MappedPath at;
  return FindMapped(AT_FDCWD, path, &at);
}

}  // namespace

mode_t FileModeMask() {
  int known = mask_known.load(std::memory_order_relaxed);
  if (known < 0) {
    // Before any thread could see it: the first file is created, and nobody has asked for the mask through
    // us.
    const long mask = raw::Syscall(SYS_umask, 077);
    raw::Syscall(SYS_umask, mask);
    known = static_cast<int>(mask);
    mask_known.store(known, std::memory_order_relaxed);
  }
  return static_cast<mode_t>(known);
}

namespace hooks {

mode_t umask(mode_t mask) {
  mask_known.store(static_cast<int>(mask & 0777), std::memory_order_relaxed);
  return real::umask(mask);
}

int creat(const char* path, mode_t mode) {
  return hooks::open(path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

int mkdirat(int directory, const char* path, mode_t mode) {
  return OnPath(directory, path,
                Ask(FileOperation::kMakeDirectory, HasMaps() ? mode & ~FileModeMask() : mode),
                [&](int from, const char* name) { return real::mkdirat(from, name, mode); });
}
int mkdir(const char* path, mode_t mode) {
  return hooks::mkdirat(AT_FDCWD, path, mode);
}
int unlinkat(int directory, const char* path, int flags) {
  // A flag that the kernel does not know is the kernel's to refuse.
  if ((flags & ~AT_REMOVEDIR) != 0) return real::unlinkat(directory, path, flags);
  const FileOperation operation =
      (flags & AT_REMOVEDIR) != 0 ? FileOperation::kRemoveDirectory : FileOperation::kUnlink;
  return OnPath(directory, path, Ask(operation),
                [&](int from, const char* name) { return real::unlinkat(from, name, flags); });
}
int unlink(const char* path) {
  return hooks::unlinkat(AT_FDCWD, path, 0);
}
int rmdir(const char* path) {
  return hooks::unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}
int remove(const char* path) {
  if (!IsMappedPath(path)) return real::remove(path);
  if (hooks::unlink(path) == 0) return 0;
  return errno == EISDIR ? hooks::rmdir(path) : -1;
}
int rename(const char* from, const char* to) {
  return Rename(AT_FDCWD, from, AT_FDCWD, to, 0);
}
int renameat(int directory, const char* from, int to_directory, const char* to) {
  return Rename(directory, from, to_directory, to, 0);
}
int renameat2(int directory, const char* from, int to_directory, const char* to, unsigned flags) {
  return Rename(directory, from, to_directory, to, flags);
}
int link(const char* from, const char* to) {
  return Link(AT_FDCWD, from, AT_FDCWD, to, 0);
}
int linkat(int directory, const char* from, int to_directory, const char* to, int flags) {
  return Link(directory, from, to_directory, to, flags);
}
int symlinkat(const char* target, int directory, const char* path) {
  return OnPath(
      directory, path,
      [&](const MappedPath& at, FileCall* call) {
        if (!IsReadable(target)) {
          errno = EFAULT;
          return -1;
        }
        call->second = target;
        return Ask(FileOperation::kMakeLink)(at, call);
      },
      [&](int from, const char* name) { return real::symlinkat(target, from, name); });
}
int symlink(const char* target, const char* path) {
  return hooks::symlinkat(target, AT_FDCWD, path);
}
int mkfifoat(int directory, const char* path, mode_t mode) {
  return MakeNode(directory, path, mode, 0, true);
}
int mkfifo(const char* path, mode_t mode) {
  return MakeNode(AT_FDCWD, path, mode, 0, true);
}
int mknodat(int directory, const char* path, mode_t mode, dev_t device) {
  return MakeNode(directory, path, mode, device, false);
}
int mknod(const char* path, mode_t mode, dev_t device) {
  return MakeNode(AT_FDCWD, path, mode, device, false);
}

int mkostemps(char* pattern, int suffix, int flags) {
  return IsMappedPath(pattern) ? MakeTemporaryFile(pattern, suffix, flags)
                               : real::mkostemps(pattern, suffix, flags);
}
int mkstemp(char* pattern) {
  return hooks::mkostemps(pattern, 0, 0);
}
int mkostemp(char* pattern, int flags) {
  return hooks::mkostemps(pattern, 0, flags);
}
int mkstemps(char* pattern, int suffix) {
  return hooks::mkostemps(pattern, suffix, 0);
}
char* mkdtemp(char* pattern) {
  if (!IsMappedPath(pattern)) return real::mkdtemp(pattern);
  return MakeTemporary(pattern, 0, [&] { return hooks::mkdir(pattern, 0700); }) == 0 ? pattern : nullptr;
}

}  // namespace hooks
}  // namespace elsewhere::preload
