// The chunk arena: one memfd per host, made by the agent, in which deputies leave the memory they captured.
//
//   ArenaHeader | index: IndexSlot[index_slots] | hints: HintSlot[hint_slots] | chunks, page-aligned
//
// Many deputies write at once, none waits for another, any may be killed between two instructions:
//   - Space is claimed by one compare-exchange on `used`. Space of a deputy that died is lost until the agent
//   replaces
//     the arena; nothing refers to it.
//   - The index maps a content hash to a chunk: open addressing, linear probing, at most kIndexProbes slots.
//   A slot
//     goes 0 -> kSlotClaimed -> location. A deputy that dies in between leaves kSlotClaimed, which readers
//     step over; the content is then stored a second time, which costs space only.
//   - A location is published (release) after its bytes were written. Bytes never change after that.
//   - The hash is a hint: whoever finds a location compares the bytes.
//   - The hints map (address, length) to the chunk that was last seen there: children of one parent have
//   nearly
//     the same bytes at the same addresses, so comparing with the hinted chunk saves hashing. A wrong, stale
//     or torn hint costs one failed comparison.
// The index being full or crowded only costs deduplication. The arena being full is an error of that capture.
//
// Plain C layouts, included by freestanding code; fields that are shared are touched by the functions below
// only.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace elsewhere::arena {

inline constexpr uint64_t kMagic = 0x314e524157534c45;  // "ELSWARN1"
inline constexpr uint32_t kVersion = 1;
inline constexpr uint64_t kPageSize = 4096;
inline constexpr uint32_t kIndexProbes = 16;
inline constexpr uint64_t kSlotClaimed = 1;

inline constexpr uint32_t kCpuAvx2 = 1;  // ArenaHeader::cpu: the agent found AVX2 usable

// NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding): lines that many write stand apart.
struct alignas(64) ArenaHeader {
  uint64_t magic;
  uint32_t version;
  uint32_t cpu;
  uint64_t capacity;  // bytes of the whole memfd
  uint64_t index_offset;
  uint64_t index_slots;  // a power of two
  uint64_t hint_offset;
  uint64_t hint_slots;  // a power of two
  uint64_t data_offset;
  alignas(64) uint64_t used;    // end of the claimed space; starts at data_offset
  alignas(64) uint64_t chunks;  // published, for statistics
};
static_assert(sizeof(ArenaHeader) == 192);

struct IndexSlot {
  uint64_t location;  // 0, kSlotClaimed, or MakeLocation()
  uint64_t hash[2];   // valid once `location` is one
  uint64_t reserved;
};
static_assert(sizeof(IndexSlot) == 32);

struct HintSlot {
  uint64_t key;
  uint64_t location;
};
static_assert(sizeof(HintSlot) == 16);

// A location packs where a chunk is and how long: both whole pages, never 0 or kSlotClaimed.
inline constexpr uint64_t MakeLocation(uint64_t offset, uint64_t length) {
  return (offset / kPageSize) << 16 | length / kPageSize;
}
inline constexpr uint64_t LocationOffset(uint64_t location) {
  return (location >> 16) * kPageSize;
}
inline constexpr uint64_t LocationLength(uint64_t location) {
  return (location & 0xffff) * kPageSize;
}

// An arena whose header, index and hints are mapped, writable.
struct Arena {
  ArenaHeader* header;
  const uint8_t* data;  // address of offset 0 where the chunks are mapped too, else nullptr
  uint64_t capacity;
};

inline bool LocationValid(const Arena& arena, uint64_t location) {
  const uint64_t offset = LocationOffset(location);
  const uint64_t length = LocationLength(location);
  return length != 0 && offset >= arena.header->data_offset && offset <= arena.capacity &&
         length <= arena.capacity - offset;
}

// Lays out the header of an arena of `capacity` bytes over zeroed memory; returns the first byte of the
// chunks, or 0 when the capacity cannot hold the tables.
inline uint64_t Format(ArenaHeader* header, uint64_t capacity, uint32_t cpu) {
  uint64_t slots = 4096;
  while (slots < capacity / (16 << 10) && slots < (1U << 22)) slots *= 2;
  header->version = kVersion;
  header->cpu = cpu;
  header->capacity = capacity;
  header->index_offset = kPageSize;
  header->index_slots = slots;
  header->hint_offset = header->index_offset + slots * sizeof(IndexSlot);
  header->hint_slots = slots;
  header->data_offset = (header->hint_offset + slots * sizeof(HintSlot) + 0xffff) & ~uint64_t{0xffff};
  header->used = header->data_offset;
  header->chunks = 0;
  if (header->data_offset >= capacity) return 0;
  __atomic_store_n(&header->magic, kMagic, __ATOMIC_RELEASE);
  return header->data_offset;
}

// True if the header describes an arena of exactly `size` bytes whose tables lie inside it.
inline bool HeaderValid(const ArenaHeader& header, uint64_t size) {
  const auto table_fits = [&header](uint64_t offset, uint64_t slots, uint64_t slot_size) {
    return slots != 0 && (slots & (slots - 1)) == 0 && slots <= (uint64_t{1} << 32) && offset % 64 == 0 &&
           offset >= sizeof(ArenaHeader) && offset <= header.data_offset &&
           slots * slot_size <= header.data_offset - offset;
  };
  return __atomic_load_n(&header.magic, __ATOMIC_ACQUIRE) == kMagic && header.version == kVersion &&
         header.capacity == size && header.data_offset % kPageSize == 0 && header.data_offset < size &&
         table_fits(header.index_offset, header.index_slots, sizeof(IndexSlot)) &&
         table_fits(header.hint_offset, header.hint_slots, sizeof(HintSlot));
}

// Claims `length` bytes (a multiple of the page size); 0: the arena is full.
inline uint64_t Claim(const Arena& arena, uint64_t length) {
  uint64_t used = __atomic_load_n(&arena.header->used, __ATOMIC_RELAXED);
  do {
    if (used > arena.capacity || length > arena.capacity - used) return 0;
  } while (!__atomic_compare_exchange_n(&arena.header->used, &used, used + length, true, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED));
  return used;
}

inline IndexSlot* Index(const Arena& arena) {
  return reinterpret_cast<IndexSlot*>(reinterpret_cast<uint8_t*>(arena.header) + arena.header->index_offset);
}

inline HintSlot* Hint(const Arena& arena, uint64_t key) {
  auto* hints =
      reinterpret_cast<HintSlot*>(reinterpret_cast<uint8_t*>(arena.header) + arena.header->hint_offset);
  return &hints[(key * 0x9e3779b97f4a7c15 >> 20) & (arena.header->hint_slots - 1)];
}

// Calls `same(offset)` for each chunk of that hash and length until it returns true; 0: there is none.
template <class Same>
uint64_t Find(const Arena& arena, const uint64_t hash[2], uint64_t length, Same same) {
  const uint64_t mask = arena.header->index_slots - 1;
  for (uint32_t probe = 0; probe < kIndexProbes; ++probe) {
    const IndexSlot& slot = Index(arena)[(hash[0] + probe) & mask];
    const uint64_t location = __atomic_load_n(&slot.location, __ATOMIC_ACQUIRE);
    if (location == 0) return 0;
    if (location == kSlotClaimed || slot.hash[0] != hash[0] || slot.hash[1] != hash[1]) continue;
    if (LocationLength(location) != length || !LocationValid(arena, location)) continue;
    if (same(LocationOffset(location))) return location;
  }
  return 0;
}

// Makes a chunk whose bytes are written findable. Finding no free slot is no error.
inline void Publish(const Arena& arena, const uint64_t hash[2], uint64_t location) {
  const uint64_t mask = arena.header->index_slots - 1;
  for (uint32_t probe = 0; probe < kIndexProbes; ++probe) {
    IndexSlot* slot = &Index(arena)[(hash[0] + probe) & mask];
    uint64_t free_slot = 0;
    if (!__atomic_compare_exchange_n(&slot->location, &free_slot, kSlotClaimed, false, __ATOMIC_ACQUIRE,
                                     __ATOMIC_RELAXED)) {
      continue;
    }
    slot->hash[0] = hash[0];
    slot->hash[1] = hash[1];
    __atomic_store_n(&slot->location, location, __ATOMIC_RELEASE);
    __atomic_fetch_add(&arena.header->chunks, 1, __ATOMIC_RELAXED);
    return;
  }
}

inline constexpr uint64_t HintKey(uint64_t address, uint64_t length) {
  return (address / kPageSize) << 16 | length / kPageSize;
}

// The chunk last seen at that address, of that length; 0: unknown. The bytes must be compared.
inline uint64_t Recall(const Arena& arena, uint64_t address, uint64_t length) {
  const uint64_t key = HintKey(address, length);
  const HintSlot* slot = Hint(arena, key);
  if (__atomic_load_n(&slot->key, __ATOMIC_RELAXED) != key) return 0;
  const uint64_t location = __atomic_load_n(&slot->location, __ATOMIC_ACQUIRE);
  return LocationLength(location) == length && LocationValid(arena, location) ? location : 0;
}

inline void Remember(const Arena& arena, uint64_t address, uint64_t length, uint64_t location) {
  const uint64_t key = HintKey(address, length);
  HintSlot* slot = Hint(arena, key);
  __atomic_store_n(&slot->location, location, __ATOMIC_RELEASE);
  __atomic_store_n(&slot->key, key, __ATOMIC_RELAXED);
}

}  // namespace elsewhere::arena
