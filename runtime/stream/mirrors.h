// Every stream of other hosts that processes of this host hold, and which process holds which.
//
// A process's streams are those of its job; a nested child has its parent's. The list only grows out of date
// in one direction (a process may have closed some), which costs nothing but a look. Thread-safety: none;
// everything runs on the agent's loop.
#pragma once

#include <memory>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "runtime/agent.h"
#include "runtime/stream/mirror.h"
#include "runtime/stream/plain_files.h"

namespace elsewhere::runtime::stream {

// The local object that a process's call is about.
inline ObjectId ObjectOf(const Call& call) {
  return {static_cast<uint64_t>(call.arguments[0]), static_cast<uint64_t>(call.arguments[1])};
}

class Mirrors {
 public:
  Mirrors(Agent& agent, Passing& passing);

  // Makes the job's descriptors; all or none.
  Status Prepare(const wire::Job& job, std::vector<HeldDescriptor>& descriptors);
  void ProcessStarted(const Process& process, const Process* parent);
  // Home: it may hold what its parent was passed.
  void ProcessRegistered(const Process& process, const Process* parent);

  // A descriptor that came outside of a job.
  Result<Descriptor> OpenPassed(const wire::JobDescriptor& entry);
  // The stream that a descriptor, or a local object, stands for; 0: none.
  StreamId StreamOf(int descriptor);
  // What processes have printed, and events, before something else that they wrote.
  void ForwardNarrators();
  // Sends what processes have written or closed before something that one of them does now, in that order.
  // True: of the stream `asked`, too.
  bool CatchUp(StreamId asked = 0);
  StreamId StreamOf(const ObjectId& object) const;
  // What its origin said of a stream; nullptr: nobody here holds it.
  const wire::JobDescriptor* EntryOf(StreamId id);
  // The descriptor is what stood for the read end of a pipe that has moved here: the pipe's own, and what
  // comes before its bytes. Empty: it is not.
  Descriptor OpenMoved(int descriptor, std::shared_ptr<FirstBytes>* first);
  uint64_t NextRequest() { return numbers_.Next(); }
  // Runs `done` when what the process wrote has been sent, or will never be, or nobody should wait for it any
  // longer (StreamDrain).
  void Drain(const Process& process, Component::DrainReason reason, std::function<void()> done);
  using InCallback = std::function<void(bool in)>;
  void AwaitIn(const std::set<StreamId>& streams, wire::Patience patience, InCallback done);
  void ProcessGone(const Process& process);
  void CallCancelled(CallId call);
  void CallDropped(CallId call);
  void BeforeSend() {
    files_.TellOffsets();
    outbox_.BeforeSend();
  }
  void Clear();

  size_t size() const { return mirrors_.size(); }

 private:
  using StreamSet = std::shared_ptr<const std::vector<StreamId>>;
  struct Control {
    CallId call;
    StreamId stream = 0;
    bool dropped = false;
    std::optional<int64_t> advance;  // the plain file's offset is so far behind the result
    bool takes = false;              // the result is the offset, which is this host's from then on
  };

  Result<Descriptor> Open(const wire::JobDescriptor& entry, Descriptor mapped);
  Result<Descriptor> OpenBridged(const wire::JobDescriptor& entry);
  Result<Descriptor> OpenPlainFile(const wire::JobDescriptor& entry, Descriptor mapped);
  void NoteGrant(const wire::JobDescriptor& entry);
  Mirror& MirrorFor(const wire::JobDescriptor& entry);
  void Index(Mirror& mirror);
  void NoteNarrator(Mirror& mirror);
  void Forget(Mirror& mirror);
  Mirror* OfObject(const Call& call);
  Mirror* OfStream(StreamId id);
  HostId NextHop(StreamId id) const;
  void OnAdopt(CallId id, const Call& call);
  void OnPassable(CallId id, const Call& call);
  void OnListenerClosed(CallId id);
  StreamSet StreamsOf(const Process& process) const;
  bool IsHeld(StreamId id) const;
  bool IsOfProcess(StreamId id) const;
  StreamSet ForwardWritten(const Process& process, const std::vector<StreamId>& streams, uint64_t wrote);
  bool MayBeAhead(StreamId id);
  void WhenHomeHas(const StreamSet& streams, wire::Patience patience, InCallback done);
  void WhenIn(const StreamSet& streams, wire::Patience patience, InCallback done);
  void SayLast(Incarnation incarnation, const StreamSet& streams);
  std::vector<StreamId> Unacknowledged(const StreamSet& streams);
  void WhenSent(const StreamSet& streams, wire::Patience patience, InCallback done);
  void WhenSentOrStuck(Mirror& mirror, wire::Patience patience, InCallback done);
  using Once = std::shared_ptr<InCallback>;
  void AskWhetherStuck(StreamId id, wire::Patience patience, const Once& done);

  // mirror_moves.cpp
  bool IsOnItsWay(StreamId id) const;
  wire::MoveAnswer TakePipe(const wire::StreamMove& offer);
  void OnMoved(const wire::StreamMoved& message);
  void AbandonMove(StreamId id);
  void ForgetMoved(MovedPipe& moved);
  MovedPipe* MovedOf(const ObjectId& object) const;
  void AskMoved(MovedPipe& moved, CallId id, const Call& call);
  void WatchMoved(MovedPipe& moved, CallId id, const Call& call);
  void OnKeepPlace(CallId id, const Call& call);

  void OnControl(CallId id, const Call& call, wire::StreamOperation operation);
  void CancelControl(uint64_t request, StreamId stream);
  template <class M, class Handler>
  void Route(Handler handler);

  Agent& agent_;
  Passing& passing_;
  Outbox outbox_;
  Changes changes_;
  bool catching_up_ = false;
  RequestNumbers numbers_;
  std::unordered_map<StreamId, std::unique_ptr<Mirror>> mirrors_;
  std::unordered_map<ObjectId, Mirror*, ObjectIdHash> by_object_;
  std::unordered_map<StreamId, std::unique_ptr<MovedPipe>> moved_;  // by home's name of the read end
  std::unordered_map<ObjectId, MovedPipe*, ObjectIdHash> moved_by_object_;
  PlainFiles files_;
  std::unordered_set<Mirror*> narrators_;      // what other streams let go first
  std::unordered_set<StreamId> unsettled_;     // closed here before all their bytes were acknowledged
  std::unordered_set<StreamId> broken_early_;  // told before the job that names them
  std::unordered_map<Incarnation, StreamSet> streams_of_job_;      // until the process has started
  std::unordered_map<Incarnation, StreamSet> streams_of_process_;  // by HolderKey
  std::unordered_set<StreamId> in_transit_;  // passed, and no process has said yet that it has them
  std::unordered_map<uint64_t, Control> controls_;
};

}  // namespace elsewhere::runtime::stream
