// Calls of the process family on a worker: what must be asked of home. Rules in worker_jobs.h.
#include <spdlog/spdlog.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstring>

#include "runtime/clock.h"
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
  core_.OnCall(Operation::kWhoAmI,
               [this](CallId id, const Call& call) { Ask(call, Question{.call = id, .who_am_i = true}); });
  core_.OnCall(Operation::kHomeCall, [this](CallId id, const Call& call) {
    Question question{.call = id, .number = call.arguments[0]};
    std::copy(call.arguments.begin() + 1, call.arguments.begin() + 6, question.arguments.begin());
    Ask(call, question);
  });
  core_.OnCall(Operation::kParent, [this](CallId id, const Call& call) {
    Ask(call, Question{.call = id, .number = SYS_getppid});
  });
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

// A restored process can call before its restorer's word that it has begun was read here; that word is on its
// way by then.
Incarnation WorkerJobs::CallerOf(int32_t kernel_pid) {
  const auto known = by_kernel_pid_.find(kernel_pid);
  const bool begun = known != by_kernel_pid_.end() && FindStarting(known->second) == nullptr;
  if (!begun && !starting_.empty()) zygote_->ReadReports();
  const Process* process = core_.FindKernelPid(kernel_pid);
  return process == nullptr ? Incarnation{0} : process->incarnation;
}

void WorkerJobs::Ask(const Call& call, Question question) {
  const Process* process = core_.FindKernelPid(call.kernel_pid);
  questions_.emplace(call.kernel_pid, question);
  if (process != nullptr && process->session_pid != 0) return AnswerQuestions(*process);
  FailOrphanedQuestions();
}

void WorkerJobs::AskHome(Incarnation incarnation, const Question& question) {
  const uint64_t request = ++last_home_call_;
  home_calls_[request] = question.call;
  core_.Send(wire::kHome, wire::HomeCall{incarnation, request, question.number, question.arguments});
}

void WorkerJobs::AnswerQuestions(const Process& process) {
  const auto [first, last] = questions_.equal_range(process.kernel_pid);
  std::vector<Question> questions;
  for (auto question = first; question != last; ++question) questions.push_back(question->second);
  questions_.erase(first, last);
  for (const Question& question : questions) {
    if (question.who_am_i) {
      core_.Complete(question.call, process.session_pid);
    } else {
      AskHome(process.incarnation, question);
    }
  }
}

void WorkerJobs::FailQuestions(int32_t kernel_pid, int error) {
  const auto [first, last] = questions_.equal_range(kernel_pid);
  for (auto question = first; question != last; ++question) core_.Complete(question->second.call, -1, error);
  questions_.erase(first, last);
}

// A child that asks waits for its parent to report it. If the parent died before that, nobody will.
void WorkerJobs::FailOrphanedQuestions() {
  std::vector<int32_t> orphans;
  for (const auto& [pid, question] : questions_) {
    const Process* process = core_.FindKernelPid(pid);
    if (process != nullptr && process->incarnation != 0) continue;
    const int32_t parent = ParentOf(pid);
    if (parent == 0 || parent == getpid()) orphans.push_back(pid);
  }
  for (int32_t pid : orphans) FailQuestions(pid, ESRCH);
}

void WorkerJobs::NestedFork(CallId id, const Call& call) {
  const auto child_pid = static_cast<int32_t>(call.arguments[0]);
  if (call.incarnation == 0) return core_.Complete(id, -1, ENOSYS, {});
  const Incarnation child = core_.NewIncarnation();
  const auto gone = [this](const Process& ended) { NestedEnded(ended); };
  const Process* known = core_.FindKernelPid(child_pid);
  if (known != nullptr && known->incarnation == 0) {  // it has said Hello before its parent got here
    core_.Adopt(child_pid, child, gone);
  } else {
    const Process process{.kernel_pid = child_pid, .incarnation = child, .runs_on = core_.host()};
    if (!core_.Register(process, gone)) return ForkedAndGone(id, call.incarnation, child, child_pid);
  }
  by_kernel_pid_[child_pid] = child;
  running_[child] = Running{.kernel_pid = child_pid, .nested = true};
  forking_[child] = id;
  const Process* parent = core_.FindProcess(call.incarnation);
  const Process* started = core_.FindProcess(child);
  for (auto& component : core_.components()) component->ProcessStarted(*started, parent);
  core_.Send(wire::kHome, wire::NestedFork{call.incarnation, child, child_pid});
}

// It has ended, and as the parent ignores SIGCHLD the kernel has forgotten it. Nobody can ask for its status,
// but the fork has happened: it gets its pid, and ends at home, too.
void WorkerJobs::ForkedAndGone(CallId id, Incarnation parent, Incarnation child, int32_t kernel_pid) {
  forking_[child] = id;
  core_.Send(wire::kHome, wire::NestedFork{parent, child, kernel_pid});
  core_.Send(wire::kHome, wire::Exited{.incarnation = child, .expected = true, .ended_nanoseconds = Now()});
}

void WorkerJobs::OnNestedForked(const wire::NestedForked& forked) {
  if (forked.session_pid > 0) core_.SetSessionPid(forked.child, forked.session_pid);
  if (const Process* process = core_.FindProcess(forked.child)) {
    if (forked.session_pid > 0) AnswerQuestions(*process);
    if (forked.session_pid <= 0) FailQuestions(process->kernel_pid, forked.error);
  }
  const auto caller = forking_.find(forked.child);
  if (caller == forking_.end()) return;
  const CallId id = caller->second;
  forking_.erase(caller);
  core_.Complete(id, forked.session_pid, forked.error, {});
}

}  // namespace elsewhere::runtime
