#include "shim/image/pack_catalog.h"

#include <cstring>

namespace elsewhere::image {

namespace {

store::ChunkName SessionTag(const store::SessionKey& key) {
  return key.NameOf("packs of a session");
}

}  // namespace

std::string PackKey(const Pack& pack) {
  store::ChunkName session;
  store::ChunkName name;
  std::memcpy(session.data(), pack.name, session.size());
  std::memcpy(name.data(), pack.name + session.size(), name.size());
  return "packs/" + store::ToHex(session) + "/" + store::ToHex(name);
}

std::string PackPrefix(const store::SessionKey& key) {
  return "packs/" + store::ToHex(SessionTag(key)) + "/";
}

std::vector<uint8_t> AppendPacks(const std::vector<uint8_t>& manifest, const std::vector<Pack>& packs) {
  std::vector<uint8_t> result(manifest);
  const size_t at = (result.size() + 7) & ~size_t{7};
  result.resize(at + packs.size() * sizeof(Pack));
  if (!packs.empty()) std::memcpy(result.data() + at, packs.data(), packs.size() * sizeof(Pack));
  auto* header = reinterpret_cast<Header*>(result.data());
  header->sections[static_cast<uint32_t>(Section::kPacks)] = {at, static_cast<uint32_t>(packs.size()),
                                                              sizeof(Pack)};
  header->size = result.size();
  return result;
}

// One image on its way to a plan.
struct PackCatalog::Draft {
  Plan plan;
  std::vector<Pack> packs;                              // the manifest's
  std::unordered_map<PackNumber, uint32_t> pack_index;  // in `packs`
  std::string hashes;                                   // of the pack being filled
};

Result<PackCatalog::Plan> PackCatalog::Assign(const View& view) {
  for (const Chunk& chunk : view.chunks()) {
    if (chunk.source != kNone || arena_->Chunk(chunk.offset, chunk.length).empty()) {
      return Error{EPROTO, "the image names a chunk outside the arena"};
    }
    const auto known = places_.find(chunk.offset);
    if (known != places_.end() && known->second.length != chunk.length) {
      return Error{EPROTO, "the image names a chunk by another length than before"};
    }
  }
  Draft draft;
  std::vector<uint8_t> manifest(view.bytes(), view.bytes() + view.size());
  const SectionEntry& section = view.header().sections[static_cast<uint32_t>(Section::kChunks)];
  auto* chunks = reinterpret_cast<Chunk*>(manifest.data() + section.offset);
  for (uint32_t i = 0; i < section.count; ++i) {
    Chunk& chunk = chunks[i];
    draft.plan.captured_bytes += chunk.length;
    auto known = places_.find(chunk.offset);
    if (known == places_.end()) {
      const auto bytes = arena_->Chunk(chunk.offset, chunk.length);
      AddToPack(draft, chunk, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
      known = places_.find(chunk.offset);
    }
    const auto [index, first] =
        draft.pack_index.try_emplace(known->second.pack, static_cast<uint32_t>(draft.pack_index.size()));
    chunk.source = index->second;
    chunk.offset = known->second.offset;
  }
  Finish(draft);
  draft.packs.resize(draft.pack_index.size());
  for (const auto& [number, index] : draft.pack_index) {
    const PackState& state = packs_.at(number);
    draft.packs[index] = state.pack;
    if (!state.stored) draft.plan.waits.push_back(number);
  }
  draft.plan.manifest = AppendPacks(manifest, draft.packs);
  return std::move(draft.plan);
}

// Adds a new chunk to the pack being filled.
void PackCatalog::AddToPack(Draft& draft, const Chunk& chunk, std::string_view bytes) {
  auto& writes = draft.plan.writes;
  if (writes.empty() || writes.back().size + bytes.size() > kPackSize) {
    Finish(draft);
    writes.emplace_back().number = ++last_pack_;
  }
  PackWrite& write = writes.back();
  places_[chunk.offset] = Place{write.number, write.size, chunk.length};
  write.pieces.push_back(bytes);
  write.size += bytes.size();
  draft.hashes.append(reinterpret_cast<const char*>(chunk.hash), sizeof chunk.hash);
}

// Names the pack being filled.
void PackCatalog::Finish(Draft& draft) {
  if (draft.plan.writes.empty() || draft.hashes.empty()) return;
  PackWrite& write = draft.plan.writes.back();
  const uint64_t identity[2] = {write.number, reinterpret_cast<uintptr_t>(this)};
  draft.hashes.append(reinterpret_cast<const char*>(identity), sizeof identity);
  const store::ChunkName name = key_.NameOf(draft.hashes);
  draft.hashes.clear();
  PackState state;
  const store::ChunkName session = SessionTag(key_);
  std::memcpy(state.pack.name, session.data(), session.size());
  std::memcpy(state.pack.name + session.size(), name.data(), name.size());
  state.pack.size = write.size;
  write.key = PackKey(state.pack);
  draft.plan.shipped_bytes += write.size;
  packs_[write.number] = state;
}

void PackCatalog::Stored(PackNumber pack) {
  if (const auto found = packs_.find(pack); found != packs_.end()) found->second.stored = true;
}

void PackCatalog::Failed(PackNumber pack) {
  std::erase_if(places_, [pack](const auto& entry) { return entry.second.pack == pack; });
  packs_.erase(pack);
}

std::vector<std::string> PackCatalog::Keys() const {
  std::vector<std::string> keys;
  for (const auto& [number, state] : packs_) keys.push_back(PackKey(state.pack));
  return keys;
}

}  // namespace elsewhere::image
