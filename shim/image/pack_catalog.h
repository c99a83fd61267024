// Which chunk of the arena lies in which pack of the store; home's side of D5.
//
// The new chunks of one capture are put into the store together, as one *pack* (split at kPackSize): one
// request for an image instead of one for each chunk. A chunk is in exactly one pack for as long as its arena
// lives.
//
// Rules:
//  - Identity is the arena's: equal bytes have one place there (found by hash, confirmed by compare), so the
//  place names
//    the chunk and nothing is hashed again here.
//  - A pack's name is a keyed MAC of its number and its chunks' hashes: unguessable and never used twice,
//  though the
//    store sees neither content nor equality. Content of a pack is integral by the seal where the store is
//    not our own.
//  - An image may refer to packs that another one is still uploading. `waits` names those: the image is
//  complete when
//    they are stored; when one fails, its chunks are forgotten and those that waited must be captured again
//    or run at home.
// Thread-safety: none, one loop; the pieces of a pack stay valid while its arena is held.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "shim/image/arena_file.h"
#include "shim/store/seal.h"
#include "shim/wire/image_view.h"
#include "shim/wire/result.h"

namespace elsewhere::image {

inline constexpr uint64_t kPackSize = 16 << 20;

using PackNumber = uint64_t;

// In the store: "packs/SESSION/PACK". Pack::name holds both halves, 16 bytes each.
std::string PackKey(const Pack& pack);
// What all packs of a session begin with.
std::string PackPrefix(const store::SessionKey& key);

class PackCatalog {
 public:
  struct PackWrite {
    PackNumber number = 0;
    std::string key;
    std::vector<std::string_view> pieces;  // in the arena
    uint64_t size = 0;
  };
  struct Plan {
    std::vector<uint8_t> manifest;  // chunks named by pack
    std::vector<PackWrite> writes;  // to be put now
    std::vector<PackNumber> waits;  // all packs not stored yet that it refers to, its own included
    uint64_t captured_bytes = 0;    // of all chunks
    uint64_t shipped_bytes = 0;     // of those in `writes`
  };

  PackCatalog(std::shared_ptr<ArenaFile> arena, const store::SessionKey& key)
      : arena_(std::move(arena)), key_(key) {}

  const std::shared_ptr<ArenaFile>& arena() const { return arena_; }

  // EPROTO: the manifest names chunks that cannot be. Nothing is recorded then.
  Result<Plan> Assign(const View& view);

  void Stored(PackNumber pack);
  void Failed(PackNumber pack);
  // Keys of all packs made so far, to be deleted when nothing refers to this catalog any more.
  std::vector<std::string> Keys() const;

 private:
  struct Place {
    PackNumber pack = 0;
    uint64_t offset = 0;
    uint32_t length = 0;
  };
  struct PackState {
    Pack pack{};
    bool stored = false;
  };
  struct Draft;

  void AddToPack(Draft& draft, const Chunk& chunk, std::string_view bytes);
  void Finish(Draft& draft);

  const std::shared_ptr<ArenaFile> arena_;
  const store::SessionKey& key_;
  std::unordered_map<uint64_t, Place> places_;  // by offset in the arena
  std::unordered_map<PackNumber, PackState> packs_;
  PackNumber last_pack_ = 0;
};

// The manifest with `packs` as its packs section; chunk sources must be in place.
std::vector<uint8_t> AppendPacks(const std::vector<uint8_t>& manifest, const std::vector<Pack>& packs);

}  // namespace elsewhere::image
