// The shared segments of this host (shim/memory/segment.h) and their way to other hosts.
//
// Home knows who has a segment. A worker's publication goes to home, which applies it and passes it on to the
// other members; home's own goes to all. Joining is a message to home, answered by the content, so a
// publication either reached home before and is in the content, or is passed on to the new member behind it.
// Everything between two workers takes the way through home, each leg in order: whoever learns of a release
// on another host has what was published before it.
//
// The object may be a file that other hosts read and write at its origin, home (runtime/stream): then what
// such calls do is seen here as what home's processes store, and goes out before their results; the file's
// size is followed.
//
// A segment lives at home while a deputy's process may map it, on a worker while a process there does, and
// for a moment longer (Rests): a program that starts children in turns would otherwise have the whole content
// sent again in each.
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
  // How long a segment that nobody uses is kept, and how much of such there may be.
  static constexpr std::chrono::seconds kRest{1};
  static constexpr uint64_t kMostResting = 256 << 20;

  explicit Segments(Agent& agent);

  // Home: the segment of an object, made where there is none. `descriptor` stays the caller's; -1: only an
  // existing segment will do. Fails with a reason for running at home.
  // `kind`: of one that is made.
  Result<Segment*> Obtain(const ObjectKey& key, int descriptor, uint64_t mapped, const std::string& name,
                          memory::Size kind = memory::Size::kFixed);
  // The same for a System V segment of home's kernel.
  Result<Segment*> ObtainSystemV(int id);
  ObjectKey KeyOf(SegmentId id) const { return entries_.at(id).key; }
  // Both: the segment of an object that other hosts have or may have; nullptr: none.
  Segment* Find(const ObjectKey& key);
  Segment* Find(SegmentId id);
  // Worker: the segment whose local object that is; its key.
  bool FindLocal(const ObjectKey& local, ObjectKey* key) const;

  // Worker: `ready` when this host has the segment's content, at once or later.
  void Join(const wire::SharedState::Segment& segment, Component::Done ready);

  // A user is a deputy (kernel pid) at home, a process (incarnation) on a worker.
  void Use(uint64_t user, SegmentId segment);
  void UseLike(uint64_t user, uint64_t parent);
  void Release(uint64_t user);
  // Those of the object that have ended, also where that is not known here yet.
  void ReleaseEnded(const ObjectKey& key);

  // Home: what is marked for removal goes when its last process detaches it, not when that ends.
  void LetGoOfAbandoned();

  // Sends what changed to the other members.
  void Publish();
  void HostGone(HostId host);
  void Close();

 private:
  struct Entry {
    std::unique_ptr<Segment> segment;
    ObjectKey key;
    int system_v = -1;  // id, where this agent has attached it
    uint32_t users = 0;
    EventLoop::TimerId rests = 0;  // until then, with no user
    std::set<HostId> members;      // home: hosts that joined
    uint64_t join_request = 0;
    std::vector<Component::Done> waiting;
    memory::Snapshot arriving;
  };

  bool HasEnded(uint64_t user) const;
  bool Rests(Entry& entry, SegmentId id);
  uint64_t RestingBytes() const;
  bool IsShared(const Entry& entry) const {
    if (entry.segment == nullptr) return false;  // a job will use it, and has not joined it yet
    return !agent_.is_home() || !entry.members.empty();
  }
  void PublishEntry(Entry& entry);
  void TellSize(Entry& entry);
  void SendToMembers(const Entry& entry, const wire::SegmentDiff& diff);
  void OnDiff(HostId from, wire::SegmentDiff&& diff);
  void OnJoin(HostId from, const wire::SegmentJoin& join);
  void OnLeave(HostId from, SegmentId id);
  void OnContent(wire::SegmentContent&& content);
  void FinishJoin(Entry& entry, const Status& status);
  void Drop(SegmentId id);
  void ScheduleExchange(std::chrono::nanoseconds delay);
  void Exchange();

  Agent& agent_;
  std::map<SegmentId, Entry> entries_;
  std::map<ObjectKey, SegmentId> by_key_;
  std::map<uint64_t, std::set<SegmentId>> used_by_;
  uint64_t last_id_ = 0;
  uint64_t last_request_ = 0;
  EventLoop::TimerId timer_ = 0;
  std::chrono::steady_clock::time_point published_;  // all, the last time
  std::chrono::nanoseconds took_{};
};

}  // namespace elsewhere::runtime
