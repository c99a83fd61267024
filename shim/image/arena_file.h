// The agent's side of the chunk arena (shim/wire/arena.h): makes it and keeps it mapped.
//
// Bounded by replacement: nothing is ever removed from an arena. When one is used up beyond `Crowded`, its
// agent makes another for the deputies to come; the old one lives as long as somebody refers to it.
// Thread-safety: the object is immutable; the memory is shared with deputies.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "shim/store/unique_fd.h"
#include "shim/wire/arena.h"
#include "shim/wire/result.h"

namespace elsewhere::image {

class ArenaFile {
 public:
  // `capacity`: bytes, tables included; rounded down to pages. Memory is taken as it is used.
  static Result<std::shared_ptr<ArenaFile>> Create(uint64_t capacity);
  // A quarter of the machine's memory, at most 8 GiB.
  static uint64_t DefaultCapacity();
  ~ArenaFile();

  int memfd() const { return memfd_.get(); }
  const arena::Arena& arena() const { return arena_; }
  bool Crowded() const;  // three quarters are used

  // The bytes of a chunk as a deputy named it; empty if it lies outside the chunks.
  std::span<const uint8_t> Chunk(uint64_t offset, uint64_t length) const;

 private:
  ArenaFile() = default;
  store::UniqueFd memfd_;
  arena::Arena arena_{};
};

}  // namespace elsewhere::image
