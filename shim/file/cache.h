// FileCache: the local files that hold what is known of objects, in one directory per user, mode 0700.
//
// A version file holds one version of one object, sparsely: its holes are what has not been fetched, so it
// needs no index, and another process that opens the same version finds what this one has fetched. Its name
// contains the boot's id: after a crash of the machine a file may show zeros where data had not reached the
// disk, so none is trusted then. A private file has no name and vanishes with its last descriptor.
//
// Files of up to kSmallFile bytes, which come whole with every open, get no place there: a few are kept
// without a name, for this process.
//
// Bounded: when version files occupy more than the limit, the longest unused ones are removed. Those in use
// are left alone, for what has been promised to a reader must stay, so they and private files come on top. A
// full disk is met by removing all that is not in use. Holders share a lock on a version file; only a sole
// holder may turn it into a private one. Thread-safety: all methods from any thread and process.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "shim/file/extents.h"
#include "shim/store/unique_fd.h"
#include "shim/wire/result.h"

namespace elsewhere::file {

// All of it; errno tells why not.
bool PwriteFully(int fd, const char* data, uint64_t size, uint64_t offset);
// Nobody else has the local file open or mapped.
bool IsAlone(int fd);

inline constexpr uint64_t kSmallFile = 256 << 10;
// The cache's directory is also that of the AttributeCache, under this name.
inline constexpr char kAttributeTable[] = "attributes";

class FileCache {
 public:
  // Makes the directory. EACCES when it belongs to somebody else.
  static Result<std::shared_ptr<FileCache>> Open(const std::string& directory, uint64_t limit_bytes);

  // Read and write, close-on-exec, with that content.
  Result<store::UniqueFd> NewPrivate(std::string_view content = {});
  // A private file that is done with and that nobody else holds serves again: writing over one costs a
  // fraction of making one. Until then OpenVersion finds it; `identity`: of the version that it is, all of
  // it, or "".
  void Recycle(store::UniqueFd fd, std::string identity);

  struct Version {
    store::UniqueFd fd;
    std::string name;
    Extents valid;  // what is there already
  };
  // `identity` names object and version without doubt, such as url, key and etag joined by zero bytes.
  Result<Version> OpenVersion(const std::string& identity, uint64_t size);

  // Takes a version file out of the cache, so that it may be changed. False: somebody else uses it.
  bool TakeOut(const Version& version);
  // Gives a private file, complete with that version's content, its place in the cache. Nobody may change it
  // later.
  void Adopt(int fd, const std::string& identity);

  // Writes what was fetched. ENOSPC, also after all that is not in use was removed.
  Status Fill(int fd, std::string_view data, uint64_t offset);

 private:
  FileCache(std::string directory, uint64_t limit) : directory_(std::move(directory)), limit_(limit) {}
  std::string NameOf(const std::string& identity) const;
  std::optional<Version> TakeSpare(const std::string& identity, uint64_t size);
  static bool RemoveUnused(const std::string& name);
  void Evict(uint64_t limit);
  void NoteFilled(uint64_t bytes);

  const std::string directory_;
  const uint64_t limit_;
  std::string boot_;
  std::mutex mutex_;
  struct Spare {
    store::UniqueFd fd;
    std::string identity;
  };
  std::deque<Spare> spare_;          // the oldest first
  std::atomic<uint64_t> filled_{0};  // bytes since occupied space was looked at
};

}  // namespace elsewhere::file
