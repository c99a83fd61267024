#include "runtime/streams.h"

#include <csignal>

#include "runtime/mapped_files.h"
#include "runtime/stream/mirrors.h"
#include "runtime/stream/origins.h"
#include "runtime/stream/passing.h"
#include "shim/wire/image_view.h"

namespace elsewhere::runtime {
namespace {

using stream::Mirrors;
using stream::Origins;

class Streams : public Component {
 public:
  explicit Streams(Agent& agent)
      : agent_(agent), passing_(agent), origins_(agent, passing_), mirrors_(agent, passing_) {
    signal(SIGPIPE, SIG_IGN);
    passing_.Connect(origins_, mirrors_);
    agent.OnMessage<wire::StreamShare>(
        [this](HostId from, wire::StreamShare&& share) { passing_.OnShare(from, share); });
    agent.OnMessage<wire::StreamLast>(
        [this](HostId, wire::StreamLast&& last) { last_[last.incarnation] = std::move(last); });
  }

  Status Captured(const Process& deputy, std::span<const uint8_t> manifest,
                  std::vector<HeldDescriptor>& descriptors, wire::Job& job) override {
    image::View view;
    if (const char* wrong = image::View::Open(manifest.data(), manifest.size(), &view))
      return Error{EPROTO, wrong};
    for (const image::Descriptor& entry : view.descriptors()) {
      int unattached = -1;
      int* held = &unattached;
      if (entry.attached != image::kNone) {
        if (entry.attached >= descriptors.size()) return Undo(job, Error{EPROTO, "a descriptor is missing"});
        held = &descriptors[entry.attached].descriptor;
        if (*held < 0) continue;  // another component has taken it
      }
      if (wire::JobDescriptor mirrored; passing_.GrantMirrored(deputy.runs_on, entry, mirrored)) {
        job.descriptors.push_back(std::move(mirrored));
        continue;
      }
      auto granted = origins_.Grant(deputy.runs_on, entry, view.text(entry.path), *held);
      if (!granted) return Undo(job, granted.error());
      job.descriptors.push_back(std::move(*granted));
    }
    return Ok{};
  }

  void JobWithdrawn(const wire::Job& job) override {
    for (const auto& descriptor : job.descriptors) {
      origins_.Withdraw(descriptor);
      passing_.Withdraw(descriptor);
    }
  }

  void Prepare(const wire::Job& job, std::vector<HeldDescriptor>& descriptors, Done done) override {
    done(mirrors_.Prepare(job, descriptors));
  }

  void ProcessStarted(const Process& process, const Process* parent) override {
    mirrors_.ProcessStarted(process, parent);
  }

  void Drain(const Process& process, DrainReason reason, std::function<void()> done) override {
    if (!agent_.is_home()) return DrainHere(process, reason, std::move(done));
    if (process.runs_on == wire::kHome) return done();
    DrainAtHome(process, reason, std::move(done));
  }

  void AwaitIn(const std::set<wire::StreamId>& streams, wire::Patience patience, InCallback done) override {
    mirrors_.AwaitIn(streams, patience, std::move(done));
  }

  void BeforeSend(HostId /*to*/) override {
    origins_.BeforeSend();
    mirrors_.BeforeSend();
  }
  void ProcessGone(const Process& process) override { mirrors_.ProcessGone(process); }
  void CallDropped(CallId id) override { mirrors_.CallDropped(id); }
  void CallCancelled(CallId id) override { mirrors_.CallCancelled(id); }
  void HostGone(HostId host) override {
    origins_.HostGone(host);
    passing_.HostGone(host);
  }
  void ProcessRegistered(const Process& process, const Process* parent) override {
    mirrors_.ProcessRegistered(process, parent);
  }
  void ProcessContinued(const Process& process) override { origins_.ProcessContinued(process.incarnation); }
  void SessionEnding() override {
    mirrors_.Clear();
    origins_.Clear();
  }

 private:
  Status Undo(wire::Job& job, Error error) {
    JobWithdrawn(job);
    job.descriptors.clear();
    return error;
  }

  // Who waits for a process finds its ends closed, so that is said before its end.
  void DrainHere(const Process& process, DrainReason reason, std::function<void()> done) {
    if (!reason.ended) return mirrors_.Drain(process, reason, std::move(done));
    mirrors_.Drain(process, reason, [this, process, done = std::move(done)] {
      mirrors_.ProcessGone(process);
      done();
    });
  }

  // Waits for the bytes that its worker did not know to be in.
  void DrainAtHome(const Process& process, DrainReason reason, std::function<void()> done) {
    if (MappedFiles* files = agent_.mapped_files(); files != nullptr) {
      done = [files, done = std::move(done)] { files->StoreOutput(done); };
    }
    if (reason.ended) origins_.LockerEnded(process.session_pid);
    const auto last = last_.extract(process.incarnation);
    if (last.empty() || reason.killed) return done();
    origins_.WhenWritten(last.mapped().streams, wire::Patience::kLong,
                         [done = std::move(done)](bool) { done(); });
  }

  Agent& agent_;
  stream::Passing passing_;
  Origins origins_;
  Mirrors mirrors_;
  std::unordered_map<Incarnation, wire::StreamLast> last_;
};

}  // namespace

std::unique_ptr<Component> MakeStreams(Agent& agent) {
  return std::make_unique<Streams>(agent);
}

}  // namespace elsewhere::runtime
