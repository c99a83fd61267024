// Calls of the process family on a worker: what must be asked of home. Rules in worker_jobs.h.
#include <spdlog/spdlog.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstring>

#include "runtime/worker_jobs.h"

namespace elsewhere::runtime {
namespace {

// 0: there is no such process.
int32_t ParentOf(int32_t pid) {
  char path[32];
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  FILE* file = fopen(path, "re");
  if (file == nullptr) return 0;
  char text[1024];
  const size_t size = fread(text, 1, sizeof text - 1, file);
  fclose(file);
  text[size] = 0;
  const char* after_name = strrchr(text, ')');
  int parent = 0;
  if (after_name == nullptr || sscanf(after_name + 1, " %*c %d", &parent) != 1) return 0;
  return parent;
}

}  // namespace

void WorkerJobs::RegisterCalls() {
  using abi::Operation;
  core_.OnCall(Operation::kNestedFork, [this](CallId id, const Call& call) { NestedFork(id, call); });
  core_.OnCall(Operation::kWhoAmI, [this](CallId id, const Call& call) {
    const Process* process = core_.FindKernelPid(call.kernel_pid);
    if (process != nullptr && process->session_pid != 0) return core_.Complete(id, process->session_pid);
    who_am_i_.emplace(call.kernel_pid, id);
    FailOrphanedQuestions();
  });
  core_.OnCall(Operation::kHomeCall, [this](CallId id, const Call& call) {
    std::array<int64_t, 6> arguments{};
    std::copy(call.arguments.begin() + 1, call.arguments.begin() + 6, arguments.begin());
    AskHome(id, call, call.arguments[0], arguments);
  });
  core_.OnCall(Operation::kParent,
               [this](CallId id, const Call& call) { AskHome(id, call, SYS_getppid, {}); });
  core_.OnCall(Operation::kKill, [this](CallId id, const Call& call) {
    const Process* target = core_.FindSessionPid(static_cast<int32_t>(call.arguments[0]));
    const auto running = target == nullptr ? running_.end() : running_.find(target->incarnation);
    if (call.arguments[1] == SIGKILL && running != running_.end()) running->second.kill_expected = true;
    core_.Complete(id, 0);
  });
  core_.OnCall(Operation::kUsage, [this](CallId id, const Call&) { core_.Complete(id, -1, ESRCH, {}); });
  core_.OnCall(Operation::kChildrenUsage, [this](CallId id, const Call&) {
    const rusage none{};
    core_.Complete(id, 0, 0, std::span(reinterpret_cast<const uint8_t*>(&none), sizeof none));
  });
  core_.OnCall(Operation::kNote, [this](CallId, const Call& call) {
    core_.Send(wire::kHome, wire::Note{std::string(call.payload.begin(), call.payload.end())});
  });
  core_.OnMessage<wire::HomeResult>([this](HostId, wire::HomeResult&& result) {
    const auto pending = home_calls_.find(result.id);
    if (pending == home_calls_.end()) return;
    const CallId id = pending->second;
    home_calls_.erase(pending);
    const bool failed = result.result < 0 && result.result > -4096;
    core_.Complete(id, failed ? -1 : result.result, failed ? static_cast<int>(-result.result) : 0, {});
  });
}

void WorkerJobs::AskHome(CallId id, const Call& call, int64_t number, std::array<int64_t, 6> arguments) {
  if (call.incarnation == 0) return core_.Complete(id, -1, ENOSYS, {});  // it has no deputy
  const uint64_t request = ++last_home_call_;
  home_calls_[request] = id;
  core_.Send(wire::kHome, wire::HomeCall{call.incarnation, request, number, arguments});
}

void WorkerJobs::NestedFork(CallId id, const Call& call) {
  const auto child_pid = static_cast<int32_t>(call.arguments[0]);
  if (call.incarnation == 0) return core_.Complete(id, -1, ENOSYS, {});
  const Incarnation child = core_.NewIncarnation();
  const Process process{
      .kernel_pid = child_pid, .session_pid = 0, .incarnation = child, .runs_on = core_.host()};
  const auto registered = core_.Register(process, [this](const Process& gone) { NestedEnded(gone); });
  if (!registered) return core_.Complete(id, -1, ESRCH, {});
  by_kernel_pid_[child_pid] = child;
  running_[child] = Running{.kernel_pid = child_pid, .nested = true};
  forking_[child] = id;
  const Process* parent = core_.FindProcess(call.incarnation);
  for (auto& component : core_.components()) component->ProcessStarted(**registered, parent);
  core_.Send(wire::kHome, wire::NestedFork{call.incarnation, child, child_pid});
}

void WorkerJobs::OnNestedForked(const wire::NestedForked& forked) {
  if (forked.session_pid > 0) core_.SetSessionPid(forked.child, forked.session_pid);
  const Process* process = core_.FindProcess(forked.child);
  if (process != nullptr) AnswerWhoAmI(process->kernel_pid, forked.session_pid, forked.error);
  const auto caller = forking_.find(forked.child);
  if (caller == forking_.end()) return;
  const CallId id = caller->second;
  forking_.erase(caller);
  core_.Complete(id, forked.session_pid, forked.error, {});
}

void WorkerJobs::AnswerWhoAmI(int32_t kernel_pid, int32_t session_pid, int error) {
  const auto [first, last] = who_am_i_.equal_range(kernel_pid);
  for (auto asked = first; asked != last; ++asked) core_.Complete(asked->second, session_pid, error, {});
  who_am_i_.erase(first, last);
}

// A child that asks who it is waits for its parent to report it. If the parent died before that, nobody will.
void WorkerJobs::FailOrphanedQuestions() {
  std::vector<int32_t> orphans;
  for (const auto& [pid, id] : who_am_i_) {
    if (core_.FindKernelPid(pid) != nullptr) continue;
    const int32_t parent = ParentOf(pid);
    if (parent == 0 || parent == getpid()) orphans.push_back(pid);
  }
  for (int32_t pid : orphans) AnswerWhoAmI(pid, -1, ESRCH);
}

}  // namespace elsewhere::runtime
