#include "shim/image/pack_cache.h"

#include "shim/image/pack_catalog.h"

namespace elsewhere::image {
namespace {

Result<PackFile> OpenHere(store::ObjectStore& store, const std::string& key, uint64_t size) {
  auto local = store.OpenLocal(key);
  if (!local) return local.error();
  if (local->size != size) {
    return Error{EBADMSG, store.url() + ": " + key + " has " + std::to_string(local->size) +
                              " bytes, expected " + std::to_string(size)};
  }
  return PackFile{std::make_shared<store::UniqueFd>(std::move(local->fd)), local->offset, 0};
}

}  // namespace

PackCache::PackCache(store::AsyncStore& store, std::shared_ptr<store::ObjectStore> cache,
                     const store::SessionKey& key, Options options)
    : store_(store), cache_(std::move(cache)), key_(key), options_(options) {}

void PackCache::Get(const Pack& pack, Done done) {
  const std::string key = PackKey(pack);
  if (const auto held = held_.find(key); held != held_.end()) {
    ages_.splice(ages_.end(), ages_, held->second.age);
    PackFile file = held->second.file;
    file.fetched_bytes = 0;
    return done(file);
  }
  if (!options_.sealed) {
    auto file = OpenHere(store_.store(), key, pack.size);
    if (file) {
      file->fetched_bytes = pack.size;
      Keep(key, *file);
      return done(*file);
    }
    if (file.error().code != ENOTSUP) return done(file.error());
  }
  if (cache_ == nullptr) return done(Error{ENOTSUP, "this host has no cache for packs"});
  auto& waiters = fetching_[key];
  waiters.push_back(std::move(done));
  if (waiters.size() > 1) return;
  const uint64_t size = pack.size;
  store_.Run<PackFile>(
      [this, key, size](store::ObjectStore& store) -> Result<PackFile> {
        auto object = store.Get(key);
        if (!object) return object.error();
        std::string body = std::move(object->body);
        if (options_.sealed) {
          auto opened = key_.Open(body, key);
          if (!opened) return opened.error();
          body = std::move(*opened);
        }
        if (auto put = cache_->Put(key, body); !put) return put.error();
        auto file = OpenHere(*cache_, key, size);
        if (file) file->fetched_bytes = body.size();
        return file;
      },
      [this, key](Result<PackFile> file) { Finish(key, std::move(file)); });
}

void PackCache::Keep(const std::string& key, const PackFile& file) {
  if (held_.size() >= options_.max_open) {
    held_.erase(ages_.front());
    ages_.pop_front();
  }
  ages_.push_back(key);
  held_[key] = Held{file, std::prev(ages_.end())};
}

void PackCache::Finish(const std::string& key, Result<PackFile> file) {
  auto waiters = std::move(fetching_[key]);
  fetching_.erase(key);
  if (file) Keep(key, *file);
  for (Done& done : waiters) {
    done(file);
    if (file) file->fetched_bytes = 0;  // counted once
  }
}

}  // namespace elsewhere::image
