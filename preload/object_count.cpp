#include "preload/object_count.h"

#include <errno.h>
#include <semaphore.h>
#include <time.h>

#include "preload/agent.h"
#include "preload/memory.h"
#include "preload/semaphore.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {

constinit std::atomic<bool> counts_objects{false};

namespace {

struct Key {
  uint32_t kind;
  SharedPlace place;
};

constexpr uint32_t kFree = 0, kFilling = 1, kValid = 2;
constexpr uint32_t kLast = abi::kObjectCounts - 1;
constexpr uint32_t kMostLooks = 64;

uint64_t Now() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

bool IsOf(const abi::ObjectCount& entry, const Key& key) {
  return entry.kind == key.kind && entry.host == key.place.host && entry.device == key.place.device &&
         entry.inode == key.place.inode && entry.offset == key.place.offset;
}

bool Claim(abi::ObjectCount& entry, const Key& key) {
  uint32_t expected = kFree;
  if (!entry.state.compare_exchange_strong(expected, kFilling)) return false;
  entry.kind = key.kind;
  entry.host = key.place.host;
  entry.device = key.place.device;
  entry.inode = key.place.inode;
  entry.offset = key.place.offset;
  entry.state.store(kValid, std::memory_order_release);
  return true;
}

// Two that look for a new object at once may make two entries of it: whoever reads them adds them up.
abi::ObjectCount* EntryOf(abi::Table* table, const Key& key) {
  uint64_t hash = key.kind + 31 * key.place.host;
  for (const uint64_t part : {key.place.device, key.place.inode, key.place.offset})
    hash = (hash ^ part) * 0x9e3779b97f4a7c15;
  for (uint32_t look = 0; look < kMostLooks; ++look) {
    abi::ObjectCount& entry = table->object_counts[((hash >> 40) + look) % kLast];
    const uint32_t state = entry.state.load(std::memory_order_acquire);
    if (state == kFree && Claim(entry, key)) return &entry;
    if (state == kValid && IsOf(entry, key)) return &entry;
  }
  return &table->object_counts[kLast];
}

bool FindPlace(abi::ObjectKind kind, const void* object, SharedPlace* place) {
  if (kind != abi::ObjectKind::kSemaphore || !named::FindCell(static_cast<const sem_t*>(object), place))
    return FindSharedPlace(object, place);
  return true;
}

}  // namespace

// The call counter of the thread tells whether an operation went to the agent; connecting is no call.
void Counted::Begin(abi::ObjectKind kind, const void* object) {
  const int before = errno;
  Key key{static_cast<uint32_t>(kind), {}};
  abi::Table* const table = AgentTable();
  if (table != nullptr && FindPlace(kind, object, &key.place)) {
    entry_ = EntryOf(table, key);
    calls_ = CallsOfThread();
    began_ = Now();
  }
  errno = before;
}

void Counted::End() {
  entry_->blocked.fetch_add(Now() - began_, std::memory_order_relaxed);
  auto& count = calls_ == CallsOfThread() ? entry_->here : entry_->across;
  count.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace elsewhere::preload
