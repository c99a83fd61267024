// The worker's agent: pid 1 of its namespaces where there are any.
#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>

#include "runtime/agent_core.h"
#include "runtime/components.h"
#include "runtime/modes.h"
#include "runtime/process_setup.h"
#include "runtime/registrar.h"
#include "runtime/worker_jobs.h"
#include "runtime/worker_pool.h"

namespace elsewhere::runtime {
namespace {

constexpr std::chrono::seconds kHeartbeat{2};
constexpr std::chrono::milliseconds kPatience{30'000};

constexpr std::chrono::seconds kLastWords{1};  // a broker that does not answer

class WorkerAgent {
 public:
  using Arguments = std::map<std::string, std::string>;
  Status Start(Arguments& arguments);
  int Run() {
    core_->loop().Run([this](const std::string& what) { Leave(1, what); });
    return status_;
  }

 private:
  void OnPacket(ConnectionId connection, const Connections::Packet& packet);
  void Beat();
  void Leave(int status, const std::string& reason);

  std::shared_ptr<store::ObjectStore> store_;
  std::unique_ptr<store::AsyncStore> async_store_;
  std::unique_ptr<AgentCore> core_;
  std::unique_ptr<image::PackCache> packs_;
  std::unique_ptr<WorkerJobs> jobs_;
  uint32_t slots_ = 1;
  int status_ = 0;
  bool leaving_ = false;
};

Result<store::SessionKey> ReadKey(int descriptor) {
  char hex[64];
  ssize_t size = pread(descriptor, hex, sizeof hex, 0);
  if (size < 0) size = read(descriptor, hex, sizeof hex);
  close(descriptor);
  return store::SessionKey::FromHex(std::string_view(hex, size > 0 ? static_cast<size_t>(size) : 0));
}

Status WorkerAgent::Start(Arguments& arguments) {
  for (const char* needed : {"session", "directory", "host", "store", "key"}) {
    if (!arguments.contains(needed)) return Error{EINVAL, std::string("worker: --") + needed + " is missing"};
  }
  const auto host = static_cast<HostId>(std::stoul(arguments["host"]));
  SessionLayout layout(arguments["directory"]);
  StartLog(layout.Log(host), "worker " + std::to_string(host), arguments.contains("verbose"));
  auto key = ReadKey(std::stoi(arguments["key"]));
  if (!key) return key.error();
  const std::string secret = MarkerSecret(*key);
  auto core = AgentCore::Create({.session = arguments["session"],
                                 .directory = arguments["directory"],
                                 .host = host,
                                 .count_objects = arguments.contains("count-objects"),
                                 .sealed = arguments.contains("sealed-messages")},
                                std::move(*key));
  if (!core) return core.error();
  core_ = std::move(*core);
  core_->SetPacket([this](ConnectionId id, const Connections::Packet& packet) { OnPacket(id, packet); });
  core_->SetClosed([](ConnectionId) {});
  core_->SetFatal([this](const std::string& message) { Leave(1, message); });
  auto listener = Connections::Listen(layout.AgentSocket(host));
  if (!listener) return listener.error();
  if (auto served = core_->connections().Serve(std::move(*listener)); !served) return served;

  auto store = store::OpenStore(arguments["store"]);
  if (!store) return store.error();
  store_ = *store;
  auto async_store = store::AsyncStore::Create(store_);
  if (!async_store) return async_store.error();
  async_store_ = std::move(*async_store);
  if (auto added =
          core_->loop().Add(async_store_->event_fd(), EPOLLIN, [this](uint32_t) { async_store_->Drain(); });
      !added) {
    return added;
  }
  const bool sealed = arguments.contains("sealed-packs");
  std::shared_ptr<store::ObjectStore> cache;
  if (sealed || !arguments["store"].starts_with("dir:")) {
    auto opened = store::OpenStore("dir:" + layout.Cache(host));
    if (!opened) return opened.error();
    cache = *opened;
  }
  packs_ = std::make_unique<image::PackCache>(
      *async_store_, cache, core_->key(),
      image::PackCache::Options{.sealed = sealed,
                                .max_open = std::min<size_t>(4096, core_->room().limit() / 8)});

  const std::string redis = TakeVariable(kEnvRedis);
  const auto url = broker::ParseRedisUrl(redis);
  if (!url) return url.error();
  const bool private_redis = redis == "unix://" + layout.RedisSocket();
  const bool linked = arguments.contains("link");
  if (auto joined =
          core_->Join(*url, secret, private_redis ? std::chrono::milliseconds(0) : kPatience, !linked);
      !joined) {
    return joined;
  }
  if (linked) {
    store::UniqueFd link(std::stoi(arguments["link"]));
    fcntl(link.get(), F_SETFD, FD_CLOEXEC);
    if (auto added = core_->AddLink(wire::kHome, std::move(link)); !added) return added;
  }
  core_->AddHost(wire::kHome);
  if (auto added = AddComponents(*core_, FileOptionsOf(arguments)); !added) return added;
  jobs_ = std::make_unique<WorkerJobs>(*core_, *packs_, [this](const std::string& why) { Leave(1, why); });
  core_->OnMessage<wire::Shutdown>([this](HostId, wire::Shutdown&&) { Leave(0, ""); });
  if (auto child =
          core_->loop().OnSignal(SIGCHLD, [this](const signalfd_siginfo&) { jobs_->ReapChildren(); });
      !child) {
    return child;
  }
  if (auto started = jobs_->Start(RestorerPath()); !started) return started;

  const long cores = sysconf(_SC_NPROCESSORS_ONLN);
  slots_ = arguments.contains("slots") ? static_cast<uint32_t>(std::stoul(arguments["slots"]))
                                       : static_cast<uint32_t>(std::max(cores, 1L));
  core_->Send(wire::kHome, wire::HostHello{.slots = slots_,
                                           .memory_free = AvailableMemory(),
                                           .cpu_features = image::ThisCpu(),
                                           .machine = MachineName()});
  core_->loop().After(kHeartbeat, [this] { Beat(); });
  return Ok{};
}

void WorkerAgent::OnPacket(ConnectionId connection, const Connections::Packet& packet) {
  const abi::Hello* hello = CheckHello(*core_, connection, packet);
  if (hello == nullptr) return;
  WelcomeProcess(*core_, connection, *hello);
}

void WorkerAgent::Beat() {
  core_->SendAlone(wire::kHome, wire::Heartbeat{static_cast<uint32_t>(jobs_->running()), AvailableMemory()});
  core_->loop().After(kHeartbeat, [this] { Beat(); });
}

void WorkerAgent::Leave(int status, const std::string& reason) {
  if (leaving_) return;
  leaving_ = true;
  if (status != 0) {
    spdlog::error("leaving: {}", reason);
    core_->Send(wire::kHome, wire::HostBye{reason});
  }
  status_ = status;
  jobs_->KillAll();  // first: no process may see its calls fail because the session ends
  core_->End();
  if (status == 0) return core_->loop().Stop();
  // Home must find the reason before it sees that this worker is gone. The broker answers in order.
  core_->broker().Command({"PING"}, [this](const broker::Reply&) { core_->loop().Stop(); });
  core_->loop().After(kLastWords, [this] { core_->loop().Stop(); });
}

}  // namespace

int WorkerMain(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN);
  RaiseDescriptorLimit();
  auto arguments = ParseArguments(argc, argv, " verbose sealed-packs sealed-messages count-objects ");
  if (!arguments) {
    std::fprintf(stderr, "elsewhere: %s\n", arguments.error().message.c_str());
    return 125;
  }
  WorkerAgent worker;
  if (const auto started = worker.Start(*arguments); !started) {
    spdlog::error("cannot start: {}", started.error().message);
    std::fprintf(stderr, "elsewhere: a worker cannot start: %s\n", started.error().message.c_str());
    return 125;
  }
  return worker.Run();
}

}  // namespace elsewhere::runtime
