// The mapped directories of a session as this host has them: per map a FileSystem (shim/file) and the root of
// its tree, the local likeness of its directories.
//
// All maps share a file cache, a pool for requests that run side by side, and nothing else. Thread-safety:
// const after Open.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "shim/file/file_system.h"
#include "shim/file/path_rules.h"
#include "shim/wire/result.h"

namespace elsewhere::runtime {

// As the launcher was told; the same on every host but for the cache's directory.
struct FileOptions {
  std::string maps;      // DIRECTORY=URL[:ro][:plain], joined by ';'; empty: no maps
  std::string endpoint;  // of S3; empty: from the environment
  std::string cache;     // directory of the file cache
  uint64_t cache_bytes = uint64_t{10} << 30;
  bool write_back = false;  // home's only: a worker's children have ended when all they did is stored
};

// The rules in `maps`, in the order in which they were given, which numbers them.
Result<std::vector<file::PathRule>> ParseMaps(const std::string& maps);
// What kEnvMaps says of them.
std::string MapDirectories(const std::vector<file::PathRule>& rules);
// One line if a map cannot be used: no such bucket, wrong keys, no permission, not reachable.
Status CheckMaps(const FileOptions& options);
// Where the user's file caches are; the host's number is appended by the caller.
std::string DefaultFileCache();

struct Map {
  file::PathRule rule;
  std::unique_ptr<file::FileSystem> files;
  std::string tree;  // absolute, without a final '/'
};

class Maps {
 public:
  // `tree`: the directory that holds the trees, "0" for the first map.
  static Result<std::unique_ptr<Maps>> Open(const FileOptions& options, const std::string& tree);

  size_t count() const { return maps_.size(); }
  Map& operator[](size_t index) { return maps_[index]; }

 private:
  std::shared_ptr<file::FileCache> cache_;
  std::shared_ptr<file::Workers> workers_;
  std::vector<Map> maps_;
};

}  // namespace elsewhere::runtime
