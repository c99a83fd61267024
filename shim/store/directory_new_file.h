// A file of DirectoryStore that is not yet an object: internal to directory_*.cpp.
#pragma once

#include <sys/stat.h>

#include <string>
#include <utility>

#include "shim/store/directory_store.h"

namespace elsewhere::store {

struct DirectoryStore::Usage {
  static constexpr uint64_t kMagic = 0x31'67'75'2d'73'6c'65;
  uint64_t magic;
  uint64_t bytes;  // by std::atomic_ref
};

class DirectoryStore::NewFile {
 public:
  NewFile(DirectoryStore* store, UniqueFd file, std::string file_name, uint64_t bytes)
      : fd(std::move(file)), name(std::move(file_name)), store_(store), reserved_(bytes) {}
  NewFile(NewFile&& other) noexcept
      : fd(std::move(other.fd)),
        name(std::move(other.name)),
        store_(std::exchange(other.store_, nullptr)),
        reserved_(other.reserved_) {}
  NewFile& operator=(NewFile&&) = delete;
  ~NewFile() {
    if (!store_) return;
    unlinkat(store_->root_.get(), name.c_str(), 0);
    store_->GiveBack(reserved_);
  }
  // The file has got its place; its bytes stay reserved until it is unlinked.
  void Published() { store_ = nullptr; }

  UniqueFd fd;
  std::string name;  // relative to the store's directory

 private:
  DirectoryStore* store_;
  uint64_t reserved_;
};

inline bool IsDirectoryAt(int root, const std::string& path) {
  struct stat status;
  return fstatat(root, path.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(status.st_mode);
}

}  // namespace elsewhere::store
