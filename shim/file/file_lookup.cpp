// FileSystem: finding things.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "shim/file/file_system.h"
#include "shim/file/path_rules.h"

namespace elsewhere::file {
namespace {

constexpr int kLinksFollowed = 40;
constexpr size_t kDirectoryTimes = 100'000;
constexpr size_t kUntoldTimes = 10'000;
constexpr size_t kLongestName = 255;

}  // namespace

std::string ParentOf(const std::string& key) {
  size_t slash = key.rfind('/');
  return slash == key.npos ? "" : key.substr(0, slash);
}

std::string MarkerOf(const std::string& key) {
  return key + "/";
}

std::string NameOf(const std::string& key) {
  return key.substr(key.rfind('/') + 1);
}

FileSystem::FileSystem(std::shared_ptr<FileContext> context, FileSystemOptions options)
    : context_(std::move(context)),
      options_(std::move(options)),
      removals_(context_->store, [this] { ForgetAll(); }) {}

FileSystem::~FileSystem() {
  std::unique_lock lock(mutex_);
  looked_.wait(lock, [this] { return looking_.empty(); });
}

Error FileSystem::Fail(int code, const std::string& path) const {
  return Error{code, options_.mount_point + "/" + path + ": " + strerror(code)};
}

// Every name may be a directory's, whose marker has one byte more.
size_t FileSystem::LongestPath() const {
  return std::max<size_t>(context_->store->longest_key(), 1) - 1;
}

uint64_t FileSystem::InodeOf(const std::string& path, const Attributes& attributes) const {
  if (attributes.inode != 0) return attributes.inode;
  const uint64_t hash = KeyHash(path, KeyHash("\n", KeyHash(context_->store->url())));
  return hash ? hash : 1;
}

void FileSystem::ForgetAll() {
  std::lock_guard lock(mutex_);
  Changes().NoteAll();
  listings_.clear();
}

void FileSystem::Forget(const std::string& key) {
  std::lock_guard lock(mutex_);
  Changes().Note(key);
  remembered_.erase(key);
  searched_.erase(key);
}

// Keeps the listing of its directory right after a change of ours; nothing: the name is gone.
void FileSystem::NoteName(const std::string& key, std::optional<bool> directory) {
  std::lock_guard lock(mutex_);
  Changes().Note(key);
  Changes().Note(ParentOf(key) + "/");
  remembered_.erase(key);
  searched_.erase(key);
  if (!directory) kept_directories_.erase(key);
  changed_at_.erase(key);
  NoteDirectoryTime(ParentOf(key), NowNs());
  if (untold_times_.size() >= kUntoldTimes) untold_times_.clear();
  untold_times_.insert(ParentOf(key));
  auto listing = listings_.find(ParentOf(key));
  if (listing == listings_.end()) return;
  if (directory) listing->second->names[NameOf(key)] = {.directory = *directory, .certain = *directory};
  if (!directory) listing->second->names.erase(NameOf(key));
}

void FileSystem::NoteDirectoryTime(const std::string& directory, int64_t changed_ns) {
  if (changed_at_.size() >= kDirectoryTimes) changed_at_.clear();
  int64_t& known = changed_at_[directory];
  known = std::max(known, changed_ns);
}

FileSystem::DirectoryTimes FileSystem::TakeDirectoryTimes() {
  std::lock_guard lock(mutex_);
  DirectoryTimes times;
  for (auto& directory : untold_times_)
    if (auto known = changed_at_.find(directory); known != changed_at_.end()) times.push_back(*known);
  untold_times_.clear();
  return times;
}

void FileSystem::NoteDirectoryTimes(const DirectoryTimes& times) {
  std::lock_guard lock(mutex_);
  for (auto& [directory, changed_ns] : times) NoteDirectoryTime(directory, changed_ns);
}

std::shared_ptr<ObjectFile> FileSystem::FindOpen(const std::string& key) {
  std::lock_guard lock(mutex_);
  auto found = open_.find(key);
  if (found == open_.end()) return nullptr;
  auto file = found->second.lock();
  if (!file || file->unlinked()) {
    open_.erase(found);
    return nullptr;
  }
  return file;
}

void FileSystem::PutOpen(const std::string& key, const std::shared_ptr<ObjectFile>& file) {
  std::lock_guard lock(mutex_);
  std::erase_if(open_, [](auto& entry) { return entry.second.expired(); });
  open_[key] = file;
}

std::shared_ptr<ObjectFile> FileSystem::ShareOpen(const std::string& key,
                                                  const std::shared_ptr<ObjectFile>& file,
                                                  const std::shared_ptr<ObjectFile>& before) {
  std::lock_guard lock(mutex_);
  std::erase_if(open_, [](auto& entry) { return entry.second.expired(); });
  auto& known = open_[key];
  auto other = known.lock();
  if (other && other != before && !other->unlinked()) return other;
  known = file;
  return file;
}

std::vector<std::pair<std::string, std::shared_ptr<ObjectFile>>> FileSystem::OpenBelow(
    const std::string& prefix) {
  std::vector<std::pair<std::string, std::shared_ptr<ObjectFile>>> files;
  std::lock_guard lock(mutex_);
  for (auto at = open_.lower_bound(prefix); at != open_.end() && at->first.starts_with(prefix); ++at)
    if (auto file = at->second.lock(); file && !file->unlinked()) files.emplace_back(at->first, file);
  return files;
}

Result<Attributes> FileSystem::Lookup(const std::string& key, bool fresh) {
  auto found = LookupName(key, fresh);
  if (!found || !found->is_directory()) return found;
  std::lock_guard lock(mutex_);
  auto changed = changed_at_.find(key);
  // Who has set the times since then has the last word.
  if (changed == changed_at_.end() || changed->second <= found->ctime_ns) return found;
  found->mtime_ns = std::max(found->mtime_ns, changed->second);
  found->ctime_ns = changed->second;
  return found;
}

Result<Attributes> FileSystem::LookupName(const std::string& key, bool fresh) {
  // What was changed here and not sent yet is newer than anything that the store knows; an open file without
  // changes keeps its version, the name may have gone on to another.
  if (auto open = FindOpen(key); open && open->ahead_of_store()) return open->attributes();
  while (!fresh) {
    std::unique_lock lock(mutex_);
    const int64_t now = NowNs();
    if (auto known = Known(key, now)) {
      if (!known->attributes) return Fail(ENOENT, key);
      return std::move(*known->attributes);
    }
    if (looking_.contains(key)) {
      looked_.wait(lock, [&] { return !looking_.contains(key); });
      continue;
    }
    if (key.empty()) break;
    const std::string parent = ParentOf(key);
    if (Listing* listing = FreshListing(parent, now)) {
      LookAhead(parent, NameOf(key), *listing);
      break;
    }
    if (!IsWorthListing(parent, now)) break;
    const size_t most_pages = asked_[parent].pages;
    lock.unlock();
    if (!List(parent, most_pages)) break;
  }
  const uint64_t changes = Changes().Now();
  auto found = LookupInStore(key);
  if (found) {
    Remember(key, *found, changes);
  } else if (found.error().code == ENOENT) {
    Remember(key, std::nullopt, changes);
  }
  return found;
}

Attributes FileSystem::AttributesOfObject(const std::string& key, store::ObjectInfo info) const {
  if (options_.plain) {
    info.modified_ns -= info.modified_ns % 1'000'000'000;  // HEAD tells seconds only
    for (auto name : {"mode", "uid", "gid", "mtime", "atime", "ctime", "inode"}) info.metadata.erase(name);
  }
  return AttributesOf(key, info, options_.defaults);
}

Result<Attributes> FileSystem::LookupInStore(const std::string& key) {
  if (key.empty() || removals_.IsGone(key)) return LookupDirectory(key);
  return LookupAfterHead(key, Store().Head(key));
}

Result<Attributes> FileSystem::LookupAfterHead(const std::string& key, Result<store::ObjectInfo> info) {
  if (info) return AttributesOfObject(key, std::move(*info));
  if (info.error().code != ENOENT) return info.error();
  return LookupDirectory(key);
}

Result<Attributes> FileSystem::LookupDirectory(const std::string& key) {
  if (!key.empty()) {
    auto page = Store().List({.prefix = key + "/", .max_keys = 1});
    if (!page) return page.error();
    if (page->objects.empty()) return Fail(ENOENT, key);
    if (page->objects[0].key != key + "/") return ImplicitDirectory(options_.defaults);
  }
  auto info = Store().Head(MarkerOf(key));
  if (!info && info.error().code == ENOENT)
    return key.empty() ? Result<Attributes>(ImplicitDirectory(options_.defaults)) : Fail(ENOENT, key);
  if (!info) return info.error();
  std::lock_guard lock(mutex_);
  kept_directories_.insert(key);
  return AttributesOf(key + "/", *info, options_.defaults);
}

// ENOTDIR when something on the way is a file; else ENOENT.
Error FileSystem::WhyMissing(const std::string& key) {
  for (std::string above = ParentOf(key); !above.empty(); above = ParentOf(above)) {
    auto attributes = Lookup(above);
    if (attributes && !attributes->is_directory() && !attributes->is_link()) return Fail(ENOTDIR, key);
    if (attributes) break;
  }
  return Fail(ENOENT, key);
}

// "" and "." mean nothing; what is before ".." is looked up, because it may be a link.
Result<FileSystem::Resolved> FileSystem::WithoutDots(const std::string& path, int* links_left) {
  std::string out;
  bool as_directory = false;
  for (size_t at = 0; at <= path.size();) {
    size_t end = std::min(path.find('/', at), path.size());
    std::string name = path.substr(at, end - at);
    at = end + 1;
    if (name.size() > kLongestName) return Fail(ENAMETOOLONG, path);
    as_directory = name.empty() || name == "." || name == "..";
    if (name.empty() || name == ".") continue;
    if (name != "..") {
      out += (out.empty() ? "" : "/") + name;
      continue;
    }
    auto head = ResolveLinks(out + "/", true, links_left);
    if (!head) return head.error();
    std::string rest = at <= path.size() ? path.substr(at) : "";
    if (!head->outside.empty()) return Resolved{"", head->outside + "/../" + rest};
    if (head->path.empty()) return Resolved{"", ParentOf(options_.mount_point) + "/" + rest};
    auto there = Lookup(head->path);
    if (!there) return there.error().code == ENOENT ? WhyMissing(head->path) : there.error();
    out = ParentOf(head->path);
  }
  if (out.size() > LongestPath()) return Fail(ENAMETOOLONG, path);
  if (auto usable = Store().CheckKey(out); !usable) return Fail(usable.error().code, path);
  return Resolved{as_directory && !out.empty() ? out + "/" : out};
}

// Looks at the whole path first: names on the way are only asked for when it is not there, so that a path
// without links costs one lookup.
Result<FileSystem::Resolved> FileSystem::Resolve(const std::string& asked, bool follow_last) {
  int links_left = kLinksFollowed;
  return ResolveLinks(asked, follow_last, &links_left);
}

Result<FileSystem::Resolved> FileSystem::ResolveLinks(const std::string& asked, bool follow_last,
                                                      int* links_left) {
  auto plain = WithoutDots(asked, links_left);
  if (!plain || !plain->outside.empty()) return plain;
  std::string path = plain->path;
  bool as_directory = path.ends_with('/');
  if (as_directory) path.pop_back();
  // It is there, and whether it is a link does not matter.
  if (!follow_last && !as_directory && IsListedFile(path)) {
    auto searchable = Searchable(ParentOf(path));
    if (!searchable) return searchable.error();
    return Resolved{path};
  }
  for (;;) {
    std::string link;
    auto last = Lookup(path);
    if (!last && last.error().code != ENOENT) return last.error();
    if (last && last->is_link() && (follow_last || as_directory)) link = path;
    if (!last)
      for (std::string above = ParentOf(path); !above.empty(); above = ParentOf(above)) {
        auto attributes = Lookup(above);
        if (attributes && attributes->is_link()) link = above;
        if (attributes) break;
        if (attributes.error().code != ENOENT) return attributes.error();
      }
    auto searchable = Searchable(ParentOf(link.empty() ? path : link));
    if (!searchable) return searchable.error();
    if (link.empty()) {
      if (last && as_directory && !last->is_directory()) return Fail(ENOTDIR, asked);
      return Resolved{path};
    }
    if ((*links_left)-- == 0) return Fail(ELOOP, asked);
    auto target = Store().Get(link);
    if (!target) return target.error();
    std::string rest = path.substr(link.size());
    if (target->body.starts_with('/')) {
      const std::string& mount = options_.mount_point;
      std::string absolute = target->body + rest;
      if (!absolute.starts_with(mount) || (absolute.size() > mount.size() && absolute[mount.size()] != '/'))
        return Resolved{"", absolute};
      path = absolute.substr(mount.size());
    } else {
      path = ParentOf(link) + "/" + target->body + rest;
    }
    auto next = WithoutDots(path, links_left);
    if (!next || !next->outside.empty()) return next;
    path = next->path;
    if (path.ends_with('/')) {
      as_directory = true;
      path.pop_back();
    }
  }
}

Result<Attributes> FileSystem::Stat(const std::string& path, bool follow) {
  auto resolved = Resolve(path, follow);
  if (!resolved) return resolved.error();
  if (!resolved->outside.empty()) return Fail(EREMOTE, path);
  auto found = Lookup(resolved->path);
  if (!found && found.error().code == ENOENT) return WhyMissing(resolved->path);
  return found;
}

Result<std::string> FileSystem::ReadLink(const std::string& path) {
  auto resolved = Resolve(path, false);
  if (!resolved) return resolved.error();
  if (!resolved->outside.empty()) return Fail(EREMOTE, path);
  auto attributes = Lookup(resolved->path);
  if (!attributes) return WhyMissing(resolved->path);
  if (!attributes->is_link()) return Fail(EINVAL, path);
  auto target = Store().Get(resolved->path);
  if (!target) return target.error();
  return std::move(target->body);
}

}  // namespace elsewhere::file
