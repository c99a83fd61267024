// Descriptors on their way to another host outside of a job: those that a process passes over a bridged
// socket (SCM_RIGHTS), and connections that were accepted for it.
//
// What stands for a descriptor in a message depends on where its object is:
//  - with the receiver: a *reference* by the share that the sender's mirror has;
//  - with the sender: a grant, as a job's (origins.h), or what is needed to make it anew (rebuild.h);
//  - with a third host, which the sender, home, has a mirror of: the origin gives the stream another name
//    (StreamShare), and home relays what the two say to each other about it. Workers talk to home only, so a
//    worker that passes on what another one has sends home a reference, and home does this.
// A descriptor is resolved when its message is handled. What its sender says of it later comes later, so a
// close never overtakes it.
//
// What cannot move is dropped with a line in the summary, and then nothing of that message arrives: no
// receiver takes one descriptor for another. Senders on a worker are asked before (Check) and get an error.
// Everything runs on the agent's loop.
#pragma once

#include <functional>
#include <map>
#include <unordered_map>
#include <vector>

#include "runtime/agent.h"
#include "runtime/stream/classify.h"
#include "runtime/stream/descriptor.h"
#include "shim/wire/image.h"
#include "shim/wire/stream_message.h"

namespace elsewhere::runtime::stream {

class Mirrors;
class Origins;
using wire::StreamId;

class Passing {
 public:
  explicit Passing(Agent& agent) : agent_(agent) {}
  void Connect(Origins& origins, Mirrors& mirrors) {
    origins_ = &origins;
    mirrors_ = &mirrors;
  }

  std::vector<wire::JobDescriptor> Pack(HostId to, std::vector<Descriptor> descriptors);
  std::vector<Descriptor> Unpack(const std::vector<wire::JobDescriptor>& entries);
  // Can it be passed to another host? An error is the reason why not.
  Status Check(int descriptor);

  void NoteLost(const Error& reason);

  // What this host's processes wrote is about to be told: what they printed before goes before it.
  void BeforeAnswer();

  // Home, a capture: the descriptor is a mirror's, its object on a third host or on `to` itself. False: it is
  // none.
  bool GrantMirrored(HostId to, const image::Descriptor& entry, wire::JobDescriptor& job);

  // The job will not run there after all.
  void Withdraw(const wire::JobDescriptor& entry);

  // Home: what is said about a stream between two workers. Nothing where the stream is none of these.
  template <class M>
  void ForwardToOrigin(M&& message) {
    if (relays_.count(message.stream) != 0) agent_.Send(wire::HostOf(message.stream), message);
  }
  template <class M>
  void ForwardToHolder(M&& message) {
    const auto relay = relays_.find(message.stream);
    if (relay != relays_.end()) agent_.Send(relay->second.holder, message);
  }
  void ForwardData(wire::StreamData&& data);
  void ForwardPulled(wire::StreamPulled&& pulled);
  // Calls on the object, whose answers name only their number.
  bool ForwardControl(HostId from, const wire::StreamControl& control);
  bool ForwardAnswer(wire::StreamControlled answer);
  // Runs `done` when what was sent for those of `streams` that are relayed is in, except where one is stuck;
  // at once if none is.
  using Drained = std::function<void(bool stuck)>;
  void WhenWritten(const std::vector<StreamId>& streams, wire::Patience patience, const Drained& done);
  // Asks the next host on the way to these streams' origin.
  void DrainAt(HostId host, std::vector<StreamId> streams, wire::Patience patience, Drained done);
  void OnDrained(const wire::StreamDrained& drained);
  // How often the stream was passed home by its name at home, as far as it was sent (a worker) or came
  // (home).
  uint64_t references(StreamId stream) const {
    const auto found = references_.find(stream);
    return found == references_.end() ? 0 : found->second;
  }
  bool IsRelayed(StreamId stream) const { return relays_.count(stream) != 0; }

  void OnShare(HostId from, const wire::StreamShare& share);
  void HostGone(HostId host);

 private:
  struct Relay {
    HostId holder = 0;
    wire::JobDescriptor entry;
  };
  struct Asker {
    HostId host = 0;
    uint64_t request = 0;
  };
  Result<wire::JobDescriptor> PackOne(HostId to, Descriptor descriptor);
  Result<Descriptor> UnpackOne(const wire::JobDescriptor& entry);
  Result<wire::JobDescriptor> Share(StreamId known, HostId to);

  Agent& agent_;
  Origins* origins_ = nullptr;
  Mirrors* mirrors_ = nullptr;
  std::unordered_map<StreamId, Relay> relays_;
  std::unordered_map<uint64_t, Asker> controls_;
  std::unordered_map<uint64_t, Drained> drains_;
  std::unordered_map<StreamId, uint64_t> references_;
  uint64_t last_share_ = 0;
};

}  // namespace elsewhere::runtime::stream
