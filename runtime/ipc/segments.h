// The shared segments of this host (shim/memory/segment.h) and their way to other hosts.
//
// Who has a segment is a hash at the broker: segment -> the hosts that are members. Publishing is a script
// that reads it and appends the publication to each member's inbox; joining is a script that adds the host
// and puts SegmentJoin into home's inbox. Both are steps of Redis's one order, so a publication either
// reaches the new member itself or stands in front of its SegmentJoin and is in the content that home sends;
// one that is both is recognised by its number.
//
// A segment lives at home while a deputy's process may map it, on a worker while a process there does.
//
// When publications go out: before every message of this agent (Component::BeforeSend) and every semaphore
// post, so that nothing that could release another host's process overtakes what was written before it; and
// on a short timer, for programs that only look at memory. Before the first join nothing is compared.
//
// Thread-safety: one loop. Conflicts and broken publications end the session (Agent::Fatal).
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "runtime/agent.h"
#include "shim/broker/keys.h"
#include "shim/memory/segment.h"
#include "shim/wire/memory_message.h"

namespace elsewhere::runtime {

using memory::Segment;
using memory::SegmentId;

// An object as its first host knows it.
struct ObjectKey {
  uint64_t device = 0;
  uint64_t inode = 0;
  auto operator<=>(const ObjectKey&) const = default;
};

class Segments {
 public:
  // Objects with more data than this stay on their host.
  static constexpr uint64_t kMostBytes = 512 << 20;

  explicit Segments(Agent& agent);

  // Home: the segment of an object, made where there is none. `descriptor` stays the caller's; -1: only an
  // existing segment will do. Fails with a reason for running at home.
  Result<Segment*> Obtain(const ObjectKey& key, int descriptor, uint64_t mapped, const std::string& name);
  // Both: the segment of an object that other hosts have or may have; nullptr: none.
  Segment* Find(const ObjectKey& key);
  Segment* Find(SegmentId id);

  // Worker: `ready` when this host has the segment's content, at once or later.
  void Join(const wire::SharedState::Segment& segment, Component::Done ready);

  // A user is a deputy (kernel pid) at home, a process (incarnation) on a worker.
  void Use(uint64_t user, SegmentId segment);
  void UseLike(uint64_t user, uint64_t parent);
  void Release(uint64_t user);

  // Sends what changed to the other members.
  void Publish();
  void Close();

 private:
  struct Entry {
    std::unique_ptr<Segment> segment;
    ObjectKey key;
    uint32_t users = 0;
    std::set<HostId> members;  // home: hosts that joined
    uint64_t join_request = 0;
    std::vector<Component::Done> waiting;
    memory::Snapshot arriving;
  };

  bool IsShared(const Entry& entry) const { return !agent_.is_home() || !entry.members.empty(); }
  void PublishEntry(Entry& entry);
  void Send(SegmentId id, const memory::Publication& publication);
  void OnDiff(HostId from, wire::SegmentDiff&& diff);
  void OnJoin(HostId from, const wire::SegmentJoin& join);
  void OnLeave(HostId from, SegmentId id);
  void OnContent(wire::SegmentContent&& content);
  void FinishJoin(Entry& entry, const Status& status);
  void Drop(SegmentId id);
  void ScheduleExchange(std::chrono::nanoseconds delay);
  void Exchange();

  Agent& agent_;
  const std::string key_;  // of the hash of members
  const std::string inbox_prefix_;
  const std::string header_;  // of entries that scripts append
  std::map<SegmentId, Entry> entries_;
  std::map<ObjectKey, SegmentId> by_key_;
  std::map<uint64_t, std::set<SegmentId>> used_by_;
  uint64_t last_id_ = 0;
  uint64_t last_request_ = 0;
  EventLoop::TimerId timer_ = 0;
};

}  // namespace elsewhere::runtime
