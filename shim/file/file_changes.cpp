// FileSystem: changing names and attributes.
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <functional>

#include "shim/file/file_system.h"

namespace elsewhere::file {
namespace {

constexpr uint64_t kLargestCopy = 5ull << 30;
constexpr uint64_t kCopiedPart = 1ull << 30;
constexpr uint64_t kMovedByContent = 8 << 20;  // up to here RENAME_NOREPLACE is decided by the store

}  // namespace

Result<std::string> FileSystem::ResolveForChange(const std::string& path, int dot_code) {
  auto writable = Writable(path);
  if (!writable) return writable.error();
  std::string bare = path;
  while (bare.ends_with('/')) bare.pop_back();
  std::string last = NameOf(bare);
  if (last == "." || last == "..") return Fail(dot_code, path);
  auto resolved = Resolve(bare, false);
  if (!resolved) return resolved.error();
  if (!resolved->outside.empty()) return Fail(EREMOTE, path);
  if (resolved->path.empty()) return Fail(EBUSY, path);
  return resolved->path;
}

Status FileSystem::PutDirectory(const std::string& key, const Attributes& attributes, bool if_absent) {
  auto put = Store().Put(MarkerOf(key), "",
                         {.if_absent = if_absent,
                          .content_type = ContentTypeOf(attributes),
                          .metadata = MetadataOf(attributes)});
  if (!put) return put.error();
  std::lock_guard lock(mutex_);
  kept_directories_.insert(key);
  searched_.erase(key);
  return Ok{};
}

Status FileSystem::KeepDirectory(const std::string& key) {
  if (key.empty()) return Ok{};
  {
    std::lock_guard lock(mutex_);
    if (kept_directories_.contains(key)) return Ok{};
  }
  Attributes attributes = ImplicitDirectory(options_.defaults);
  attributes.mtime_ns = attributes.atime_ns = attributes.ctime_ns = NowNs();
  auto put = PutDirectory(key, attributes, true);
  if (!put && !SaysItExists(put.error())) return put;
  std::lock_guard lock(mutex_);
  kept_directories_.insert(key);
  return Ok{};
}

Result<std::string> FileSystem::FreeKey(const std::string& path, bool directory) {
  auto key = ResolveForChange(path);
  if (!key) return key.error().code == EBUSY ? Fail(EEXIST, path) : key.error();
  auto known = Lookup(*key);
  if (known) return Fail(EEXIST, path);
  if (known.error().code != ENOENT) return known.error();
  if (!directory && path.ends_with('/')) return Fail(ENOENT, path);
  auto allowed = AllowedIn(ParentOf(*key), W_OK | X_OK);
  if (!allowed) return allowed.error();
  if (auto settled = removals_.Settle(*key); !settled) return settled.error();
  return key;
}

Status FileSystem::MakeDirectory(const std::string& path, mode_t mode) {
  auto key = FreeKey(path, true);
  if (!key) return key.error();
  auto put = PutDirectory(*key, NewAttributes(*key, S_IFDIR | (mode & 01777)), true);
  if (!put) return SaysItExists(put.error()) ? Fail(EEXIST, path) : put.error();
  NoteName(*key, true);
  return Ok{};
}

Result<bool> FileSystem::IsEmpty(const std::string& key) {
  if (!OpenBelow(key + "/").empty()) return false;
  auto page = Store().List({.prefix = key + "/", .max_keys = 2});
  if (!page) return page.error();
  return std::all_of(page->objects.begin(), page->objects.end(),
                     [&](auto& entry) { return entry.key == key + "/"; });
}

Status FileSystem::SyncDirectory(const std::string& path) {
  int no_links = 0;  // nor ".." on the way: it is what a descriptor is known by, "." behind a name
  auto plain = WithoutDots(path, &no_links);
  if (!plain) return plain.error();
  std::string& key = plain->path;
  if (key.ends_with('/')) key.pop_back();
  auto settled = removals_.Settle(key);
  return settled ? settled : Error{EIO, settled.error().message};
}

Status FileSystem::RemoveDirectory(const std::string& path) {
  std::string bare = path;
  while (bare.ends_with('/')) bare.pop_back();
  auto key = ResolveForChange(path, NameOf(bare) == "." ? EINVAL : ENOTEMPTY);
  if (!key) return key.error();
  auto known = Lookup(*key);
  if (!known) return known.error().code == ENOENT ? WhyMissing(*key) : known.error();
  auto allowed = MayRemove(*key, *known);
  if (!allowed) return allowed;
  if (!known->is_directory()) return Fail(ENOTDIR, path);
  if (auto settled = removals_.Settle(*key); !settled) return settled;
  auto empty = IsEmpty(*key);
  if (!empty) return empty.error();
  if (!*empty) return Fail(ENOTEMPTY, path);
  auto kept = KeepDirectory(ParentOf(*key));
  if (!kept) return kept;
  auto gone = Store().Delete(*key + "/");
  if (!gone) return gone;
  NoteName(*key, std::nullopt);
  std::lock_guard lock(mutex_);
  listings_.erase(*key);
  return Ok{};
}

Status FileSystem::Unlink(const std::string& path) {
  auto key = ResolveForChange(path, EISDIR);
  if (!key) return key.error().code == EBUSY ? Fail(EISDIR, path) : key.error();
  auto allowed =
      IsListedFile(*key) && !path.ends_with('/') ? MayRemoveAnything(ParentOf(*key)) : std::nullopt;
  if (!allowed) {
    auto known = Lookup(*key);
    if (!known) return known.error().code == ENOENT ? WhyMissing(*key) : known.error();
    allowed = MayRemove(*key, *known);
    if (*allowed && known->is_directory()) return Fail(EISDIR, path);
    if (*allowed && path.ends_with('/')) return Fail(ENOTDIR, path);
  }
  if (!*allowed) return *allowed;
  auto kept = KeepDirectory(ParentOf(*key));
  if (!kept) return kept;
  Departure departure(others_, *key);
  if (!departure.status()) return departure.status();
  auto open = FindOpen(*key);
  auto gone = open ? open->Unlink() : Status(Ok{});
  const bool put_off = gone && put_off_removals_;
  if (put_off) removals_.Add(*key);
  if (gone && !put_off) gone = Store().Delete(*key);
  if (!gone && open) open->KeepsName();
  if (!gone) return gone;
  departure.Done();
  NoteName(*key, std::nullopt);
  // Meanwhile somebody may look who only sees what is stored.
  return put_off && !put_off_removals_ ? removals_.Settle(*key) : Status(Ok{});
}

Result<std::string> FileSystem::CopyObject(const std::string& from, const std::string& to, uint64_t size,
                                           const std::string& etag, const Attributes* as) {
  if (size <= kLargestCopy) {
    store::CopyOptions options{.if_match = etag};
    if (as) options.metadata = MetadataOf(*as);
    if (as) options.content_type = ContentTypeOf(*as);
    auto copied = Store().Copy(from, to, options);
    if (!copied) return copied.error();
    return copied->etag;
  }
  auto info = Store().Head(from);
  if (!info) return info.error();
  if (as) info->metadata = MetadataOf(*as);
  auto id = Store().BeginUpload(to, {.content_type = info->content_type, .metadata = info->metadata});
  if (!id) return id.error();
  std::vector<store::UploadPart> parts((size + kCopiedPart - 1) / kCopiedPart);
  Status sent = context_->workers->ForEach(parts.size(), [&](size_t i) -> Status {
    uint64_t offset = i * kCopiedPart;
    auto part = Store().CopyPart(to, *id, unsigned(i + 1), from,
                                 {offset, std::min(kCopiedPart, size - offset)}, etag);
    if (!part) return part.error();
    parts[i] = *part;
    return Ok{};
  });
  auto done = sent ? Store().CompleteUpload(to, *id, parts) : Result<store::ObjectInfo>(sent.error());
  if (!done) (void)Store().AbortUpload(to, *id);
  if (!done) return done.error();
  return done->etag;
}

Status FileSystem::Rename(const std::string& from_path, const std::string& to_path, unsigned flags) {
  if (flags & ~unsigned{RENAME_NOREPLACE}) return Fail(EINVAL, from_path);
  auto from = ResolveForChange(from_path, EBUSY);
  if (!from) return from.error();
  auto to = ResolveForChange(to_path, EBUSY);
  if (!to) return to.error();
  auto source = Lookup(*from);
  if (!source) return source.error().code == ENOENT ? WhyMissing(*from) : source.error();
  if (!source->is_directory() && (from_path.ends_with('/') || to_path.ends_with('/')))
    return Fail(ENOTDIR, from_path);
  auto target = Lookup(*to);
  if (!target && target.error().code != ENOENT) return target.error();
  if (target && (flags & RENAME_NOREPLACE)) return Fail(EEXIST, to_path);
  if (*from == *to) return Ok{};
  for (auto& key : {*from, *to})
    if (auto settled = removals_.Settle(key); !settled) return settled;
  auto allowed = MayRename(*from, *source, *to, target ? &*target : nullptr);
  if (!allowed) return allowed;
  if (source->is_directory() && to->starts_with(*from + "/")) return Fail(EINVAL, to_path);
  if (target && source->is_directory() && !target->is_directory()) return Fail(ENOTDIR, to_path);
  if (target && !source->is_directory() && target->is_directory()) return Fail(EISDIR, to_path);
  if (target && target->is_directory()) {
    auto empty = IsEmpty(*to);
    if (!empty) return empty.error();
    if (!*empty) return Fail(ENOTEMPTY, to_path);
  }
  auto kept = KeepDirectory(ParentOf(*from));
  if (!kept) return kept;
  Departure departure(others_, *from, *to);
  if (!departure.status()) return departure.status();
  auto moved = source->is_directory() ? RenameDirectory(*from, *to)
                                      : RenameFile(*from, *to, !(flags & RENAME_NOREPLACE));
  if (!moved) return moved;
  departure.Done();
  NoteName(*from, std::nullopt);
  NoteName(*to, source->is_directory());
  return Ok{};
}

Status FileSystem::MayRename(const std::string& from, const Attributes& source, const std::string& to,
                             const Attributes* target) {
  auto allowed = MayRemove(from, source);
  if (allowed && target) allowed = MayRemove(to, *target);
  if (allowed && !target) allowed = AllowedIn(ParentOf(to), W_OK | X_OK);
  // A directory's ".." changes with its parent.
  if (allowed && source.is_directory() && ParentOf(from) != ParentOf(to) && !Allowed(source, W_OK))
    return Fail(EACCES, from);
  return allowed;
}

// What `to` is now.
Result<Attributes> FileSystem::CopyFile(const std::string& from, const std::string& to, bool replace) {
  auto current = Store().Head(from);
  if (!current) return current.error();
  Attributes moved = AttributesOf(from, *current, options_.defaults);
  moved.MoveTo(to);
  const Attributes* as = options_.plain ? nullptr : &moved;
  if (replace || current->size > kMovedByContent) {
    auto copied = CopyObject(from, to, current->size, current->etag, as);
    if (!copied) return copied.error();
    moved.etag = std::move(*copied);
    return moved;
  }
  auto content = Store().Get(from, {.if_match = current->etag});
  if (!content) return content.error();
  auto put = Store().Put(to, content->body,
                         {.if_absent = true,
                          .content_type = content->info.content_type,
                          .metadata = as ? MetadataOf(*as) : content->info.metadata});
  if (!put) return SaysItExists(put.error()) ? Fail(EEXIST, to) : put.error();
  moved.etag = std::move(put->etag);
  return moved;
}

Status FileSystem::RenameFile(const std::string& from, const std::string& to, bool replace) {
  auto open = FindOpen(from);
  if (open) {
    auto sent = open->Flush();
    if (!sent) return sent;
  }
  auto replaced = replace ? FindOpen(to) : nullptr;
  auto saved = replaced ? replaced->Unlink() : Status(Ok{});
  auto moved = saved ? CopyFile(from, to, replace) : Result<Attributes>(saved.error());
  if (!moved && replaced) replaced->KeepsName();
  if (!moved) return moved.error();
  if (open) {
    open->Renamed(to, moved->etag, *moved);
    PutOpen(to, open);
    std::lock_guard lock(mutex_);
    open_.erase(from);
  }
  return Store().Delete(from);
}

Status FileSystem::RenameMarker(const std::string& from, const std::string& to, bool is_there) {
  if (!is_there) return KeepDirectory(to);
  auto marker = Store().Head(MarkerOf(from));
  if (!marker) return marker.error();
  Attributes moved = AttributesOf(MarkerOf(from), *marker, options_.defaults);
  moved.MoveTo(MarkerOf(to));
  return PutDirectory(to, moved, false);
}

Status FileSystem::RenameDirectory(const std::string& from, const std::string& to) {
  for (auto& [key, file] : OpenBelow(from + "/")) {
    auto sent = file->Flush();
    if (!sent) return sent;
  }
  std::vector<store::ListEntry> entries;
  store::ListRequest request{.prefix = from + "/"};
  do {
    auto page = Store().List(request);
    if (!page) return page.error();
    std::move(page->objects.begin(), page->objects.end(), std::back_inserter(entries));
    request.token = page->next_token;
  } while (!request.token.empty());
  auto renamed = RenameMarker(from, to, !entries.empty() && entries[0].key == MarkerOf(from));
  if (!renamed) return renamed;
  std::vector<std::string> etags(entries.size()), keys;
  auto copied = context_->workers->ForEach(entries.size(), [&](size_t i) -> Status {
    if (entries[i].key == MarkerOf(from)) return Ok{};
    auto etag =
        CopyObject(entries[i].key, to + entries[i].key.substr(from.size()), entries[i].size, entries[i].etag);
    if (!etag) return etag.error();
    etags[i] = *etag;
    return Ok{};
  });
  if (!copied) return copied;  // the old tree is still whole
  for (auto& [key, file] : OpenBelow(from + "/")) {
    std::string new_key = to + key.substr(from.size());
    Attributes now = file->attributes();
    now.ForgetInode();  // the copy has the number for the old key
    for (size_t i = 0; i < entries.size(); ++i)
      if (entries[i].key == key) file->Renamed(new_key, etags[i], now);
    PutOpen(new_key, file);
    std::lock_guard lock(mutex_);
    open_.erase(key);
  }
  for (auto& entry : entries) keys.push_back(entry.key);
  auto deleted = Store().DeleteMany(keys);
  std::lock_guard lock(mutex_);
  auto below = [&](const std::string& key) {
    return key == from || key.starts_with(from + "/") || key == to || key.starts_with(to + "/");
  };
  Changes().NoteAll();
  std::erase_if(remembered_, [&](auto& entry) { return below(entry.first); });
  std::erase_if(listings_, [&](auto& entry) { return below(entry.first); });
  std::erase_if(kept_directories_, [&](auto& key) { return below(key); });
  std::erase_if(changed_at_, [&](auto& entry) { return below(entry.first); });
  std::erase_if(searched_, [&](auto& entry) { return below(entry.first); });
  if (!deleted) return deleted.error();
  return Ok{};
}

}  // namespace elsewhere::file
