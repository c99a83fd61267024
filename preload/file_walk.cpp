// nftw and ftw below a mapped directory: libc's own open directories without a hook.
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "preload/files.h"
#include "preload/hooks.h"
#include "preload/real.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {
namespace {

struct Object {
  dev_t device;
  ino_t inode;
};

// Grows by pages of its own, for the heap is the program's.
class Seen {
 public:
  ~Seen() {
    for (Page* page = first_; page != nullptr;) {
      Page* next = page->next;
      raw::Syscall(SYS_munmap, raw::Address(page), sizeof(Page));
      page = next;
    }
  }

  // False: it was there before.
  bool Add(const struct stat& status) {
    for (const Page* page = first_; page != nullptr; page = page->next) {
      for (size_t i = 0; i < page->count; ++i) {
        if (page->objects[i].device == status.st_dev && page->objects[i].inode == status.st_ino) return false;
      }
    }
    if ((first_ == nullptr || first_->count == kOnPage) && !AddPage()) return true;
    first_->objects[first_->count++] = {status.st_dev, status.st_ino};
    return true;
  }

 private:
  static constexpr size_t kOnPage = 4095;
  struct Page {
    Page* next;
    size_t count;
    Object objects[kOnPage];
  };

  bool AddPage() {
    const long made =
        raw::Syscall(SYS_mmap, 0, sizeof(Page), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (raw::Failed(made)) return false;
    auto* page = reinterpret_cast<Page*>(made);
    page->next = first_;
    first_ = page;
    return true;
  }

  Page* first_ = nullptr;
};

// What libc's ftw calls what nftw finds, by FTW_F, FTW_D, FTW_DNR, FTW_NS, FTW_SL, FTW_DP, FTW_SLN.
constexpr int kOldKinds[] = {FTW_F, FTW_D, FTW_DNR, FTW_NS, FTW_F, FTW_D, FTW_NS};

class Walk {
 public:
  Walk(tree_visit visit, old_tree_visit old_visit, int flags)
      : visit_(visit), old_visit_(old_visit), flags_(flags) {}

  int From(const char* path) {
    size_t length = strlen(path);
    if (length == 0 || length >= sizeof path_) {
      errno = length == 0 ? ENOENT : ENAMETOOLONG;
      return -1;
    }
    memcpy(path_, path, length + 1);
    while (length > 1 && path_[length - 1] == '/') path_[--length] = '\0';
    const char* slash = strrchr(path_, '/');
    FTW place{slash == nullptr ? 0 : static_cast<int>(slash - path_) + 1, 0};
    const int before =
        (flags_ & FTW_CHDIR) != 0 ? hooks::open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0) : -1;
    if ((flags_ & FTW_CHDIR) != 0 && (before < 0 || !EnterDirectoryOf(place.base))) return -1;
    const int result = Enter(length, place);
    if (before >= 0) {
      const int error = errno;
      hooks::fchdir(before);
      hooks::close(before);
      errno = error;
    }
    const bool skipped =
        (flags_ & FTW_ACTIONRETVAL) != 0 && (result == FTW_SKIP_SUBTREE || result == FTW_SKIP_SIBLINGS);
    return skipped ? 0 : result;
  }

 private:
  bool EnterDirectoryOf(int base) {
    if (base == 0) return true;
    char directory[PATH_MAX];
    const size_t length = base > 1 ? static_cast<size_t>(base) - 1 : 1;
    memcpy(directory, path_, length);
    directory[length] = '\0';
    return hooks::chdir(directory) == 0;
  }

  int Call(const struct stat& status, int kind, FTW place) {
    if (old_visit_ != nullptr) return old_visit_(path_, &status, kOldKinds[kind]);
    return visit_(path_, &status, kind, &place);  // NOLINT: there is one where the old one is not
  }

  // path_ as it is seen from the current directory.
  const char* Here(FTW place) const { return (flags_ & FTW_CHDIR) != 0 ? path_ + place.base : path_; }

  // Of the object that path_ names; -1 with errno: the walk ends.
  int KindOf(struct stat* status, FTW place) {
    const bool physical = (flags_ & FTW_PHYS) != 0;
    const char* path = Here(place);
    if ((physical ? hooks::lstat(path, status) : hooks::stat(path, status)) == 0)
      return S_ISDIR(status->st_mode) ? FTW_D : S_ISLNK(status->st_mode) ? FTW_SL : FTW_F;
    if (errno != EACCES && errno != ENOENT) return -1;
    const int error = errno;
    if (physical || hooks::lstat(path, status) != 0) {
      errno = error;
      if (place.level == 0) return -1;
      memset(status, 0, sizeof *status);
      return FTW_NS;
    }
    return S_ISLNK(status->st_mode) ? FTW_SLN : FTW_NS;
  }

  int Enter(size_t length, FTW place) {
    struct stat status;
    const int kind = KindOf(&status, place);
    if (kind < 0) return -1;
    if (place.level == 0) device_ = status.st_dev;
    if ((flags_ & FTW_MOUNT) != 0 && kind != FTW_NS && status.st_dev != device_) return 0;
    if (kind != FTW_D) return Call(status, kind, place);
    // Directories that links lead to twice are walked once.
    if ((flags_ & FTW_PHYS) == 0 && !seen_.Add(status)) return 0;
    DIR* directory = hooks::opendir(Here(place));
    if (directory == nullptr) return errno == EACCES ? Call(status, FTW_DNR, place) : -1;
    const bool depth = (flags_ & FTW_DEPTH) != 0;
    int result = depth ? 0 : Call(status, FTW_D, place);
    if (result == 0) result = List(directory, length, {0, place.level + 1});
    path_[length] = '\0';
    const int error = errno;
    hooks::closedir(directory);
    errno = error;
    if ((flags_ & FTW_ACTIONRETVAL) != 0 && result == FTW_SKIP_SUBTREE) return 0;
    return result == 0 && depth ? LeaveTo(status, place) : result;
  }

  int LeaveTo(const struct stat& status, FTW place) {
    if ((flags_ & FTW_CHDIR) != 0 && !EnterDirectoryOf(place.base)) return -1;
    return Call(status, FTW_DP, place);
  }

  int List(DIR* directory, size_t length, FTW place) {
    if (length > 1 || path_[0] != '/') path_[length++] = '/';
    place.base = static_cast<int>(length);
    while (const dirent* entry = real::readdir(directory)) {
      const size_t name = strlen(entry->d_name);
      if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
      if (length + name >= sizeof path_) {
        errno = ENAMETOOLONG;
        return -1;
      }
      memcpy(path_ + length, entry->d_name, name + 1);
      if ((flags_ & FTW_CHDIR) != 0 && hooks::fchdir(dirfd(directory)) != 0) return -1;
      const int result = Enter(length + name, place);
      if (result == 0) continue;
      if ((flags_ & FTW_ACTIONRETVAL) != 0 && result == FTW_SKIP_SUBTREE) continue;
      return (flags_ & FTW_ACTIONRETVAL) != 0 && result == FTW_SKIP_SIBLINGS ? 0 : result;
    }
    return 0;
  }

  const tree_visit visit_;
  const old_tree_visit old_visit_;
  const int flags_;
  Seen seen_;
  dev_t device_ = 0;
  char path_[PATH_MAX];
};

bool IsMappedPath(const char* path) {
  MappedPath at;
  return FindMapped(AT_FDCWD, path, &at);
}

}  // namespace

namespace hooks {

int nftw(const char* path, tree_visit visit, int descriptors, int flags) {
  return IsMappedPath(path) ? Walk(visit, nullptr, flags).From(path)
                            : real::nftw(path, visit, descriptors, flags);
}
int ftw(const char* path, old_tree_visit visit, int descriptors) {
  return IsMappedPath(path) ? Walk(nullptr, visit, 0).From(path) : real::ftw(path, visit, descriptors);
}

}  // namespace hooks
}  // namespace elsewhere::preload
