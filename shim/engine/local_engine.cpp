#include "shim/engine/local_engine.h"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "shim/engine/namespaces.h"

namespace elsewhere::engine {
namespace {

std::string DescribeEnd(pid_t pid, int status) {
  const std::string who = "local worker (process " + std::to_string(pid) + ") ";
  if (WIFSIGNALED(status)) return who + "was killed by signal " + std::to_string(WTERMSIG(status));
  return who + "ended with status " + std::to_string(WEXITSTATUS(status));
}

}  // namespace

Status ProbeNamespaces() {
  Result<StartedProcess> process = StartProcess({{"/bin/true"}, {}, {}}, /*isolated=*/true);
  if (!process.ok()) return process.error();
  waitpid(process->pid, nullptr, 0);
  close(process->pidfd);
  return Ok{};
}

Result<std::unique_ptr<LocalEngine>> LocalEngine::Make(Isolation isolation) {
  int epoll = epoll_create1(EPOLL_CLOEXEC);
  if (epoll < 0) return Error{errno, std::string("cannot make an epoll descriptor: ") + std::strerror(errno)};
  return std::unique_ptr<LocalEngine>(new LocalEngine(isolation, epoll));
}

LocalEngine::~LocalEngine() {
  StopAll();
  close(epoll_);
}

Status LocalEngine::Start(uint32_t host, const WorkerCommand& command) {
  Result<StartedProcess> process = StartProcess(command, isolation_ == Isolation::kNamespaces);
  if (!process.ok() && isolation_ == Isolation::kNamespaces) {
    note_ = process.error().message;
    process = StartProcess(command, /*isolated=*/false);
    if (process.ok()) isolation_ = Isolation::kNone;
  }
  if (!process.ok()) return process.error();
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.u32 = host;
  if (epoll_ctl(epoll_, EPOLL_CTL_ADD, process->pidfd, &event) != 0) {
    Error error{errno, std::string("cannot watch a worker: ") + std::strerror(errno)};
    kill(process->pid, SIGKILL);
    waitpid(process->pid, nullptr, 0);
    close(process->pidfd);
    return error;
  }
  workers_[host] = {process->pid, process->pidfd};
  return Ok{};
}

void LocalEngine::Stop(uint32_t host) {
  auto worker = workers_.find(host);
  if (worker != workers_.end()) kill(worker->second.pid, SIGKILL);
}

LostWorker LocalEngine::Reap(uint32_t host, const Worker& worker) {
  int status = 0;
  while (waitpid(worker.pid, &status, 0) < 0 && errno == EINTR) {
  }
  close(worker.pidfd);
  return {host, DescribeEnd(worker.pid, status)};
}

std::vector<LostWorker> LocalEngine::TakeLost() {
  std::vector<LostWorker> lost;
  std::array<epoll_event, 64> events;
  int count = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), 0);
  for (int index = 0; index < count; ++index) {
    auto worker = workers_.find(events[static_cast<size_t>(index)].data.u32);
    if (worker == workers_.end()) continue;
    lost.push_back(Reap(worker->first, worker->second));
    workers_.erase(worker);
  }
  return lost;
}

void LocalEngine::StopAll() {
  for (const auto& [host, worker] : workers_) kill(worker.pid, SIGKILL);
  for (const auto& [host, worker] : workers_) Reap(host, worker);
  workers_.clear();
}

pid_t LocalEngine::pid(uint32_t host) const {
  auto worker = workers_.find(host);
  return worker == workers_.end() ? 0 : worker->second.pid;
}

}  // namespace elsewhere::engine
