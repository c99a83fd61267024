#include "runtime/home_session.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "runtime/components.h"
#include "runtime/launch/processes.h"
#include "runtime/launch/session_directory.h"
#include "runtime/process_setup.h"
#include "runtime/registrar.h"
#include "shim/broker/session_keys.h"
#include "shim/engine/local_engine.h"

namespace elsewhere::runtime {
namespace {

constexpr std::chrono::milliseconds kPatience{30'000};
constexpr std::chrono::milliseconds kRemoveLimit{3'000};
constexpr std::chrono::milliseconds kConnectLimit{10'000};
constexpr std::chrono::milliseconds kKillLimit{5'000};

// A worker sends a heartbeat every 2 seconds. One that is silent for so many intervals is taken for dead.
constexpr std::chrono::seconds kLookInterval{5};
constexpr uint32_t kSilentIntervals = 6;
// Workers that die again and again are not replaced for ever.
constexpr uint32_t kReplacementsPerWorker = 8;

std::span<const uint8_t> BytesOf(const rusage& usage) {
  return {reinterpret_cast<const uint8_t*>(&usage), sizeof usage};
}

}  // namespace

int HomeSession::Run(const Options& options) {
  HomeSession session(options);
  // Held as long as this process lives: tells sweepers that the session is alive.
  const int lock = open(session.layout_.Lock().c_str(), O_RDONLY | O_CLOEXEC);
  if (lock >= 0) flock(lock, LOCK_SH);
  if (const auto started = session.Start(); !started) {
    spdlog::error("cannot start: {}", started.error().message);
    session.Fail(started.error().message);
    return 1;
  }
  if (!session.finished_)
    session.core_->loop().Run([&](const std::string& what) { session.core_->Fatal(what); });
  return 0;
}

Status HomeSession::Start() {
  if (auto status = StartCore(); !status) return status;
  if (auto status = StartBroker(); !status) return status;
  if (auto status = StartStore(); !status) return status;
  deputies_ = std::make_unique<Deputies>(
      *core_, workers_, *async_store_,
      Deputies::Options{
          .colocate = options_.colocate, .strict = options_.strict, .seal_packs = !options_.store.empty()});
  if (auto added = AddComponents(*core_, options_.files); !added) return added;
  RegisterCalls();
  if (auto status = StartWorkers(); !status) return status;
  // Only now: what a process may ask for is all there.
  if (auto served = core_->connections().Serve(store::UniqueFd(options_.listener)); !served) return served;
  Tell(control::kReady);
  return Ok{};
}

Status HomeSession::StartCore() {
  auto key = store::SessionKey::Generate();
  if (!key) return key.error();
  auto core = AgentCore::Create({.session = options_.session,
                                 .directory = options_.directory,
                                 .host = wire::kHome,
                                 .fork_remote = options_.fork_remote,
                                 .count_objects = options_.count_objects,
                                 .sealed = !options_.redis.empty()},
                                std::move(*key));
  if (!core) return core.error();
  core_ = std::move(*core);
  report().workers = options_.workers;
  core_->SetPacket([this](ConnectionId id, Connections::Packet packet) { OnPacket(id, std::move(packet)); });
  core_->SetClosed([this](ConnectionId id) {
    if (deputies_->Owns(id)) deputies_->Closed(id);
  });
  core_->SetFatal([this](const std::string& message) { Fail(message); });
  core_->SetForgotten([this] { FinishIfEmpty(); });
  fcntl(options_.control, F_SETFL, fcntl(options_.control, F_GETFL) | O_NONBLOCK);
  if (auto added = core_->loop().Add(options_.control, EPOLLIN, [this](uint32_t) { OnControl(); }); !added) {
    return added;
  }
  return core_->loop().Add(options_.lifeline, EPOLLIN, [this](uint32_t events) {
    if ((events & EPOLLHUP) == 0) {  // somebody wrote into it: not a sign of anything
      char bytes[256];
      (void)!read(options_.lifeline, bytes, sizeof bytes);
      return;
    }
    core_->loop().Remove(options_.lifeline);
    lifeline_ended_ = true;
    FinishIfEmpty();
  });
}

Status HomeSession::StartBroker() {
  broker::RedisUrl url;
  if (options_.redis.empty()) {
    auto redis = broker::PrivateRedis::Start(
        {.directory = options_.directory,
         .environment = {std::string(abi::kEnvSession) + "=" + options_.session}});
    if (!redis) return redis.error();
    redis_ = std::move(*redis);
    url = redis_->url();
    redis_url_ = "unix://" + layout_.RedisSocket();
    auto added = core_->loop().Add(redis_->pidfd(), EPOLLIN, [this](uint32_t) {
      core_->loop().Remove(redis_->pidfd());
      core_->Fatal("the session's redis-server died");
    });
    if (!added) return added;
  } else {
    auto parsed = broker::ParseRedisUrl(options_.redis);
    if (!parsed) return parsed.error();
    url = *parsed;
    redis_url_ = options_.redis;
  }
  auto client = broker::SyncClient::Connect(url, kConnectLimit);
  if (!client) return client.error();
  const std::string secret = MarkerSecret(core_->key());
  if (auto created = broker::CreateSession(**client, core_->keys(), secret); !created) return created;
  session_created_ = true;
  for (HostId host = 0; !options_.direct && host <= options_.workers; ++host) {
    if (auto joined = broker::JoinHost(**client, core_->keys(), host); !joined) return joined;
  }
  if (auto joined = core_->Join(
          url, secret, options_.redis.empty() ? std::chrono::milliseconds(0) : kPatience, !options_.direct);
      !joined) {
    return joined;
  }
  KeepKeys();
  return Ok{};
}

// The keys expire when nobody is left to do this.
void HomeSession::KeepKeys() {
  core_->loop().After(broker::kHeartbeatInterval, [this] {
    broker::Heartbeat(core_->broker(), core_->keys(), [this](const Status& kept) {
      if (!kept) core_->Fatal(kept.error().message);
    });
    KeepKeys();
  });
}

Status HomeSession::StartStore() {
  store_url_ = options_.store.empty() ? "dir:" + layout_.Store() : options_.store;
  store::StoreOptions limits;
  if (options_.store.empty()) limits.quota_bytes = PrivateStoreQuota(layout_.directory());
  auto store = store::OpenStore(store_url_, limits);
  if (!store) return store.error();
  store_ = *store;
  auto async_store = store::AsyncStore::Create(store_);
  if (!async_store) return async_store.error();
  async_store_ = std::move(*async_store);
  return core_->loop().Add(async_store_->event_fd(), EPOLLIN, [this](uint32_t) { async_store_->Drain(); });
}

Status HomeSession::StartWorkers() {
  auto engine = engine::LocalEngine::Make();
  if (!engine) return engine.error();
  engine_ = std::move(*engine);
  if (auto added = core_->loop().Add(engine_->event_descriptor(), EPOLLIN, [this](uint32_t) { OnEngine(); });
      !added) {
    return added;
  }
  core_->OnMessage<wire::HostHello>([this](HostId from, wire::HostHello&& hello) {
    workers_.Ready(from, hello);
    core_->AddHost(from);
    deputies_->WorkersChanged();
  });
  core_->OnMessage<wire::Heartbeat>(
      [this](HostId from, wire::Heartbeat&& beat) { workers_.Report(from, beat); });
  core_->OnMessage<wire::HostBye>(
      [this](HostId from, wire::HostBye&& bye) { OnWorkerGone(from, bye.reason); });
  core_->OnMessage<wire::HostGone>(
      [this](HostId, wire::HostGone&& gone) { OnWorkerGone(gone.host, gone.reason); });
  core_->OnMessage<wire::Note>([this](HostId, wire::Note&& note) { ++report().notes[note.text]; });
  if (!options_.fork_remote) return Ok{};
  const std::string hex = core_->key().ToHex();
  key_.Reset(memfd_create("elsewhere-key", MFD_CLOEXEC));
  if (!key_ || pwrite(key_.get(), hex.data(), hex.size(), 0) != static_cast<ssize_t>(hex.size())) {
    return Error{errno, "no memory for the session key"};
  }
  for (HostId host = 1; host <= options_.workers; ++host) {
    if (auto started = StartOneWorker(host); !started) return started;
  }
  last_host_ = options_.workers;
  LookForSilentWorkers();
  return Ok{};
}

Status HomeSession::StartOneWorker(HostId host) {
  engine::WorkerCommand command;
  command.arguments = {ProgramPath(), "worker",           "--session", options_.session,
                       "--directory", options_.directory, "--host",    std::to_string(host),
                       "--store",     store_url_,         "--key",     std::to_string(key_.get())};
  if (!options_.store.empty()) command.arguments.push_back("--sealed-packs");
  if (!options_.redis.empty()) command.arguments.push_back("--sealed-messages");
  if (options_.verbose) command.arguments.push_back("--verbose");
  if (options_.count_objects) command.arguments.push_back("--count-objects");
  if (!options_.files.maps.empty()) {
    const FileOptions& files = options_.files;
    for (std::string argument : {std::string("--maps"), files.maps, std::string("--file-cache"),
                                 files.cache + "-" + std::to_string(host), std::string("--cache-size"),
                                 std::to_string(files.cache_bytes)})
      command.arguments.push_back(std::move(argument));
    if (!files.endpoint.empty()) {
      command.arguments.push_back("--endpoint");
      command.arguments.push_back(files.endpoint);
    }
  }
  command.environment = {std::string(abi::kEnvSession) + "=" + options_.session,
                         std::string(kEnvRedis) + "=" + redis_url_};
  for (const char* name : {"PATH", "TMPDIR", "LANG"}) {
    if (const char* value = std::getenv(name)) command.environment.push_back(std::string(name) + "=" + value);
  }
  for (std::string& variable : store::StoreEnvironment()) command.environment.push_back(std::move(variable));
  command.descriptors = {key_.get()};
  store::UniqueFd worker_end;
  if (options_.direct) {
    auto ends = Link::Make();
    if (!ends) return ends.error();
    worker_end = std::move(ends->worker);
    command.descriptors.push_back(worker_end.get());
    command.arguments.insert(command.arguments.end(), {"--link", std::to_string(worker_end.get())});
    if (auto added = core_->AddLink(host, std::move(ends->home)); !added) return added;
  }
  if (auto started = engine_->Start(host, command); !started) return started;
  workers_.Expect(host);
  return Ok{};
}

// In place of one that is lost. Children that find no other worker wait for it.
void HomeSession::ReplaceWorker(HostId lost) {
  if (!workers_.Has(lost) || last_host_ >= options_.workers * (1 + kReplacementsPerWorker)) return;
  const HostId host = ++last_host_;
  workers_.Expect(host);
  const auto start = [this, host](const Status& joined) {
    if (core_->ending()) return;
    const Status started = joined ? StartOneWorker(host) : joined;
    if (started) return;
    spdlog::warn("no worker in place of one that was lost: {}", started.error().message);
    workers_.Remove(host);
    deputies_->WorkersChanged();
  };
  if (options_.direct) return start(Ok{});
  broker::JoinHost(core_->broker(), core_->keys(), host, start);
}

// An agent that hangs (stopped, or on a machine that does) is not dead for the engine, but whoever waits for
// its processes waits for ever. Where heartbeats come through the broker, their silence may be the broker's:
// then no interval counts that it did not answer in, and this question is how home notices at all.
void HomeSession::LookForSilentWorkers() {
  core_->loop().After(kLookInterval, [this] {
    if (options_.direct) return CountSilentInterval();
    core_->broker().Command({"PING"}, [this](const broker::Reply&) { CountSilentInterval(); });
  });
}

void HomeSession::CountSilentInterval() {
  for (const HostId host : workers_.Silent(kSilentIntervals)) {
    OnWorkerGone(host,
                 "no sign of life for " + std::to_string((kLookInterval * kSilentIntervals).count()) + " s");
  }
  if (!core_->ending()) LookForSilentWorkers();
}

void HomeSession::RegisterCalls() {
  using abi::Operation;
  core_->OnCall(Operation::kUsage, [this](CallId id, const Call& call) {
    const auto usage = deputies_->usage().Find(static_cast<int32_t>(call.arguments[0]));
    if (!usage) return core_->Complete(id, -1, ESRCH);
    core_->Complete(id, 0, 0, BytesOf(*usage));
  });
  core_->OnCall(Operation::kChildrenUsage, [this](CallId id, const Call& call) {
    core_->Complete(id, 0, 0, BytesOf(deputies_->usage().SumOfChildren(call.kernel_pid)));
  });
  core_->OnCall(Operation::kWhoAmI,
                [this](CallId id, const Call& call) { core_->Complete(id, call.kernel_pid); });
  core_->OnCall(Operation::kKill, [this](CallId id, const Call&) { core_->Complete(id, 0); });
  core_->OnCall(Operation::kNote, [this](CallId, const Call& call) {
    ++report().notes[std::string(call.payload.begin(), call.payload.end())];
  });
}

void HomeSession::OnPacket(ConnectionId connection, Connections::Packet packet) {
  if (deputies_->Owns(connection)) return deputies_->Receive(connection, std::move(packet));
  const abi::Hello* hello = CheckHello(*core_, connection, packet);
  if (hello == nullptr) return;
  if (hello->role == static_cast<uint32_t>(abi::Role::kProcess)) {
    return WelcomeProcess(*core_, connection, *hello);
  }
  const abi::Hello copy = *hello;  // it lies in the packet
  deputies_->Hello(connection, copy, std::move(packet));
}

void HomeSession::OnControl() {
  char bytes[kControlMessageSize];
  for (;;) {
    const ssize_t size = recv(options_.control, bytes, sizeof bytes, MSG_DONTWAIT);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0 && errno == EAGAIN) return;
    if (size <= 0) {
      core_->loop().Remove(options_.control);
      if (!root_ended_) core_->Fatal("the launcher was killed");
      return;
    }
    const std::string message(bytes, static_cast<size_t>(size));
    const size_t blank = message.find(' ');
    OnControlMessage(message.substr(0, blank), blank == std::string::npos ? "" : message.substr(blank + 1));
    if (finished_) return;
  }
}

void HomeSession::OnControlMessage(const std::string& word, const std::string& text) {
  if (word == control::kReport) return TellReport();
  if (word == control::kEnd) return core_->Fatal(text);
  if (word != control::kRootEnded) return;
  root_ended_ = true;
  const int status = std::atoi(text.c_str());
  auto left = std::make_shared<size_t>(core_->components().size() + 1);
  const auto one_less = [this, left, status] {
    if (--*left > 0 || finished_) return;
    TellReport();
    if (WIFSIGNALED(status)) return Finish(true);
    command_settled_ = true;
    FinishIfEmpty();
  };
  for (const auto& component : core_->components()) component->CommandEnded(one_less);
  one_less();
}

// A message to the launcher has room for so many objects and more.
void HomeSession::TellReport() {
  constexpr size_t kMostObjects = 200;
  if (ObjectCounts* counts = core_->object_counts()) {
    size_t others = 0;
    report().objects = counts->Report(kMostObjects, &others);
    report().objects_not_listed = others;
  }
  Tell(std::string(control::kReport) + " " + report().ToJson());
}

void HomeSession::OnEngine() {
  for (const engine::LostWorker& lost : engine_->TakeLost()) {
    // What the worker sent before it died is in its link or stands in our inbox; this goes behind it.
    if (core_->ReadLink(lost.host)) {
      OnWorkerGone(lost.host, lost.reason);
    } else if (!options_.direct) {
      core_->SendToSelf(wire::HostGone{lost.host, lost.reason});
    }
  }
}

void HomeSession::OnWorkerGone(HostId host, const std::string& reason) {
  if (core_->ending()) return;
  spdlog::warn("worker {} is gone: {}", host, reason);
  core_->RemoveHost(host);
  engine_->Stop(host);
  ReplaceWorker(host);
  deputies_->WorkerGone(host, reason);
}

void HomeSession::Tell(const std::string& message) {
  (void)!send(options_.control, message.data(), std::min(message.size(), kControlMessageSize), MSG_NOSIGNAL);
}

void HomeSession::FinishIfEmpty() {
  if (finished_ || !lifeline_ended_ || !command_settled_) return;
  if (deputies_ != nullptr && deputies_->count() != 0) return;
  if (core_->process_count() != 0) return;
  Finish(false);
}

void HomeSession::Fail(const std::string& reason) {
  Tell(std::string(control::kFailed) + " " + reason);
  Finish(true);
}

// Whoever reads from or waits for a child goes first: it must not take the end of the session for the
// child's, and print a result that is wrong.
void HomeSession::KillEverything() {
  struct stat lifeline {};
  fstat(options_.lifeline, &lifeline);
  const SessionMark mark{.id = options_.session, .lifeline_number = -1, .lifeline_inode = lifeline.st_ino};
  for (const pid_t pid : FindProcesses(mark)) {
    const bool deputy = deputies_ != nullptr && deputies_->IsDeputy(pid);
    const bool redis = redis_ != nullptr && redis_->pid() == pid;
    if (!deputy && !redis) kill(pid, SIGKILL);
  }
  StopBroker();
  KillProcesses(mark, kKillLimit);
}

// Its end is expected from now on, also where the loop has seen it already.
void HomeSession::StopBroker() {
  if (redis_ == nullptr) return;
  core_->loop().Remove(redis_->pidfd());
  redis_.reset();
}

void HomeSession::Finish(bool kill_everything) {
  if (finished_) return;
  finished_ = true;
  if (kill_everything) KillEverything();
  if (core_ != nullptr) core_->End();
  if (engine_ != nullptr) engine_->StopAll();
  if (redis_ == nullptr && !options_.redis.empty() && session_created_) {
    const auto url = broker::ParseRedisUrl(options_.redis);
    if (auto removed = broker::RemoveSession(*url, core_->keys(), kRemoveLimit); !removed) {
      spdlog::warn("keys are left to expire: {}", removed.error().message);
    }
  }
  StopBroker();
  if (!options_.store.empty() && store_ != nullptr) {
    if (const auto removed = store_->DeletePrefix(image::PackPrefix(core_->key())); !removed) {
      spdlog::warn("packs are left in the store: {}", removed.error().message);
    }
  }
  RemoveTree(options_.directory);
  Tell(control::kEnded);
  if (core_ != nullptr) core_->loop().Stop();
}

}  // namespace elsewhere::runtime
