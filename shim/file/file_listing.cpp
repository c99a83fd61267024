// FileSystem: listings, and what is known of names by them.
//
// A walk asks for one name of a directory after the other, and each costs the store a HEAD, for a listing
// tells neither mode nor owner nor whether it is a link. Four things make walks fast:
//
//  - Look-ahead. Who asks for a name of a listed directory asks for those behind it next, so they are looked
//  up
//    side by side, in windows that grow while the names come in order.
//  - Attributes outlive the time that they are trusted for, and the session (attribute_cache.h). A listing
//    shows size, ETag and time of every object; whatever replaces an object or its metadata gives it another
//    time. So attributes that were looked up after a listing hold as long as listings show the same as that
//    one. The time may be as coarse as a second: only objects that were older than two when they were listed
//    are recognised so (`settled`).
//  - Who asks for several names of a directory that is not listed gets it listed. So names that are not there
//    cost nothing, and a thousand new files are a thousand PUTs and a few listings.
//  - Who lists neighbours one after the other, in either direction, gets the next one listed ahead, and its
//    names looked up if he asked for those of the last. It is taken once, and not after its time.
#include <sys/stat.h>

#include <algorithm>

#include "shim/file/file_system.h"

namespace elsewhere::file {
namespace {

constexpr size_t kFirstWindow = 8, kLongestWindow = 256;  // names
constexpr size_t kTogether = 8;                           // lookups of one task
constexpr size_t kRemembered = 200'000;
constexpr size_t kListings = 256;
constexpr size_t kAskedDirectories = 1000;
constexpr size_t kWorthAPage = 4;  // single requests
constexpr size_t kMostPages = 8;   // of a listing that nobody asked for
constexpr size_t kWalks = 16;
constexpr size_t kWalkedDirectories = 10'000;  // of one parent
constexpr int64_t kSecond_ns = 1'000'000'000;
constexpr int64_t kSettled_ns = 2 * kSecond_ns;
constexpr int64_t kLongestWalk_ns = 60 * kSecond_ns;
constexpr uint64_t kLongestTarget = 4096;  // of a link, in bytes with its end

}  // namespace

// HEAD tells times in seconds, a listing perhaps more exactly.
bool FileSystem::Name::IsThat(const Attributes& attributes) const {
  return !directory && attributes.size == size && attributes.etag == etag &&
         attributes.stored_ns / kSecond_ns == stored_ns / kSecond_ns;
}

FileSystem::Listing* FileSystem::FreshListing(const std::string& directory, int64_t now) {
  auto listing = listings_.find(directory);
  return listing == listings_.end() || listing->second->until_ns <= now ? nullptr : listing->second.get();
}

std::optional<FileSystem::Remembered> FileSystem::Known(const std::string& key, int64_t now) {
  auto found = remembered_.find(key);
  Listing* listing = key.empty() ? nullptr : FreshListing(ParentOf(key), now);
  if (found != remembered_.end() && found->second.until_ns > now &&
      found->second.number >= Changes().OfAll()) {
    if (listing && ++listing->used * 2 >= listing->window && listing->window > 0)
      LookAhead(ParentOf(key), NameOf(key), *listing);
    return found->second;
  }
  if (!listing) return std::nullopt;
  auto name = listing->names.find(NameOf(key));
  if (name == listing->names.end()) return Remembered{};
  if (options_.plain && !name->second.directory && !name->second.etag.empty()) {
    store::ObjectInfo info{
        .size = name->second.size, .etag = name->second.etag, .modified_ns = name->second.stored_ns};
    return Remembered{AttributesOfObject(key, std::move(info)), listing->until_ns, false, listing->number};
  }
  bool same = found != remembered_.end() && found->second.settled && found->second.attributes &&
              name->second.settled && name->second.IsThat(*found->second.attributes) &&
              name->second.stored_ns == found->second.attributes->stored_ns;
  if (!same) {
    Remembered* cached = FromCache(key, name->second, *listing);
    return cached ? std::optional(*cached) : std::nullopt;
  }
  found->second.until_ns = listing->until_ns;
  found->second.number = listing->number;
  return found->second;
}

// Attributes depend on what an object without metadata is taken for.
std::string FileSystem::NameInCache(const std::string& key) const {
  const Defaults& otherwise = options_.defaults;
  std::string name = context_->store->identity();
  for (unsigned part : {otherwise.uid, otherwise.gid, otherwise.file_mode})
    name += "\n" + std::to_string(part);
  return name + "\n" + key;
}

FileSystem::Remembered* FileSystem::FromCache(const std::string& key, const Name& name,
                                              const Listing& listing) {
  if (!context_->attributes || options_.plain || name.directory || !name.settled) return nullptr;
  if (Changes().IsChangedSince(key, listing.number)) return nullptr;
  auto info = context_->attributes->Find(NameInCache(key), name.etag, name.size, name.stored_ns);
  if (!info) return nullptr;
  if (remembered_.size() >= kRemembered) remembered_.clear();
  return &(remembered_[key] = {AttributesOf(key, *info, options_.defaults), listing.until_ns, true,
                               listing.number});
}

std::optional<Attributes> FileSystem::KnownStat(const std::string& path, bool follow) {
  if (!Who().is_root() || !IsPlainPath(path)) return std::nullopt;
  std::unique_lock lock(mutex_, std::try_to_lock);
  // An open file may be ahead of the store.
  if (!lock || open_.contains(path)) return std::nullopt;
  auto known = Known(path, NowNs());
  if (!known || !known->attributes || known->attributes->is_directory()) return std::nullopt;
  if (follow && known->attributes->is_link()) return std::nullopt;
  return std::move(known->attributes);
}

void FileSystem::Remember(const std::string& key, const std::optional<Attributes>& attributes,
                          uint64_t changes) {
  // What is open to be changed here is asked itself, and the store after its next flush.
  const auto open = FindOpen(key);
  if (open && open->writable()) return;
  std::unique_lock lock(mutex_);
  if (Changes().IsChangedSince(key, changes)) return;
  if (remembered_.size() >= kRemembered) remembered_.clear();
  const int64_t now = NowNs();
  Remembered entry{attributes, now + int64_t(options_.remember_ms) * 1'000'000, false, changes};
  Listing* listing = attributes && !key.empty() ? FreshListing(ParentOf(key), now) : nullptr;
  if (listing && listing->number <= changes) {
    auto name = listing->names.find(NameOf(key));
    entry.settled = name != listing->names.end() && name->second.settled && name->second.IsThat(*attributes);
    if (entry.settled) entry.attributes->stored_ns = name->second.stored_ns;
    entry.until_ns = std::max(entry.until_ns, listing->until_ns);
  }
  std::optional<store::ObjectInfo> fact;
  if (entry.settled && context_->attributes && !options_.plain)
    fact = {entry.attributes->size, entry.attributes->etag, entry.attributes->stored_ns,
            ContentTypeOf(*entry.attributes), MetadataOf(*entry.attributes)};
  remembered_[key] = std::move(entry);
  lock.unlock();
  if (fact) context_->attributes->Add(NameInCache(key), *fact);
}

bool FileSystem::IsWorthListing(const std::string& directory, int64_t now) {
  if (asked_.size() >= kAskedDirectories) asked_.clear();
  Asked& asked = asked_[directory];
  if (now - asked.since_ns > kSecond_ns) asked = {0, asked.pages, now};
  if (asked.pages > kMostPages || ++asked.times <= kWorthAPage * asked.pages) return false;
  asked.times = 0;
  return true;
}

bool FileSystem::IsListedFile(const std::string& key) {
  std::lock_guard lock(mutex_);
  Listing* listing = key.empty() ? nullptr : FreshListing(ParentOf(key), NowNs());
  if (!listing) return false;
  auto name = listing->names.find(NameOf(key));
  return name != listing->names.end() && !name->second.directory;
}

void FileSystem::LookUpAside(std::vector<std::string> keys, bool directories) {
  looking_.insert(keys.begin(), keys.end());
  context_->workers->Start([this, keys = std::move(keys), directories, changes = Changes().Now()] {
    std::vector<Result<store::ObjectInfo>> heads;
    if (!directories) heads = Store().HeadMany(keys);
    for (size_t i = 0; i < keys.size(); ++i) {
      // An error shows again for the name that is really asked for.
      auto found = directories ? LookupDirectory(keys[i]) : LookupAfterHead(keys[i], std::move(heads[i]));
      if (found) Remember(keys[i], *found, changes);
    }
    std::lock_guard lock(mutex_);
    for (auto& key : keys) looking_.erase(key);
    looked_.notify_all();
  });
}

// Looks up more names, in the listing's order and round it: a walk comes to all of them, in whatever order.
void FileSystem::LookAhead(const std::string& directory, const std::string& asked, Listing& listing) {
  auto& names = listing.names;
  const std::string base = directory.empty() ? "" : directory + "/";
  const bool wanted = listing.used * 2 >= listing.window;
  listing.window = wanted ? std::clamp(listing.window * 2, kFirstWindow, kLongestWindow) : kFirstWindow;
  listing.used = 0;
  const int64_t now = NowNs();
  const uint64_t all_changed = Changes().OfAll();
  // A walk that goes on sees the directory as it was when it began.
  listing.until_ns = std::max(listing.until_ns, now + std::min(now - listing.begun_ns, kLongestWalk_ns));
  auto at = names.upper_bound(listing.looked_to.empty() ? asked : listing.looked_to);
  size_t begun = 0;
  std::vector<std::string> files;
  for (size_t seen = 0; seen < std::min(names.size(), 4 * listing.window) && begun < listing.window;
       ++seen, ++at) {
    if (at == names.end()) at = names.begin();
    listing.looked_to = at->first;
    const std::string name = base + at->first;
    if (at->first == asked || looking_.contains(name)) continue;
    auto known = remembered_.find(name);
    if (known != remembered_.end() && known->second.until_ns > now && known->second.number >= all_changed)
      continue;
    if (FromCache(name, at->second, listing)) continue;
    ++begun;
    if (at->second.directory) {
      LookUpAside({name}, true);
    } else {
      files.push_back(name);
      if (files.size() == kTogether) LookUpAside(std::exchange(files, {}), false);
    }
  }
  if (!files.empty()) LookUpAside(std::move(files), false);
  Walk* walk = directory.empty() ? nullptr : WalkThrough(ParentOf(directory));
  if (!walk) return;
  walk->looks_up = true;
  if (begun < listing.window) ListAhead(directory);
}

FileSystem::Walk* FileSystem::WalkThrough(const std::string& parent) {
  auto walk = std::find_if(walks_.begin(), walks_.end(), [&](auto& known) { return known.parent == parent; });
  return walk == walks_.end() ? nullptr : &*walk;
}

void FileSystem::NoteListed(const std::string& directory, const Listing& listing) {
  if (Walk* walk = directory.empty() ? nullptr : WalkThrough(ParentOf(directory))) {
    auto& names = walk->names;
    const size_t before = std::exchange(
        walk->at, size_t(std::lower_bound(names.begin(), names.end(), NameOf(directory)) - names.begin()));
    // One step on or back; what is before the first wraps around and is no name either.
    const bool neighbour = before != SIZE_MAX && (walk->at == before + 1 || walk->at + 1 == before);
    const size_t next = walk->at + (walk->at - before);
    walk->next = neighbour && next < names.size() ? names[next] : "";
    if (!walk->looks_up) ListAhead(directory);
  }
  std::erase_if(walks_, [&](auto& known) { return known.parent == directory; });
  Walk begun{directory};
  for (auto& [name, kind] : listing.names)
    if (kind.directory && begun.names.size() <= kWalkedDirectories) begun.names.push_back(name);
  if (begun.names.size() < 2 || begun.names.size() > kWalkedDirectories) return;
  walks_.push_front(std::move(begun));
  if (walks_.size() > kWalks) walks_.pop_back();
}

void FileSystem::ListAhead(const std::string& directory) {
  const std::string parent = ParentOf(directory);
  Walk* walk = WalkThrough(parent);
  if (!walk || walk->next.empty() || walk->at >= walk->names.size() ||
      walk->names[walk->at] != NameOf(directory))
    return;
  const std::string next = (parent.empty() ? "" : parent + "/") + std::exchange(walk->next, "");
  if (FreshListing(next, NowNs()) || !looking_.insert(MarkerOf(next)).second) return;
  context_->workers->Start([this, next, looks_up = walk->looks_up] {
    auto listing = List(next, kMostPages);
    std::lock_guard lock(mutex_);
    auto kept = listings_.find(next);
    if (listing && kept != listings_.end() && kept->second == *listing) {
      Listing& ahead = **listing;
      ahead.ahead = true;
      // As if the first half of a long window had been used.
      ahead.window = ahead.used = looks_up ? kLongestWindow / 2 : 0;
      if (looks_up) LookAhead(next, "", ahead);
    }
    looking_.erase(MarkerOf(next));
    looked_.notify_all();
  });
}

std::shared_ptr<FileSystem::Listing> FileSystem::TakeListedAhead(const std::string& directory) {
  std::unique_lock lock(mutex_);
  looked_.wait(lock, [&] { return !looking_.contains(MarkerOf(directory)); });
  Listing* listing = FreshListing(directory, NowNs());
  if (!listing || !std::exchange(listing->ahead, false)) return nullptr;
  return listings_[directory];
}

Result<std::shared_ptr<FileSystem::Listing>> FileSystem::List(const std::string& key, size_t most_pages) {
  const uint64_t changes = Changes().Now();
  auto listing = std::make_shared<Listing>();
  listing->begun_ns = NowNs();
  std::string prefix = key.empty() ? "" : key + "/";
  store::ListRequest request{.prefix = prefix, .folders = true};
  const std::set<std::string> gone = removals_.GoneBelow(prefix);
  int64_t at_ns = 0;
  do {
    auto page = Store().List(request);
    if (!page) return page.error();
    if (listing->pages++ == 0) at_ns = page->at_ns;
    for (auto& entry : page->objects) {
      if (entry.key == prefix || gone.contains(entry.key)) continue;
      Name name{.certain = options_.plain || entry.size >= kLongestTarget,
                .settled = entry.modified_ns + kSettled_ns < at_ns,
                .size = entry.size,
                .stored_ns = entry.modified_ns,
                .etag = std::move(entry.etag)};
      listing->names.emplace(entry.key.substr(prefix.size()), std::move(name));
    }
    // A name that is both a file and a directory is a file, as a lookup says too. "//" has no name.
    for (auto& folder : page->folders)
      if (folder.size() > prefix.size() + 1)
        listing->names.emplace(folder.substr(prefix.size(), folder.size() - prefix.size() - 1),
                               Name{.directory = true, .certain = true});
    request.token = page->next_token;
  } while (!request.token.empty() && listing->pages < most_pages);
  const bool complete = request.token.empty();
  for (auto& [open_key, file] : OpenBelow(prefix))
    if (ParentOf(open_key) == key) listing->names.emplace(NameOf(open_key), Name{});
  const int64_t now = NowNs();
  listing->until_ns = now + int64_t(options_.remember_ms) * 1'000'000;
  std::lock_guard lock(mutex_);
  asked_[key].pages = complete ? listing->pages : listing->pages * 2;
  if (!complete) return Error{EFBIG, key + ": it has many names"};
  if (Changes().IsChangedSince(key + "/", changes)) return listing;
  std::erase_if(listings_, [now](auto& entry) { return entry.second->until_ns <= now; });
  if (listings_.size() >= kListings) listings_.clear();
  listing->number = Changes().Next();
  return listings_[key] = listing;
}

Result<std::vector<DirectoryEntry>> FileSystem::ReadDirectory(const std::string& path) {
  auto resolved = Resolve(path, true);
  if (!resolved) return resolved.error();
  if (!resolved->outside.empty()) return Fail(EREMOTE, path);
  auto allowed = AllowedIn(resolved->path, R_OK);
  if (!allowed) return allowed.error();
  auto listing = TakeListedAhead(resolved->path);
  if (!listing) {
    auto listed = List(resolved->path);
    if (!listed) return listed.error();
    listing = std::move(*listed);
  }
  std::vector<DirectoryEntry> entries;
  std::string base = resolved->path.empty() ? "" : resolved->path + "/";
  std::lock_guard lock(mutex_);
  NoteListed(resolved->path, *listing);
  entries.reserve(listing->names.size());
  for (auto& [name, kind] : listing->names) {
    mode_t type = kind.directory ? S_IFDIR : kind.certain ? S_IFREG : 0;
    auto known = type ? remembered_.end() : remembered_.find(base + name);
    if (known != remembered_.end() && known->second.attributes && kind.IsThat(*known->second.attributes))
      type = known->second.attributes->mode & S_IFMT;
    entries.push_back({name, type});
  }
  return entries;
}

}  // namespace elsewhere::file
