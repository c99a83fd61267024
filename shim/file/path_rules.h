// PathRules: which paths are files on S3. One rule per --map; the longest mapped directory that a path lies
// in decides, so maps may be nested.
//
//   /data=s3://bucket/prefix        /data/x is the object prefix/x
//   /data/in=s3://other/set:ro      read only: every change fails with EROFS
//   /data/set=s3://set:plain        plain files: a listing tells all of their attributes that count
//   /scratch=dir:/path              any store that OpenStore knows
//
// Paths are compared as text after Normalize: the mapped directory itself need not exist, and a symbolic link
// on the local disk that leads into a map has to be resolved by the caller. Thread-safety: const methods from
// any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "shim/wire/result.h"

namespace elsewhere::file {

struct PathRule {
  std::string directory;  // absolute, normalised, without a final '/'
  std::string url;
  bool read_only = false;
  bool plain = false;
};

// "DIRECTORY=URL[:ro][:plain]"; EINVAL says what is wrong with it.
Result<PathRule> ParsePathRule(std::string_view text);

// Absolute path without "." and "", with ".." taken textually, from `path` seen from the absolute
// `directory`.
std::string Normalize(std::string_view directory, std::string_view path);

struct MappedPath {
  size_t rule = 0;     // index in PathRules::rules()
  std::string path{};  // below the mapped directory, without a leading '/'; empty: the directory itself
};

class PathRules {
 public:
  // EINVAL when two rules map the same directory.
  static Result<PathRules> Parse(const std::vector<std::string>& maps);

  const std::vector<PathRule>& rules() const { return rules_; }
  // `path` is normalised. Nothing: it is on the local disk.
  std::optional<MappedPath> Find(std::string_view path) const;
  // Names below the normalised `directory` that are mapped directories or lead to one; listings show them.
  std::vector<std::string> MappedNamesIn(std::string_view directory) const;

 private:
  std::vector<PathRule> rules_;  // longest directory first
};

}  // namespace elsewhere::file
