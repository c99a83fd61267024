// What stands on this host for one stream of another: its local object and what is under way for it.
//
// Output: what processes write into the local object is taken as long as less than a window of it is
// unacknowledged, and sent on. With the window full nothing is taken, the local pipe fills, and the writer
// waits in the kernel as it would at the origin.
//
// Input: a process asks before it reads (kPull). The request goes to the origin, waits there, and the bytes
// that come back are put into the local object before the call is answered, so the real read finds them.
// Bytes whose asker has died serve the next one here or go back.
//
// Readiness: of a pipe, by LocalObject::ShowReadable while somebody watches. Sockets and terminals, whose
// bytes hardly ever have readers on several hosts, fetch what there is as soon as somebody watches.
//
// Everything runs on the agent's loop.
#pragma once

#include <sys/socket.h>

#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "runtime/agent.h"
#include "runtime/stream/changes.h"
#include "runtime/stream/grants.h"
#include "runtime/stream/local_object.h"
#include "runtime/stream/moved_pipe.h"
#include "runtime/stream/outbox.h"
#include "runtime/stream/passing.h"
#include "runtime/stream/small_writes.h"
#include "shim/wire/stream_message.h"

namespace elsewhere::runtime::stream {

using wire::StreamId;

// Source of request numbers, unique on this host.
class RequestNumbers {
 public:
  uint64_t Next() { return ++last_; }

 private:
  uint64_t last_ = 0;
};

class Mirror {
 public:
  // What a watching process wants to know; the result of abi::Operation::kWatch.
  enum class WatchMode : int64_t {
    kOff = 0,
    kOnce = 1,
    kUntilClosed = 2,
    kQuery = 3,
    kForget = 4,
    kHasLeft = 5
  };
  // kIfEmpty: only where nothing is here to be read; kMore: in any case (MSG_WAITALL).
  enum class PullMode : int64_t { kIfEmpty = 0, kAtOnce = 1, kMore = 2, kMoreAtOnce = 3 };

  // `closed` is called when no process here holds the stream any more; it must not destroy the mirror at
  // once.
  // `entry`: what the stream's origin said of it. `origin`: where messages to it go.
  Mirror(Agent& agent, Passing& passing, Outbox& outbox, Changes& changes, RequestNumbers& numbers,
         wire::JobDescriptor entry, HostId origin, std::function<void(Mirror&)> closed);
  ~Mirror();

  StreamId id() const { return id_; }
  const wire::JobDescriptor& entry() const { return entry_; }
  HostId origin() const { return origin_; }
  Kind kind() const { return kind_; }
  bool writable() const { return kind_ != Kind::kPipeRead && kind_ != Kind::kListener; }

  // Before this stream sends bytes, `first` is called: what was said before must be heard before.
  void SetSendFirst(std::function<void()> first) { send_first_ = std::move(first); }
  // Before an event of the loop's is acted upon, `first` is called: what happened before it is done before.
  // True: the event, too.
  void SetEventFirst(std::function<bool()> first) { event_first_ = std::move(first); }
  // What the loop's event would do.
  void CatchUp();
  // Sends what processes have written so far, as far as the window permits.
  void ForwardAll();
  // The same beyond the window: what a process has written that ends now.
  void ForwardWaiting();

  // A descriptor for the processes of one job.
  Result<Descriptor> OpenForJob(const ObjectTraits& traits, int status_flags);
  // Another number of the same job shares the stream.
  void NoteGrant(uint32_t grant) { grants_.Add(grant); }
  // The objects that OpenForJob made, to be found by identity.
  std::vector<ObjectId> Objects() const;

  void OnCredit(const wire::StreamCredit& credit);
  void OnBroken(int error);
  void OnPulled(wire::StreamPulled&& pulled);
  void OnReady(const wire::StreamReady& ready);

  void Pull(CallId call, Incarnation reader, const ObjectId& object, uint64_t bytes, PullMode mode,
            bool continues, bool stays);
  // What is here unread goes back to the origin.
  void GiveBack(const ObjectId& object);
  // `answer`: complete the call only when the origin has said whether it is readable now.
  void Watch(CallId call, const Call& watcher, const ObjectId& object, WatchMode mode, bool answer);
  void CallCancelled(CallId call);
  void CallDropped(CallId call);

  // Runs `action` once everything that processes wrote so far has been sent. It will be, whoever is killed.
  void WhenSent(std::function<void()> action);
  // The window is full.
  bool blocked() const { return blocked_; }
  bool unacknowledged() const { return acknowledged_ < sent_; }
  // A process ended: look whether any is left, where the kernel does not say so.
  void HolderGone(int32_t process);
  // What the kernel says of it now, which an event may be behind.
  void LookForHolders();
  // The kernel cannot say whether a process holds it; the table of processes must.
  bool holders_unseen() const;
  // No process holds it: known from the table of processes.
  void Abandon();

  // ---- A pipe of home's that moves here (moved_pipe.h)

  // A process changes flags of its description of a write end, between `begin` and its end.
  void KeepPlace(int32_t process, bool begin);
  // Is there nothing about this end that only its origin can settle? `grants`: the last one that home made.
  bool CanMove(uint32_t grants) const;
  int agent_end() const { return places_.front()->object->agent_end(); }
  // Write end: the pipe is its own from now on. Ends the mirror, without a word to the origin.
  Descriptor Leave();
  // Read end: what is asked from now on is asked of `pipe`, what nobody read goes there. What the origin has
  // sent meanwhile is answered as ever.
  void BeginMove(MovedPipe& pipe) { moving_ = &pipe; }
  const MovedPipe* moving() const { return moving_; }
  // The origin has sent all. Ends the mirror; returns its object, and the requests that the origin has left.
  std::unique_ptr<LocalObject> EndMove(std::vector<MovedPipe::Request>& requests);

 private:
  struct Place {
    std::unique_ptr<LocalObject> object;
    uint32_t interest = 0;
    bool added = false;
    bool output_ended = false;
    bool input_ended = false;      // a reader was told so and will find it so whenever it looks
    std::vector<uint8_t> backlog;  // pulled, not yet taken by the object
    // The piece [at, end) of the backlog is a datagram, or descriptors go with it.
    struct Piece {
      size_t at;
      size_t end;
      std::vector<Descriptor> descriptors;
    };
    std::deque<Piece> backlog_pieces;
    bool has_backlog() const { return !backlog.empty() || !backlog_pieces.empty(); }
    // Taken from the object and not yet sent: bytes that descriptors came with begin a message.
    std::vector<uint8_t> next;
    std::vector<Descriptor> next_passed;
    size_t taken = 0;  // writes, since an event or the end of a moment was acted upon
    SmallWrites small_writes;
    EventLoop::TimerId moment = 0;  // in which they gather
  };
  struct Request {
    Place* place = nullptr;
    CallId call;
    bool has_call = false;
    bool is_watch = false;
    bool cancelled = false;
    bool withdrawn = false;  // a cancel was sent
    bool continues = false;  // abi::kPullContinues
    bool stays = false;      // abi::kPullStays
    uint64_t got = 0;        // bytes for this host's processes
    uint64_t wanted = 0;
    bool waits = true;
    std::vector<uint8_t> unwanted;
  };

  // What Pull was asked is answered by this, so that waits are counted (runtime/object_counts.h).
  void Complete(CallId call, int64_t result, int error = 0, std::span<const uint8_t> payload = {});
  void Count(uint64_t operations, std::chrono::nanoseconds blocked);
  void SetBlocked(bool blocked);

  Place* Find(const ObjectId& object);
  // A copy, for loops whose body may make a place go.
  std::vector<Place*> Places() const;
  bool Has(const Place* place) const;
  void SetInterest(Place& place);
  void Unregister(Place& place);
  void OnEvent(Place* place, uint32_t events);
  void Gone(Place* place);
  void LookForHolders(Place* place);
  void ReturnUnread(Place& place);
  void Return(std::vector<uint8_t> bytes);

  void Forward(Place* place);
  void LetGather(Place* place);
  void OutputEnded(Place* place);
  struct Taken {
    std::vector<uint8_t> bytes;
    std::vector<uint32_t> records;
    std::vector<Descriptor> passed;  // with the first byte
  };
  bool TakeSome(Place* place, Taken& taken, uint64_t room);
  void SendData(Taken taken);
  void CheckSent();
  uint64_t Room() const;

  uint64_t Ask(Place& place, uint64_t bytes, bool wait, bool ahead, Incarnation reader);
  void Withdraw(uint64_t number, Request& request);
  void Give(Place& place, std::span<const uint8_t> bytes, std::vector<Descriptor> passed);
  void FlushBacklog(Place& place);
  bool IsUnwanted(const Request& request) const;
  void Answer(const Request& request, const wire::StreamPulled& pulled);
  void AnswerEvent(uint64_t number, wire::StreamPulled&& pulled, std::vector<Descriptor> passed);
  void AnswerAccept(CallId call, const wire::StreamPulled& pulled, Descriptor connection);
  void ServeOthers(Place* place, uint64_t got);
  void Show(Place& place);
  bool Hide(Place& place);
  bool watched() const { return !once_.empty() || !until_closed_.empty(); }
  bool datagrams() const {
    return kind_ == Kind::kSocket && !places_.empty() &&
           places_.front()->object->socket_type() != SOCK_STREAM;
  }
  bool fetches_ahead() const { return kind_ == Kind::kSocket || kind_ == Kind::kTerminal; }
  void AskReadiness();
  void FetchAhead(Place& place);
  void Disarm(int32_t process, bool until_closed);
  short Readiness(const Place& place) const;

  Agent& agent_;
  Passing& passing_;
  Outbox& outbox_;
  Changes& changes_;
  RequestNumbers& numbers_;
  const wire::JobDescriptor entry_;
  const StreamId id_;
  const HostId origin_;
  const Kind kind_;
  std::function<void(Mirror&)> closed_;
  std::function<void()> send_first_;
  std::function<bool()> event_first_;
  uint32_t generation_ = 0;  // the first grant
  Grants grants_;            // all
  std::vector<std::unique_ptr<Place>> places_;

  uint64_t sent_ = 0;  // positions
  uint64_t acknowledged_ = 0;
  uint64_t window_ = wire::kStreamWindow;
  bool blocked_ = false;  // the window is full
  std::chrono::steady_clock::time_point blocked_since_{};
  std::vector<std::pair<CallId, std::chrono::steady_clock::time_point>> counted_;  // calls that wait
  bool shutdown_sent_ = false;
  std::vector<std::pair<uint64_t, std::function<void()>>> waiting_;  // for `sent_` to reach the position

  std::map<int32_t, int> changing_;  // kernel pids, KeepPlace
  MovedPipe* moving_ = nullptr;

  std::map<uint64_t, Request> requests_;
  std::set<int32_t> once_;  // kernel pids that watch
  std::set<int32_t> until_closed_;
  Incarnation watcher_ = 0;          // the last one
  uint64_t watch_request_ = 0;       // at the origin
  std::vector<CallId> watch_calls_;  // that wait for the origin's answer
  uint32_t ready_events_ = 0;        // what the origin said last
};

}  // namespace elsewhere::runtime::stream
