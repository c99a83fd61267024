// The agent's core as its components see it.
//
// An agent is a loop, a table of processes, a mailbox to other hosts, and components: jobs at home (home.h),
// jobs on a worker (worker.h), streams, semaphores and memory. The core knows components only by the
// interface below; components know each other not at all. Everything runs on the loop's thread and nothing
// blocks.
//
// A component registers for what it serves in its constructor:
//     agent.OnMessage<wire::StreamData>([this](wire::HostId from, wire::StreamData&& data) { ... });
//     agent.OnCall(abi::Operation::kPull, [this](CallId id, const Call& call) { ... agent.Complete(id, n);
//     });
// A call may be completed at once or later. It is dropped when its process dies (OnCallDropped is told), and
// completing it then does nothing. A cancelled call (a signal came) must still be completed, soon: with EINTR
// if nothing happened.
#pragma once

#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "runtime/event_loop.h"
#include "runtime/session.h"
#include "shim/store/unique_fd.h"
#include "shim/wire/abi.h"
#include "shim/wire/message.h"
#include "shim/wire/result.h"

namespace elsewhere::store {
class ObjectStore;
class SessionKey;
}  // namespace elsewhere::store
namespace elsewhere::broker {
class RedisConnection;
class SessionKeys;
}  // namespace elsewhere::broker
namespace elsewhere::wire {
enum class Patience : uint32_t;  // stream_message.h
}  // namespace elsewhere::wire

namespace elsewhere::runtime {

class ObjectCounts;

using wire::HostId;
using wire::Incarnation;

// A process of the session as this agent knows it. At home: every process that registered, and every deputy.
// On a worker: every process that runs there. Owned by the core; pointers are good until ProcessGone.
struct Process {
  int32_t kernel_pid = 0;       // in this host's pid namespace
  int32_t session_pid = 0;      // home's; 0: not known yet (a nested child whose deputy is being made)
  Incarnation incarnation = 0;  // 0: runs at home, was never moved
  HostId runs_on = wire::kHome;
  int pidfd = -1;
};

// A call that a process made through the table. Copied out of the slot: the caller cannot change it any more.
struct Call {
  abi::Operation operation{};
  int32_t kernel_pid = 0;
  int32_t kernel_tid = 0;
  Incarnation incarnation = 0;  // of the calling process; 0: a process at home
  std::array<int64_t, 8> arguments{};
  std::vector<uint8_t> payload;
  uint64_t wrote = 0;  // abi::Slot::wrote
};
struct CallId {
  uint32_t slot = 0;
  uint32_t generation = 0;  // tells a slot's users apart
  bool operator==(const CallId&) const = default;
};

// A descriptor that a deputy handed over at its capture, or that a component made for a process to be
// restored. `number` is the process's; `descriptor` is ours to close.
struct HeldDescriptor {
  int32_t number = -1;
  int descriptor = -1;
  int32_t flags = 0;  // FD_CLOEXEC
};

// HeldDescriptor::number for an object that shared mappings of the image map (image::Object), by its index.
inline constexpr int32_t MappedObject(uint32_t index) {
  return -1000 - static_cast<int32_t>(index);
}

// What a component may do around the life of a process. Defaults: nothing. `done` functions are called
// exactly once, at once or later, on the loop's thread.
class Component {
 public:
  using Done = std::function<void(Status)>;
  virtual ~Component() = default;

  // Home: `process` was captured. `manifest` is its image (shim/wire/image.h); `descriptors` are those the
  // deputy sent, in the manifest's order; whoever keeps one takes it (sets .descriptor to -1), the core
  // closes the others. Fills in job.descriptors or job.memory. An error means that it cannot run elsewhere,
  // for that reason: it runs at home.
  virtual Status Captured(const Process& /*deputy*/, std::span<const uint8_t> /*manifest*/,
                          std::vector<HeldDescriptor>& /*descriptors*/, wire::Job& /*job*/) {
    return Ok{};
  }
  // After Captured or Prepare, the job will not run there after all: take back what was done for it. A
  // Prepare that is not done needs not be.
  virtual void JobWithdrawn(const wire::Job& /*job*/) {}

  // Worker: make the job's descriptors and mappings real on this host; append to `descriptors`, then `done`.
  // An error rejects the job.
  virtual void Prepare(const wire::Job& /*job*/, std::vector<HeldDescriptor>& /*descriptors*/, Done done) {
    done(Ok{});
  }
  // Worker: the process runs (restored, or a nested child of `parent`).
  virtual void ProcessStarted(const Process& /*process*/, const Process* /*parent*/) {}

  // Both sides, and at a fence: what `process` wrote must be at its origin (worker: sent before whatever is
  // sent after `done`; home: in the real objects) before `done`. `ended`: it is the last time; `killed`: it
  // ended by a signal. `wrote`, at a fence: what it wrote itself through these descriptors (abi::WroteTo) is
  // waited for, until it is in, also where others have written more than can be sent now.
  struct DrainReason {
    bool ended = false;
    bool killed = false;
    uint64_t wrote = 0;
    // `done` when home has all that was sent, and this host what home had sent by then.
    bool by_home = false;
    // What is released stays on this host: it is enough that the bytes are sent. The streams where they may
    // not be in yet are added here, for who lets it go further (AwaitIn). Not kept behind the call.
    std::set<wire::StreamId>* ahead = nullptr;
  };
  virtual void Drain(const Process& /*process*/, DrainReason /*reason*/, std::function<void()> done) {
    done();
  }

  // Before the last Drain of a process: no component has forgotten it yet.
  virtual void ProcessEnding(const Process& /*process*/) {}
  // Worker: `done` when what was sent to these is in, or not within that patience.
  using InCallback = std::function<void(bool in)>;
  virtual void AwaitIn(const std::set<wire::StreamId>& /*streams*/, wire::Patience /*patience*/,
                       InCallback done) {
    done(true);
  }

  // Home: a process, a deputy or a nested deputy said Hello. `parent`: who forked it, if that is known here;
  // for a nested deputy its caller's deputy.
  virtual void ProcessRegistered(const Process& /*process*/, const Process* /*parent*/) {}
  // Before any message leaves this host: what must go first is sent now, with Agent::SendAhead. Where
  // Agent::published, nothing that a process releases goes with it.
  virtual void BeforeSend(HostId /*to*/) {}

  // Home: COMMAND has ended, and the launcher returns behind `done`: what was put off is done first.
  virtual void CommandEnded(std::function<void()> done) { done(); }

  // Home: a process elsewhere has detached a System V segment or marked one for removal.
  virtual void SegmentsChanged() {}

  // Home: the deputy of a process was sent SIGCONT.
  virtual void ProcessContinued(const Process& /*process*/) {}
  // The process is gone and forgotten after this call.
  virtual void ProcessGone(const Process& /*process*/) {}
  virtual void CallDropped(CallId /*id*/) {}
  // The caller was interrupted: complete the call soon. Called only for calls that were handed to a
  // component.
  virtual void CallCancelled(CallId /*id*/) {}
  virtual void HostGone(HostId /*host*/) {}
  // The session is ending: forget everything, close everything.
  virtual void SessionEnding() {}
};

class MappedFiles;
class SharedFiles;

class Agent {
 public:
  virtual ~Agent() = default;

  // nullptr: there are no maps.
  MappedFiles* mapped_files() const { return mapped_files_; }
  void SetMappedFiles(MappedFiles* files) { mapped_files_ = files; }

  // nullptr: not home.
  SharedFiles* shared_files() const { return shared_files_; }
  void SetSharedFiles(SharedFiles* files) { shared_files_ = files; }

  virtual EventLoop& loop() = 0;
  virtual HostId host() const = 0;
  bool is_home() const { return host() == wire::kHome; }
  virtual const SessionLayout& layout() const = 0;
  virtual const std::string& session_id() const = 0;  // 32 hexadecimal digits
  virtual abi::Table& table() = 0;
  virtual SessionReport& report() = 0;
  // nullptr: nobody wants to know (object_counts.h).
  virtual ObjectCounts* object_counts() { return nullptr; }

  // The command connection, for scripts of a component's own, and the session's keys.
  virtual broker::RedisConnection& broker() = 0;
  virtual store::SessionKey& key() = 0;

  // Delivered behind everything sent to that host before. Workers talk to home only: so a message of home's
  // that follows from one of a worker's comes behind what that worker had home tell others before.
  // Sending to a host that is gone, or to this host, is a bug that is logged and dropped.
  template <wire::AnyMessage M>
  void Send(HostId to, const M& message) {
    const bool outer = std::exchange(published_, false);
    SendEncoded(to, wire::Encode(host(), NextSequence(), message));
    published_ = outer;
  }
  // Of what this agent decides for all hosts, in the order in which it decides it: calls that nobody waits
  // for (abi::Slot::unheard) are not taken first, as by Send. What they change would be heard of before what
  // it came behind.
  template <wire::AnyMessage M>
  void SendDecided(HostId to, const M& message) {
    LeaveUnheard([&] { Send(to, message); });
  }
  // The same from within Component::BeforeSend, which is not asked again.
  template <wire::AnyMessage M>
  void SendAhead(HostId to, const M& message) {
    SendEncodedAhead(to, wire::Encode(host(), NextSequence(), message));
  }
  // Of what no process did, nor may wait for: nothing needs to go first.
  template <wire::AnyMessage M>
  void SendAlone(HostId to, const M& message) {
    SendEncodedAhead(to, wire::Encode(host(), NextSequence(), message));
  }
  // Worker: hears which processes have begun, before what is known of their deeds is acted upon.
  virtual void HearOfStarts() {}
  // Now, for SendAsOf.
  using Moment = uint64_t;
  Moment moment() const { return moment_; }
  // What comes only of what processes had done before `moment`: shared memory needs not be compared once more
  // if it was since.
  template <wire::AnyMessage M>
  void SendAsOf(Moment moment, HostId to, const M& message) {
    const bool outer = std::exchange(published_, moment_ > std::max(moment, changed_));
    SendEncoded(to, wire::Encode(host(), NextSequence(), message));
    published_ = outer;
  }
  // In Component::BeforeSend: what processes released that the message comes of was published before.
  bool published() const { return published_; }
  // By whoever publishes shared memory, before all of it is compared; by who writes to it in this agent.
  void PublicationBegins() { ++moment_; }
  void SharedMemoryChanged() { changed_ = moment_; }
  // Runs `action`, which sends, at the end of the loop's round; or somewhat later where what must go first
  // (Component::BeforeSend) has just taken long, so that it does not take all of the time. For what may come
  // many times in a row and goes with any other message, too.
  virtual void SendSoon(std::function<void()> action) { loop().Defer(std::move(action)); }
  // A line for the summary at the session's end, with the number of times.
  void Note(const std::string& text) {
    if (is_home()) {
      ++report().notes[text];
    } else {
      Send(wire::kHome, wire::Note{text});
    }
  }
  // Every host but this one that is alive: at home all workers, on a worker home and, once told, the others.
  virtual const std::vector<HostId>& OtherHosts() const = 0;

  template <wire::AnyMessage M>
  void OnMessage(std::function<void(HostId from, M&& message)> handler) {
    SetMessageHandler(M::kType,
                      [this, handler = std::move(handler)](HostId from, std::span<const uint8_t> body) {
                        auto message = wire::DecodeBody<M>(body);
                        if (!message) return RefuseMessage(from, "a " + message.error().message);
                        handler(from, std::move(*message));
                      });
  }

  // What `from` sent cannot be read: ends the session.
  virtual void RefuseMessage(HostId from, const std::string& what) {
    Fatal("host " + std::to_string(from) + " sent " + what);
  }

  // `handler` runs for every call of that operation. One handler per operation.
  using CallHandler = std::function<void(CallId id, const Call& call)>;
  virtual void OnCall(abi::Operation operation, CallHandler handler) = 0;
  // Handles the calls that are pending already, before their doorbell was heard.
  virtual void TakeCalls() {}
  // Only those that nobody waits for. By who has read what a process wrote and sends it later: the calls were
  // made before.
  virtual void TakeUnheard() {}
  // Answers a call and wakes its caller. A payload beyond abi::kSlotPayload is a bug and is cut.
  virtual void Complete(CallId id, int64_t result, int error = 0, std::span<const uint8_t> payload = {}) = 0;

  // Keeps a descriptor for the process that comes for it with the token (abi::Role::kFetch).
  virtual uint64_t Offer(store::UniqueFd /*descriptor*/) { return 0; }
  // The same, but it is closed when the caller of `call` dies before it came.
  virtual uint64_t Offer(store::UniqueFd descriptor, CallId /*call*/) { return Offer(std::move(descriptor)); }

  // `handler` gets every packet of that type, whole, from any connection of this host's processes. The
  // connection is answered by SendPacket, at once or later; one that is gone by then takes nothing.
  using PacketReceiver = std::function<void(uint64_t connection, std::span<const uint8_t> packet)>;
  virtual void OnPacket(abi::Packet /*type*/, PacketReceiver /*handler*/) {}
  virtual void SendPacket(uint64_t /*connection*/, std::span<const uint8_t> /*bytes*/,
                          std::span<const int> /*descriptors*/) {}
  // The same for one answer from any thread, to a connection that asks and waits. False: it has to take
  // SendPacket.
  using PacketSender = std::function<bool(std::span<const uint8_t> bytes, std::span<const int> descriptors)>;
  virtual PacketSender SenderTo(uint64_t /*connection*/) {
    return [](auto...) { return false; };
  }

  // nullptr: unknown.
  virtual const Process* FindProcess(Incarnation incarnation) const = 0;
  virtual const Process* FindKernelPid(int32_t kernel_pid) const = 0;
  virtual const Process* FindSessionPid(int32_t session_pid) const = 0;

  // Drains all components for the process, in the order in which they were added, then `done`.
  virtual void Drain(const Process& process, Component::DrainReason reason, std::function<void()> done) = 0;
  // The same before what `process` releases with `call` is heard of.
  void DrainCaller(CallId id, const Call& call, const Process& process, std::function<void()> done,
                   bool by_home = false) {
    Drain(process, {.wrote = call.wrote, .by_home = by_home}, [this, id, done = std::move(done)] {
      Released(id);
      done();
    });
  }

  // What a Drain has put into DrainReason::ahead.
  virtual void AwaitIn(const std::set<wire::StreamId>& /*streams*/, wire::Patience /*patience*/,
                       Component::InCallback done) {
    done(true);
  }

  // Ends the session with one line for the user. Returns; nothing new is started afterwards.
  virtual void Fatal(std::string message) = 0;
  virtual bool ending() const = 0;

 protected:
  // What the caller wrote before this call is not waited for again.
  virtual void Released(CallId /*call*/) {}
  // Runs `action`; nothing in it takes calls that nobody waits for.
  virtual void LeaveUnheard(const std::function<void()>& action) { action(); }
  virtual uint64_t NextSequence() = 0;
  virtual void SendEncoded(HostId to, std::vector<uint8_t> message) = 0;
  virtual void SendEncodedAhead(HostId to, std::vector<uint8_t> message) = 0;
  using MessageHandler = std::function<void(HostId from, std::span<const uint8_t> body)>;
  virtual void SetMessageHandler(wire::MessageType type, MessageHandler handler) = 0;

 private:
  MappedFiles* mapped_files_ = nullptr;
  SharedFiles* shared_files_ = nullptr;
  Moment moment_ = 0;
  Moment changed_ = 0;
  bool published_ = false;
};

}  // namespace elsewhere::runtime
