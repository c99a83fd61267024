#include "shim/memory/diff.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <utility>

namespace elsewhere::memory {
namespace {

constexpr uint64_t kWord = 8;
constexpr uint64_t kLine = 64;     // of content; zeros between are cheaper sent than said
constexpr uint64_t kBlock = 1024;  // compared at once; small enough that one changed byte costs little

uint64_t LoadWord(uint8_t* at) {
  return std::atomic_ref<uint64_t>(*reinterpret_cast<uint64_t*>(at)).load(std::memory_order_acquire);
}

uint64_t LoadTail(const uint8_t* at, uint64_t count) {
  uint64_t word = 0;
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t byte = *const_cast<const volatile uint8_t*>(at + i);
    word |= byte << (8 * i);
  }
  return word;
}

bool HasZeroByte(uint64_t word) {
  constexpr uint64_t kOnes = 0x0101010101010101;
  return ((word - kOnes) & ~word & (kOnes << 7)) != 0;
}

// Notes the differing bytes of one word (`count` of them valid) and takes the live value into the shadow.
void CollectWord(const Twins& twins, uint64_t offset, uint64_t count, DiffWriter* out) {
  const uint64_t live = count == kWord ? LoadWord(twins.live + offset) : LoadTail(twins.live + offset, count);
  uint64_t shadow = 0;
  std::memcpy(&shadow, twins.shadow + offset, count);
  if (live == shadow) return;
  const uint64_t difference = live ^ shadow;
  const auto* bytes = reinterpret_cast<const uint8_t*>(&live);  // little-endian
  if (count == kWord && !HasZeroByte(difference)) {
    out->Add(offset, {bytes, kWord});
  } else {
    for (uint64_t i = 0; i < count; ++i) {
      if ((difference >> (8 * i) & 0xff) != 0) out->Add(offset + i, {bytes + i, 1});
    }
  }
  std::memcpy(twins.shadow + offset, &live, count);
}

// Notes the words from `offset` on that differ in every byte, until `end` or until `out` has `byte_limit`,
// and takes them into the shadow. The first that does not; `offset` is a multiple of a word.
uint64_t CollectWholeWords(const Twins& twins, uint64_t offset, uint64_t end, size_t byte_limit,
                           DiffWriter* out) {
  uint64_t words[kBlock / kWord];
  size_t count = 0;
  const size_t held = out->size();
  for (uint64_t at = offset; at + kWord <= end && held + count * kWord < byte_limit; at += kWord) {
    const uint64_t live = LoadWord(twins.live + at);
    uint64_t shadow = 0;
    std::memcpy(&shadow, twins.shadow + at, kWord);
    if (HasZeroByte(live ^ shadow)) break;
    words[count++] = live;
  }
  if (count == 0) return offset;
  std::memcpy(twins.shadow + offset, words, count * kWord);
  out->Add(offset, {reinterpret_cast<const uint8_t*>(words), count * kWord});
  return offset + count * kWord;
}

// Stores bytes [first, last) of `value` into the live word at `at`, leaving the others to whoever writes
// them.
void MergeWord(uint8_t* at, uint64_t value, uint64_t first, uint64_t last) {
  std::atomic_ref<uint64_t> word(*reinterpret_cast<uint64_t*>(at));
  if (last - first == kWord) {
    word.store(value, std::memory_order_release);
    return;
  }
  const uint64_t mask = (~uint64_t{0} >> (8 * (kWord - (last - first)))) << (8 * first);
  uint64_t seen = word.load(std::memory_order_relaxed);
  while (!word.compare_exchange_weak(seen, (seen & ~mask) | (value & mask), std::memory_order_release)) {
  }
}

}  // namespace

void DiffWriter::Add(uint64_t offset, std::span<const uint8_t> bytes) {
  if (!run_.empty() && run_offset_ + run_.size() != offset) EndRun();
  if (run_.empty()) run_offset_ = offset;
  run_.insert(run_.end(), bytes.begin(), bytes.end());
}

static void AppendVarint(std::vector<uint8_t>* out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out->push_back(static_cast<uint8_t>(value | 0x80));
  out->push_back(static_cast<uint8_t>(value));
}

void DiffWriter::EndRun() {
  AppendVarint(&bytes_, run_offset_ - position_);
  AppendVarint(&bytes_, run_.size());
  bytes_.insert(bytes_.end(), run_.begin(), run_.end());
  position_ = run_offset_ + run_.size();
  run_.clear();
}

std::vector<uint8_t> DiffWriter::Take() {
  if (!run_.empty()) EndRun();
  position_ = 0;
  return std::exchange(bytes_, {});
}

bool DiffReader::ReadVarint(uint64_t* value) {
  *value = 0;
  for (unsigned shift = 0; shift < 64 && !rest_.empty(); shift += 7) {
    const uint8_t byte = rest_.front();
    rest_ = rest_.subspan(1);
    if (shift == 63 && byte > 1) return false;
    *value |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) return true;
  }
  return false;
}

bool DiffReader::Next(Run* run) {
  if (!ok_ || rest_.empty()) return false;
  uint64_t gap = 0;
  uint64_t length = 0;
  ok_ = ReadVarint(&gap) && ReadVarint(&length) && length > 0 && length <= rest_.size() &&
        gap <= limit_ - position_ && length <= limit_ - position_ - gap;
  if (!ok_) return false;
  run->offset = position_ + gap;
  run->bytes = rest_.first(length);
  rest_ = rest_.subspan(length);
  position_ = run->offset + length;
  return true;
}

uint64_t CollectChanges(const Twins& twins, uint64_t from, size_t byte_limit, DiffWriter* out) {
  uint64_t offset = from / kWord * kWord;
  while (offset < twins.size) {
    const uint64_t end = std::min(twins.size, (offset / kBlock + 1) * kBlock);
    // A change that this comparison misses because it is being made is one that nothing ordered before us.
    if (std::memcmp(twins.live + offset, twins.shadow + offset, end - offset) == 0) {
      offset = end;
      continue;
    }
    while (offset < end) {
      uint64_t next = CollectWholeWords(twins, offset, end, byte_limit, out);
      if (next == offset) {  // also where `out` was full before: each call gets on
        next = std::min(offset + kWord, end);
        CollectWord(twins, offset, next - offset, out);
      }
      offset = next;
      if (out->size() >= byte_limit) return offset;
    }
  }
  return twins.size;
}

uint64_t CollectContent(const uint8_t* content, uint64_t from, uint64_t size, size_t byte_limit,
                        DiffWriter* out) {
  static constexpr uint8_t kZeros[kLine] = {};
  uint64_t offset = from;
  while (offset < size && out->size() < byte_limit) {
    const uint64_t count = std::min(size - offset, kLine - offset % kLine);
    if (std::memcmp(content + offset, kZeros, count) != 0) out->Add(offset, {content + offset, count});
    offset += count;
  }
  return offset;
}

uint64_t FirstUnpublished(const Twins& twins, const Run& run) {
  const uint64_t end = run.offset + run.bytes.size();
  if (std::memcmp(twins.live + run.offset, twins.shadow + run.offset, run.bytes.size()) == 0) return end;
  for (uint64_t at = run.offset; at < end; ++at) {
    if (*const_cast<const volatile uint8_t*>(twins.live + at) != twins.shadow[at]) return at;
  }
  return end;
}

void ApplyRun(const Twins& twins, const Run& run) {
  std::memcpy(twins.shadow + run.offset, run.bytes.data(), run.bytes.size());
  const uint64_t end = run.offset + run.bytes.size();
  for (uint64_t word = run.offset / kWord * kWord; word < end; word += kWord) {
    const uint64_t first = std::max(word, run.offset);
    const uint64_t last = std::min(word + kWord, end);
    if (word + kWord > twins.size) {  // the tail of an object whose size is no multiple of a word
      for (uint64_t at = first; at < last; ++at) {
        *const_cast<volatile uint8_t*>(twins.live + at) = run.bytes[at - run.offset];
      }
      return;
    }
    uint64_t value = 0;
    const uint8_t* const from = run.bytes.data() + (first - run.offset);
    if (last - first == kWord) {  // most: a size that the compiler knows
      std::memcpy(&value, from, kWord);
    } else {
      std::memcpy(reinterpret_cast<uint8_t*>(&value) + (first - word), from, last - first);
    }
    MergeWord(twins.live + word, value, first - word, last - word);
  }
}

}  // namespace elsewhere::memory
