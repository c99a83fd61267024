#include "runtime/object_counts.h"

#include <algorithm>
#include <utility>

namespace elsewhere::runtime {
namespace {

constexpr uint32_t kValid = 2;
constexpr uint32_t kLast = abi::kObjectCounts - 1;

const char* NameOf(abi::ObjectKind kind) {
  using Kind = abi::ObjectKind;
  switch (kind) {
    case Kind::kSemaphore:
      return "semaphore";
    case Kind::kMutex:
      return "mutex";
    case Kind::kCondition:
      return "condition variable";
    case Kind::kReadWriteLock:
      return "read-write lock";
    case Kind::kBarrier:
      return "barrier";
    case Kind::kSpinLock:
      return "spin lock";
    case Kind::kMessageQueue:
      return "message queue";
    case Kind::kSystemVQueue:
      return "System V message queue";
    case Kind::kSystemVSemaphores:
      return "System V semaphores";
    case Kind::kPipe:
      return "pipe";
    case Kind::kSocket:
      return "socket";
    case Kind::kTerminal:
      return "terminal";
    case Kind::kFile:
      return "output file";
    case Kind::kEvent:
      return "eventfd";
    case Kind::kTimer:
      return "timerfd";
    case Kind::kListener:
      return "listening socket";
    case Kind::kOther:
      break;
  }
  return "others";
}

class CountSender final : public Component {
 public:
  explicit CountSender(Agent& agent) : agent_(agent) {}

  void Drain(const Process& /*process*/, DrainReason reason, std::function<void()> done) override {
    if (reason.ended) {
      wire::ObjectCounts counts = agent_.object_counts()->Take();
      if (!counts.counts.empty()) agent_.Send(wire::kHome, counts);
    }
    done();
  }

 private:
  Agent& agent_;
};

}  // namespace

void ObjectCounts::Sums::operator+=(const Sums& more) {
  here += more.here;
  across += more.across;
  blocked += more.blocked;
}

void ObjectCounts::Add(abi::ObjectKind kind, const std::string& name, uint64_t operations,
                       std::chrono::nanoseconds blocked) {
  sums_[Key{.kind = static_cast<uint32_t>(kind), .name = name}] +=
      Sums{.across = operations, .blocked = static_cast<uint64_t>(std::max<int64_t>(blocked.count(), 0))};
}

ObjectCounts::Key ObjectCounts::KeyOf(const abi::ObjectCount& entry) {
  return {.kind = entry.kind,
          .host = entry.host,
          .device = entry.device,
          .inode = entry.inode,
          .offset = entry.offset,
          .name = ""};
}

void ObjectCounts::TakeTable() {
  for (uint32_t i = 0; i < abi::kObjectCounts; ++i) {
    const abi::ObjectCount& entry = table_.object_counts[i];
    if (i != kLast && entry.state.load(std::memory_order_acquire) != kValid) continue;
    const Sums now{entry.here.load(std::memory_order_relaxed), entry.across.load(std::memory_order_relaxed),
                   entry.blocked.load(std::memory_order_relaxed)};
    Sums& seen = seen_[i];
    if (now.here == seen.here && now.across == seen.across) continue;
    sums_[KeyOf(entry)] += Sums{now.here - seen.here, now.across - seen.across, now.blocked - seen.blocked};
    seen = now;
  }
}

wire::ObjectCounts ObjectCounts::Take() {
  TakeTable();
  wire::ObjectCounts counts;
  for (const auto& [key, sums] : std::exchange(sums_, {})) {
    counts.counts.push_back({key.kind, key.host, key.device, key.inode, key.offset, key.name, sums.here,
                             sums.across, sums.blocked});
  }
  return counts;
}

void ObjectCounts::Merge(const wire::ObjectCounts& counts) {
  for (const wire::ObjectCount& count : counts.counts) {
    sums_[Key{count.kind, count.host, count.device, count.inode, count.offset, count.name}] +=
        Sums{count.here, count.across, count.blocked};
  }
}

void ObjectCounts::CellNamed(uint32_t cell, const std::string& name) {
  TakeTable();
  Key key{.kind = static_cast<uint32_t>(abi::ObjectKind::kSemaphore),
          .host = abi::kNamedCell,
          .offset = cell,
          .name = ""};
  if (const auto found = sums_.find(key); found != sums_.end()) {
    const Sums before = found->second;
    const std::string old = NameOf(key);
    sums_.erase(found);
    sums_[Key{.kind = key.kind, .name = old}] += before;
  }
  cells_[cell] = name;
}

std::string ObjectCounts::NameOf(const Key& key) const {
  if (!key.name.empty()) return key.name;
  if (key.host == abi::kNamedCell) {
    const auto named = cells_.find(static_cast<uint32_t>(key.offset));
    return "/" + (named == cells_.end() ? std::to_string(key.offset) : named->second);
  }
  if (key.inode == 0) return "";
  return "at " + std::to_string(key.offset) + " of shared memory " + std::to_string(key.inode) +
         (key.host == wire::kHome ? "" : " of host " + std::to_string(key.host));
}

std::vector<ObjectUse> ObjectCounts::Report(size_t most, size_t* others) {
  TakeTable();
  std::map<std::pair<uint32_t, std::string>, Sums> by_name;
  for (const auto& [key, sums] : sums_) by_name[{key.kind, NameOf(key)}] += sums;
  std::vector<ObjectUse> all;
  for (const auto& [what, sums] : by_name) {
    all.push_back({runtime::NameOf(static_cast<abi::ObjectKind>(what.first)), what.second, sums.here,
                   sums.across, sums.blocked});
  }
  std::stable_sort(all.begin(), all.end(), [](const ObjectUse& one, const ObjectUse& other) {
    return one.blocked_nanoseconds > other.blocked_nanoseconds;
  });
  *others = all.size() > most ? all.size() - most : 0;
  all.resize(all.size() - *others);
  return all;
}

std::unique_ptr<Component> MakeCountSender(Agent& agent) {
  return std::make_unique<CountSender>(agent);
}

}  // namespace elsewhere::runtime
