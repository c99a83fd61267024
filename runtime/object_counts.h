// What the processes of the session did with each object that they share: operations within one host, those
// that went through the agents, and the time spent in both. Kept only where the session reports it (--stats).
//
// Semaphores and pthread objects are counted by the processes themselves, in entries of their host's table
// (preload/object_count.h). Streams are counted where they are mirrored, message queues and System V objects
// where home's kernel is asked for them (Add). A worker sends what is new before it reports a process's end;
// home adds up. What processes of one host do with each other's pipes, queues and System V objects is the
// kernel's own business and is seen by nobody.
//
// Thread-safety: one loop.
#pragma once

#include <chrono>
#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "runtime/agent.h"
#include "shim/wire/object_message.h"

namespace elsewhere::runtime {

class ObjectCounts {
 public:
  explicit ObjectCounts(abi::Table& table) : table_(table), seen_(abi::kObjectCounts) {}

  // An operation that went to another host, on an object that is known by its name.
  void Add(abi::ObjectKind kind, const std::string& name, uint64_t operations,
           std::chrono::nanoseconds blocked);
  // Worker: what was counted since the last time.
  wire::ObjectCounts Take();

  // Home.
  void Merge(const wire::ObjectCounts& counts);
  // The cell is this semaphore's from now on. What was counted in it belongs to the one before.
  void CellNamed(uint32_t cell, const std::string& name);
  // Those that were waited for longest first, at most `most`; `*others`: how many more there are.
  std::vector<ObjectUse> Report(size_t most, size_t* others);

 private:
  struct Key {
    uint32_t kind = 0;
    uint32_t host = 0;
    uint64_t device = 0;
    uint64_t inode = 0;
    uint64_t offset = 0;
    std::string name;
    auto operator<=>(const Key&) const = default;
  };
  struct Sums {
    uint64_t here = 0;
    uint64_t across = 0;
    uint64_t blocked = 0;
    void operator+=(const Sums& more);
  };
  void TakeTable();
  static Key KeyOf(const abi::ObjectCount& entry);
  std::string NameOf(const Key& key) const;

  abi::Table& table_;
  std::vector<Sums> seen_;  // of the table's entries
  std::map<Key, Sums> sums_;
  std::map<uint32_t, std::string> cells_;
};

// Worker: sends the counts when a process ends. To be added behind everything that counts.
std::unique_ptr<Component> MakeCountSender(Agent& agent);

}  // namespace elsewhere::runtime
