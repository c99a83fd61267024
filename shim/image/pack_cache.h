// The packs that a worker holds: each as one file that the restorer maps.
//
// Where the store's objects are files of this machine they are used as they are, without a copy. Otherwise a
// pack is fetched once, opened with the session key if it is sealed, and kept as an object of the host's
// cache directory. Bounded: at most `max_open` descriptors are kept (the oldest unused one goes first;
// processes that were restored keep their mappings), and the cache's quota bounds the copies. Thread-safety:
// one loop; fetching happens on the AsyncStore's threads. Ownership: a PackFile shares the descriptor.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "shim/store/async_store.h"
#include "shim/store/seal.h"
#include "shim/store/unique_fd.h"
#include "shim/wire/image.h"
#include "shim/wire/result.h"

namespace elsewhere::image {

struct PackFile {
  std::shared_ptr<store::UniqueFd> descriptor;
  uint64_t offset = 0;         // of the pack's first byte in the file
  uint64_t fetched_bytes = 0;  // 0: it was here already
};

class PackCache {
 public:
  struct Options {
    bool sealed = false;
    size_t max_open = 4096;
  };
  // `cache`: of this host alone; may be null where the store's objects are files here and not sealed.
  PackCache(store::AsyncStore& store, std::shared_ptr<store::ObjectStore> cache, const store::SessionKey& key,
            Options options);

  using Done = std::function<void(Result<PackFile>)>;
  // Calls `done` at once or later. ENOENT: the store has no such pack.
  void Get(const Pack& pack, Done done);

 private:
  struct Held {
    PackFile file;
    std::list<std::string>::iterator age;
  };
  void Keep(const std::string& key, const PackFile& file);
  void Finish(const std::string& key, Result<PackFile> file);

  store::AsyncStore& store_;
  const std::shared_ptr<store::ObjectStore> cache_;
  const store::SessionKey& key_;
  const Options options_;
  std::unordered_map<std::string, Held> held_;
  std::list<std::string> ages_;  // oldest use first
  std::unordered_map<std::string, std::vector<Done>> fetching_;
};

}  // namespace elsewhere::image
