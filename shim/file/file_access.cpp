// FileSystem: permissions.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "shim/file/file_system.h"

namespace elsewhere::file {
namespace {

// Search permission of a directory on the way is looked at afresh so seldom that deep paths stay cheap.
constexpr int64_t kSearchRemembered_ns = 30'000'000'000;
constexpr size_t kSearched = 100'000;

}  // namespace

const Caller& FileSystem::Who() const {
  const Caller* acting = ActingAs::Current();
  return acting ? *acting : options_.caller;
}

bool FileSystem::Allowed(const Attributes& attributes, int wanted) const {
  const Caller& who = Who();
  if (who.is_root()) return !(wanted & X_OK) || attributes.is_directory() || (attributes.mode & 0111);
  unsigned bits = attributes.uid == who.uid      ? attributes.mode >> 6
                  : who.in_group(attributes.gid) ? attributes.mode >> 3
                                                 : attributes.mode;
  return (bits & unsigned(wanted)) == unsigned(wanted);
}

Status FileSystem::AllowedIn(const std::string& directory, int wanted) {
  auto attributes = Lookup(directory);
  if (!attributes) return attributes.error().code == ENOENT ? WhyMissing(directory) : attributes.error();
  if (!attributes->is_directory()) return Fail(ENOTDIR, directory);
  if (!Allowed(*attributes, wanted)) return Fail(EACCES, directory);
  return Ok{};
}

// Only markers are asked for: that the directories exist is for others to find out.
Status FileSystem::Searchable(const std::string& directory) {
  if (Who().is_root()) return Ok{};
  std::vector<std::string> way{""};
  for (size_t slash = 0; !directory.empty() && slash != directory.npos;) {
    slash = directory.find('/', slash + 1);
    way.push_back(directory.substr(0, slash));
  }
  std::vector<std::optional<Attributes>> seen(way.size());
  std::vector<size_t> unknown;
  {
    std::lock_guard lock(mutex_);
    int64_t now = NowNs();
    for (size_t i = 0; i < way.size(); ++i) {
      auto known = searched_.find(way[i]);
      if (known != searched_.end() && known->second.until_ns > now) seen[i] = known->second.attributes;
      if (!seen[i]) unknown.push_back(i);
    }
  }
  auto looked = context_->workers->ForEach(unknown.size(), [&](size_t i) -> Status {
    const std::string& key = way[unknown[i]];
    auto info = Store().Head(MarkerOf(key));
    if (!info && info.error().code != ENOENT) return info.error();
    Attributes attributes =
        info ? AttributesOf(MarkerOf(key), *info, options_.defaults) : ImplicitDirectory(options_.defaults);
    std::lock_guard lock(mutex_);
    if (searched_.size() >= kSearched) searched_.clear();
    searched_[key] = {attributes, NowNs() + kSearchRemembered_ns};
    seen[unknown[i]] = attributes;
    return Ok{};
  });
  if (!looked) return looked;
  for (size_t i = 0; i < way.size(); ++i)
    if (!Allowed(*seen[i], X_OK)) return Fail(EACCES, way[i]);
  return Ok{};
}

Status FileSystem::MayRemove(const std::string& key, const Attributes& attributes) {
  auto allowed = AllowedIn(ParentOf(key), W_OK | X_OK);
  if (!allowed) return allowed;
  const Caller& who = Who();
  if (who.is_root() || attributes.uid == who.uid) return Ok{};
  auto parent = Lookup(ParentOf(key));
  if (!parent) return parent.error();
  if ((parent->mode & S_ISVTX) && parent->uid != who.uid) return Fail(EPERM, key);
  return Ok{};
}

std::optional<Status> FileSystem::MayRemoveAnything(const std::string& directory) {
  auto allowed = AllowedIn(directory, W_OK | X_OK);
  if (!allowed || Who().is_root()) return allowed;
  auto parent = Lookup(directory);
  if (!parent || ((parent->mode & S_ISVTX) && parent->uid != Who().uid)) return std::nullopt;
  return Ok{};
}

Status FileSystem::Access(const std::string& path, int wanted, bool follow) {
  auto attributes = Stat(path, follow);
  if (!attributes) return attributes.error();
  if ((wanted & W_OK) && options_.read_only && !attributes->is_special()) return Fail(EROFS, path);
  if (!Allowed(*attributes, wanted)) return Fail(EACCES, path);
  return Ok{};
}

}  // namespace elsewhere::file
