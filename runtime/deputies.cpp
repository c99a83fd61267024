#include "runtime/deputies.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <csignal>

#include "runtime/clock.h"
#include "runtime/stop_state.h"
#include "shim/broker/session_keys.h"
#include "shim/wire/image_view.h"

namespace elsewhere::runtime {
namespace {

// A pack of at most this size is put by the loop itself when the store is a directory: a file of a megabyte
// is written sooner than a thread is woken and answers.
constexpr uint64_t kPutHere = 1 << 20;

constexpr char kHomeClaimant[] = "home";

}  // namespace

Deputies::Deputies(AgentCore& core, WorkerPool& workers, store::AsyncStore& store, Options options)
    : core_(core),
      workers_(workers),
      store_(store),
      options_(options),
      queue_leases_(core, {[this](uint64_t call) { CallOff(call); },
                           [this](HostId from, wire::KernelCall&& call) { OnKernelCall(from, call); },
                           IsStopped, [this](int queue) { CountUnheard(queue); }}) {
  core_.OnMessage<wire::Started>([this](HostId from, wire::Started&& m) { OnStarted(from, m); });
  core_.OnMessage<wire::JobRejected>([this](HostId from, wire::JobRejected&& m) { OnRejected(from, m); });
  core_.OnMessage<wire::Exited>([this](HostId from, wire::Exited&& m) { OnExited(from, m); });
  core_.OnMessage<wire::HomeCall>([this](HostId from, wire::HomeCall&& m) { OnHomeCall(from, m); });
  core_.OnMessage<wire::KernelCall>([this](HostId from, wire::KernelCall&& m) { OnKernelCall(from, m); });
  core_.OnMessage<wire::KernelCancel>(
      [this](HostId from, wire::KernelCancel&& m) { OnKernelCancel(from, m); });
  core_.OnMessage<wire::NestedFork>([this](HostId from, wire::NestedFork&& m) { OnNestedFork(from, m); });
  core_.OnMessage<wire::Stopped>([this](HostId from, wire::Stopped&& m) { OnStopped(from, m); });
  core_.OnCall(abi::Operation::kStopped, [this](CallId id, const Call& call) { AwaitStop(id, call); });
  core_.OnCall(abi::Operation::kKilled, [this](CallId id, const Call& call) { AwaitKilled(id, call); });
  core_.OnMessage<wire::Continued>([](HostId, wire::Continued&&) {});  // SIGCONT reached the deputy itself
}

Deputies::Deputy* Deputies::Find(Incarnation incarnation) {
  const auto found = by_incarnation_.find(incarnation);
  return found == by_incarnation_.end() ? nullptr : found->second.get();
}

void Deputies::ReplaceCrowdedArena() {
  if (catalog_ != nullptr && !catalog_->arena()->Crowded()) return;
  const uint64_t bytes =
      options_.arena_bytes != 0 ? options_.arena_bytes : image::ArenaFile::DefaultCapacity();
  auto arena = image::ArenaFile::Create(bytes);
  if (!arena) {
    no_arena_ = arena.error().message;
    return;
  }
  // The packs of the old catalog may be wanted until its last image has started; then they go.
  store::AsyncStore* store = &store_;
  catalog_ = std::shared_ptr<image::PackCatalog>(new image::PackCatalog(std::move(*arena), core_.key()),
                                                 [store](image::PackCatalog* catalog) {
                                                   for (const std::string& key : catalog->Keys())
                                                     store->Delete(key, [](const Result<Ok>&) {});
                                                   delete catalog;
                                                 });
}

void Deputies::Hello(ConnectionId connection, const abi::Hello& hello, Connections::Packet packet) {
  if (hello.role == static_cast<uint32_t>(abi::Role::kNestedDeputy)) {
    return HelloNested(connection, hello, packet);
  }
  ReplaceCrowdedArena();
  const Incarnation incarnation = core_.NewIncarnation();
  Process process{.kernel_pid = hello.pid, .session_pid = hello.pid, .incarnation = incarnation};
  const auto registered = core_.Register(process, [this](const Process& gone) { Gone(gone); });
  if (catalog_ == nullptr) return core_.Fatal("no memory for images: " + no_arena_);
  if (!registered) return core_.connections().Close(connection);
  auto deputy = std::make_unique<Deputy>();
  deputy->incarnation = incarnation;
  deputy->pid = hello.pid;
  deputy->parent = hello.parent;
  deputy->connection = connection;
  deputy->catalog = catalog_;
  deputy->forked = core_.moment();
  Watch(*deputy, packet);
  by_connection_[connection] = incarnation;
  by_incarnation_[incarnation] = std::move(deputy);
  core_.TellRegistered(**registered, hello.parent);
  const int given[] = {core_.calls().memfd(), core_.calls().doorbell(), catalog_->arena()->memfd()};
  core_.connections().Send(connection, abi::Welcome{{}, abi::kAbiVersion, core_.host()},
                           abi::Packet::kWelcome, given);
}

void Deputies::Receive(ConnectionId connection, Connections::Packet packet) {
  Deputy* deputy = Find(by_connection_.at(connection));
  if (deputy == nullptr) return;
  switch (packet.type) {
    case abi::Packet::kCapture:
      return deputy->state == State::kConnected ? StartCapture(*deputy, std::move(packet))
                                                : TakeDescriptors(*deputy, packet);
    case abi::Packet::kHasLetGo:
      return HasLetGo(*deputy);
    case abi::Packet::kSignal:
      if (const auto* signal = packet.As<abi::SignalPacket>()) OnSignalPacket(*deputy, *signal);
      return;
    case abi::Packet::kHomeResult:
      if (const auto* result = packet.As<abi::HomePacket>()) OnHomeResult(*result);
      return;
    case abi::Packet::kKernelAnswer:
      return OnKernelAnswer(packet);
    case abi::Packet::kKernelEvent:
      if (const auto* event = packet.As<abi::KernelEvent>()) OnKernelEvent(*deputy, *event);
      return;
    case abi::Packet::kRunsLocally: {
      // Unasked, it says why it cannot run elsewhere. From here on it is an ordinary process of home.
      const auto* said = packet.As<abi::Refused>();
      if (deputy->state == State::kConnected && said != nullptr &&
          !CountLocal(*deputy, std::string(said->reason, strnlen(said->reason, sizeof said->reason)))) {
        return;
      }
      const int32_t pid = deputy->pid;
      Forget(deputy->incarnation);
      core_.SetIncarnation(pid, 0, wire::kHome);
      return;
    }
    default:
      spdlog::error("deputy {} sent a packet of type {}", deputy->pid, static_cast<int>(packet.type));
  }
}

void Deputies::Closed(ConnectionId connection) {
  // Its pidfd tells when it is dead; one that runs locally just needs the connection no more.
  if (Deputy* deputy = Find(by_connection_[connection])) deputy->connection = 0;
  by_connection_.erase(connection);
}

// Chooses a worker and sets everything going that must be done before the job can be published.
void Deputies::Place(Deputy& deputy) {
  static const image::CpuFeatures kFeatures = image::ThisCpu();
  if (core_.ending()) return;
  const auto host = workers_.Choose(kFeatures, deputy.captured_bytes);
  if (!host && host.error().code == EAGAIN) return;  // WorkersChanged comes
  if (!host) return RunLocally(deputy, host.error().message);
  deputy.host = *host;
  deputy.placed = Now();
  deputy.counted = true;
  workers_.Began(*host);
  deputy.state = State::kUploading;
  core_.SetIncarnation(deputy.pid, deputy.incarnation, deputy.host);
  deputy.job = wire::Job{};
  deputy.job.incarnation = deputy.incarnation;
  deputy.job.session_pid = deputy.pid;
  deputy.job.parent_pid = deputy.parent;
  deputy.job.same_machine = workers_.OnThisMachine(deputy.host);
  const Process* process = core_.FindProcess(deputy.incarnation);
  if (process == nullptr) return;
  Status ready = Offer(deputy, *process);
  if (ready) ready = Assign(deputy);
  if (ready) return;
  Withdraw(deputy);
  RunLocally(deputy, ready.error().message);
}

// Components get copies to take: where this worker is lost, the next one's job needs the same once more.
Status Deputies::Offer(Deputy& deputy, const Process& process) {
  auto copies = deputy.descriptors.Copies();
  if (!copies) return copies.error();
  Status taken = Ok{};
  deputy.taken_by.clear();
  for (size_t i = 0; taken && i < core_.components().size(); ++i) {
    taken = core_.components()[i]->Captured(process, deputy.manifest, *copies, deputy.job);
    deputy.taken_by.push_back(taken.ok());
  }
  for (const HeldDescriptor& copy : *copies) {
    if (copy.descriptor >= 0) close(copy.descriptor);
  }
  return taken;
}

Status Deputies::Assign(Deputy& deputy) {
  image::View view;
  if (const char* wrong = image::View::Open(deputy.manifest.data(), deputy.manifest.size(), &view)) {
    return Error{EPROTO, wrong};
  }
  auto plan = deputy.catalog->Assign(view);
  if (!plan) return plan.error();
  deputy.job.manifest = std::move(plan->manifest);
  core_.report().bytes_captured += plan->captured_bytes;
  core_.report().bytes_shipped += plan->shipped_bytes;
  core_.report().bytes_deduplicated += plan->captured_bytes - plan->shipped_bytes;
  deputy.waits = {plan->waits.begin(), plan->waits.end()};
  for (image::PackNumber pack : plan->waits) {
    pack_waiters_[deputy.catalog.get()][pack].push_back(deputy.incarnation);
  }
  if (deputy.waits.empty()) {
    Publish(deputy);
    return Ok{};
  }
  const auto catalog = deputy.catalog;  // the deputy may be gone after a Put
  for (auto& write : plan->writes) Put(catalog, std::move(write));
  return Ok{};
}

void Deputies::Put(const std::shared_ptr<image::PackCatalog>& catalog, image::PackCatalog::PackWrite write) {
  const bool here = write.size <= kPutHere && store_.store().url().starts_with("dir:");
  const image::PackNumber number = write.number;
  const store::SessionKey* key = options_.seal_packs ? &core_.key() : nullptr;
  // `catalog` keeps the arena mapped while the pieces are read.
  auto put = [catalog, key, write = std::move(write)](store::ObjectStore& store) -> Result<Ok> {
    Result<store::ObjectInfo> done = Error{};
    if (key == nullptr) {
      done = store.PutPieces(write.key, write.pieces);
    } else {
      std::string plain;
      plain.reserve(write.size);
      for (std::string_view piece : write.pieces) plain += piece;
      auto sealed = key->Seal(plain, write.key);
      if (!sealed) return sealed.error();
      done = store.Put(write.key, *sealed);
    }
    if (!done) return done.error();
    return Ok{};
  };
  if (here) return PackDone(catalog, number, put(store_.store()));
  store_.Run<Ok>(std::move(put),
                 [this, catalog, number](const Result<Ok>& done) { PackDone(catalog, number, done); });
}

void Deputies::PackDone(const std::shared_ptr<image::PackCatalog>& catalog, image::PackNumber pack,
                        const Status& status) {
  if (status) {
    catalog->Stored(pack);
  } else {
    catalog->Failed(pack);
  }
  auto& waiters_of = pack_waiters_[catalog.get()];
  const std::vector<Incarnation> waiters = std::move(waiters_of[pack]);
  waiters_of.erase(pack);
  if (waiters_of.empty()) pack_waiters_.erase(catalog.get());
  if (core_.ending()) return;
  for (Incarnation incarnation : waiters) {
    Deputy* deputy = Find(incarnation);
    if (deputy == nullptr || deputy->state != State::kUploading || deputy->waits.erase(pack) == 0) continue;
    if (!status) {
      Withdraw(*deputy);
      const Error& error = status.error();
      RunLocally(*deputy, error.code == ENOSPC   ? "the store is full"
                          : error.code == EMFILE ? core_.room().NoChild()
                                                 : "the store failed: " + error.message);
    } else if (deputy->waits.empty()) {
      Publish(*deputy);
    }
  }
}

void Deputies::Publish(Deputy& deputy) {
  if (deputy.lets_go) return;  // HasLetGo comes
  deputy.published = Now();
  core_.report().upload_nanoseconds += deputy.published - deputy.placed;
  deputy.state = State::kPublished;
  core_.SendAsOf(deputy.forked, deputy.host, deputy.job);
  deputy.job.manifest.clear();
  deputy.job.manifest.shrink_to_fit();
  deputy.manifest.clear();
  deputy.manifest.shrink_to_fit();
  deputy.descriptors.CloseOthers();
}

// Takes back what was promised to the chosen worker and to the components.
void Deputies::Withdraw(Deputy& deputy) {
  for (size_t i = 0; i < deputy.taken_by.size(); ++i) {
    if (deputy.taken_by[i]) core_.components()[i]->JobWithdrawn(deputy.job);
  }
  deputy.taken_by.clear();
  if (deputy.counted) workers_.Ended(deputy.host);
  deputy.counted = false;
}

// False: that is an error (--strict), and the session ends.
bool Deputies::CountLocal(const Deputy& deputy, const std::string& reason) {
  if (options_.strict) {
    core_.Fatal("--strict: child " + std::to_string(deputy.pid) + " cannot run elsewhere: " + reason);
    return false;
  }
  ++core_.report().forks_local;
  ++core_.report().fallbacks[reason];
  return true;
}

void Deputies::RunLocally(Deputy& deputy, const std::string& reason) {
  if (core_.ending() || !CountLocal(deputy, reason)) return;
  deputy.descriptors.CloseOthers();
  deputy.state = State::kLocal;
  abi::Refused packet{};
  std::strncpy(packet.reason, reason.c_str(), sizeof packet.reason - 1);
  deputy.descriptors.SendBack(core_.connections(), deputy.connection, packet, abi::Packet::kRunLocal);
}

void Deputies::OnStarted(HostId from, const wire::Started& started) {
  Deputy* deputy = Find(started.incarnation);
  if (deputy == nullptr || deputy->host != from || deputy->state != State::kPublished) return;
  deputy->state = State::kRunning;
  deputy->descriptors.Clear();  // before anything that the child says is heard
  deputy->catalog.reset();
  ++core_.report().forks_remote;
  if (started.received_nanoseconds > deputy->published) {
    core_.report().invoke_nanoseconds += started.received_nanoseconds - deputy->published;
  }
  core_.report().restore_nanoseconds += started.fetch_nanoseconds + started.restore_nanoseconds;
  core_.report().bytes_fetched += started.fetched_bytes;
  core_.connections().Send(deputy->connection, abi::Packet::kStarted);
  StopIfStopped(*deputy);
}

void Deputies::OnRejected(HostId from, const wire::JobRejected& rejected) {
  Deputy* deputy = Find(rejected.incarnation);
  if (deputy == nullptr) return EndKilled(from, {.incarnation = rejected.incarnation, .status = SIGKILL});
  if (deputy->host != from || deputy->state != State::kPublished) return;
  Withdraw(*deputy);
  RunLocally(*deputy, rejected.reason);
}

void Deputies::WorkersChanged() {
  std::vector<Incarnation> waiting;
  for (const auto& [incarnation, deputy] : by_incarnation_) {
    if (deputy->state == State::kWaiting) waiting.push_back(incarnation);
  }
  for (Incarnation incarnation : waiting) {
    Deputy* deputy = Find(incarnation);
    if (deputy != nullptr && deputy->state == State::kWaiting) Place(*deputy);
  }
}

void Deputies::WorkerGone(HostId host, const std::string& reason) {
  workers_.Remove(host);
  std::vector<Incarnation> killed;
  for (const auto& [incarnation, each] : killed_) {
    if (each.process.runs_on == host) killed.push_back(incarnation);
  }
  for (Incarnation incarnation : killed) EndKilled(host, {.incarnation = incarnation, .status = SIGKILL});
  queue_leases_.HostGone(host);
  std::vector<Incarnation> affected;
  for (const auto& [incarnation, deputy] : by_incarnation_) {
    if (deputy->host == host && deputy->state != State::kLocal) affected.push_back(incarnation);
  }
  for (Incarnation incarnation : affected) {
    Deputy* deputy = Find(incarnation);
    if (deputy == nullptr || core_.ending()) return;
    if (deputy->state == State::kRunning) {
      return core_.Fatal("worker " + std::to_string(host) + " is gone (" + reason + ") while process " +
                         std::to_string(deputy->pid) + " was running on it");
    }
    if (deputy->state == State::kUploading) {
      Withdraw(*deputy);
      deputy->state = State::kWaiting;
      deputy->waits.clear();
      Place(*deputy);
    } else if (deputy->state == State::kPublished) {
      broker::Claim(core_.broker(), core_.keys(), incarnation, kHomeClaimant,
                    [this, incarnation, host](Result<std::string> winner) {
                      Deputy* claimed = Find(incarnation);
                      if (claimed == nullptr || claimed->state != State::kPublished) return;
                      if (!winner || *winner != kHomeClaimant) {
                        return core_.Fatal("worker " + std::to_string(host) + " died with process " +
                                           std::to_string(claimed->pid));
                      }
                      Withdraw(*claimed);
                      RunLocally(*claimed, "its worker died before it started");
                    });
    }
  }
  WorkersChanged();
}

void Deputies::Gone(const Process& process) {
  const int32_t pid = process.kernel_pid;
  Deputy* deputy = Find(process.incarnation);
  if (deputy != nullptr && !core_.ending()) {
    const HostId host = deputy->host;
    const State state = deputy->state;
    if (state == State::kUploading || state == State::kPublished) Withdraw(*deputy);
    if (state == State::kPublished || state == State::kRunning) {
      FailNestedOf(process.incarnation);
      killed_[process.incarnation] = Killed{process, deputy->parent, {}};
      core_.Send(host, wire::Kill{process.incarnation});
    }
    Forget(process.incarnation);
    queue_leases_.LookForAbandoned();
  }
  core_.Forget(pid);
}

void Deputies::Forget(Incarnation incarnation) {
  const auto found = by_incarnation_.find(incarnation);
  if (found == by_incarnation_.end()) return;
  Deputy& deputy = *found->second;
  deputy.descriptors.Clear();  // before the connection: a deputy that becomes the child waits for its end
  ForgetKernelCalls(incarnation);
  Unwatch(deputy);
  SetProcessStopped(deputy, false);
  if (deputy.counted) workers_.Ended(deputy.host);
  if (deputy.connection != 0) {
    by_connection_.erase(deputy.connection);
    core_.connections().Close(deputy.connection);
  }
  by_incarnation_.erase(found);
}

bool Deputies::IsDeputy(int32_t pid) const {
  const Process* process = core_.FindKernelPid(pid);
  return process != nullptr && by_incarnation_.contains(process->incarnation);
}

}  // namespace elsewhere::runtime
