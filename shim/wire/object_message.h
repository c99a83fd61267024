// What the processes of a worker did with the objects that they share (runtime/object_counts.h).
#pragma once

#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "shim/wire/message.h"

namespace elsewhere::wire {

struct ObjectCount {
  uint32_t kind = 0;  // abi::ObjectKind
  // As in abi::ObjectCount; all zero where `name` says which it is.
  uint32_t host = 0;
  uint64_t device = 0;
  uint64_t inode = 0;
  uint64_t offset = 0;
  std::string name;
  uint64_t here = 0;
  uint64_t across = 0;
  uint64_t blocked = 0;  // nanoseconds
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.kind, s.host, s.device, s.inode, s.offset, s.name, s.here, s.across, s.blocked);
  }
};

// To home, before a process's end is reported: what was counted since the last one.
struct ObjectCounts {
  static constexpr MessageType kType = MessageType::kObjectCounts;
  std::vector<ObjectCount> counts;
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.counts);
  }
};

}  // namespace elsewhere::wire
