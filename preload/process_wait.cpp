// Waiting for children, and what they used.
//
// On a worker children are the kernel's children there, under kernel pids: arguments and answers are
// translated. At home the kernel waits for the deputy, whose own usage says nothing; where the caller asks
// for the usage, the agent is asked what the remote child used. Only a process that has an agent's connection
// can have had one, so others ask nobody. A child that is seen stopped or killed at home is its deputy; the
// process itself stops or dies a moment later where it runs, and that moment is waited for here: a child that
// its parent has reaped takes no semaphore and writes nothing any more.
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/times.h>
#include <sys/wait.h>
#include <unistd.h>

#include "preload/agent.h"
#include "preload/children.h"
#include "preload/fork.h"
#include "preload/hooks.h"
#include "preload/real.h"
#include "preload/self.h"

namespace elsewhere::preload {
namespace {

bool HasEnded(int status) {
  return WIFEXITED(status) || WIFSIGNALED(status);
}

// The kernel's argument for the program's: a pid, or a negative group, or 0, or -1.
pid_t ToKernel(pid_t pid) {
  if (pid == -1 || pid == 0) return pid;
  const pid_t kernel_pid = KernelPidOf(pid > 0 ? pid : -pid);
  return pid > 0 ? kernel_pid : -kernel_pid;
}

// A child that nobody here made by a hook keeps the kernel's pid.
pid_t ToSession(pid_t kernel_pid) {
  const pid_t session_pid = SessionPidOf(kernel_pid);
  return session_pid != 0 ? session_pid : kernel_pid;
}

pid_t WaitOnWorker(pid_t pid, int* status, int options, struct rusage* usage) {
  const pid_t target = ToKernel(pid);
  if (target == 0 && pid != 0) {
    errno = ECHILD;
    return -1;
  }
  int local_status = 0;
  const pid_t kernel_pid = real::wait4(target, &local_status, options, usage);
  if (kernel_pid <= 0) return kernel_pid;
  if (status != nullptr) *status = local_status;
  const pid_t session_pid = ToSession(kernel_pid);
  if (HasEnded(local_status)) RemoveChild(kernel_pid);
  return session_pid;
}

// Replaces what the deputy used by what the child used.
void AskUsage(pid_t child, struct rusage* usage) {
  if (usage == nullptr || !HadRemoteChildren()) return;
  const int before = errno;
  struct rusage remote;
  if (CallAgent(abi::Operation::kUsage, {child}, {.answer = &remote, .room = sizeof remote}) >= 0)
    *usage = remote;
  errno = before;
}

// The caller has seen this child of home stopped, or killed. By another signal than SIGKILL the deputy ends
// when it is told that the child did.
void AwaitChild(abi::Operation seen, pid_t child) {
  if (!HadRemoteChildren()) return;
  const int before = errno;
  CallAgent(seen, {child});
  errno = before;
}

void Add(struct timeval* sum, const struct timeval& more) {
  sum->tv_sec += more.tv_sec;
  sum->tv_usec += more.tv_usec;
  if (sum->tv_usec >= 1'000'000) {
    sum->tv_usec -= 1'000'000;
    ++sum->tv_sec;
  }
}

// What remote children used, to be added to what the kernel says of children at home. False: there were none.
bool RemoteChildrenUsage(struct rusage* usage) {
  if (OnWorker() || !HadRemoteChildren()) return false;
  const int before = errno;
  const bool told =
      CallAgent(abi::Operation::kChildrenUsage, {}, {.answer = usage, .room = sizeof *usage}) >= 0;
  errno = before;
  return told;
}

clock_t Ticks(const struct timeval& time) {
  const long per_second = sysconf(_SC_CLK_TCK);
  return time.tv_sec * per_second + time.tv_usec * per_second / 1'000'000;
}

}  // namespace

namespace hooks {

pid_t wait4(pid_t pid, int* status, int options, struct rusage* usage) {
  if (OnWorker()) return WaitOnWorker(pid, status, options, usage);
  int local_status = 0;
  const pid_t child = real::wait4(pid, &local_status, options, usage);
  if (child <= 0) return child;
  if (status != nullptr) *status = local_status;
  if (WIFSIGNALED(local_status) && WTERMSIG(local_status) == SIGKILL)
    AwaitChild(abi::Operation::kKilled, child);
  if (HasEnded(local_status)) AskUsage(child, usage);
  if (WIFSTOPPED(local_status)) AwaitChild(abi::Operation::kStopped, child);
  return child;
}

pid_t wait3(int* status, int options, struct rusage* usage) {
  return hooks::wait4(-1, status, options, usage);
}
pid_t wait(int* status) {
  return hooks::wait4(-1, status, 0, nullptr);
}
pid_t waitpid(pid_t pid, int* status, int options) {
  return hooks::wait4(pid, status, options, nullptr);
}

int waitid(idtype_t type, id_t id, siginfo_t* info, int options) {
  if (!OnWorker()) {
    siginfo_t local;
    siginfo_t* seen = info != nullptr ? info : &local;
    seen->si_pid = 0;
    const int result = real::waitid(type, id, seen, options);
    if (result != 0 || seen->si_pid == 0) return result;
    if (seen->si_code == CLD_STOPPED) AwaitChild(abi::Operation::kStopped, seen->si_pid);
    if (seen->si_code == CLD_KILLED && seen->si_status == SIGKILL)
      AwaitChild(abi::Operation::kKilled, seen->si_pid);
    return result;
  }
  id_t target = id;
  if ((type == P_PID || type == P_PGID) && id != 0) {
    target = static_cast<id_t>(KernelPidOf(static_cast<pid_t>(id)));
    if (target == 0) {
      errno = ECHILD;
      return -1;
    }
  }
  siginfo_t local;
  memset(&local, 0, sizeof local);
  const int result = real::waitid(type, target, &local, options);
  const pid_t kernel_pid = local.si_pid;
  if (result == 0 && kernel_pid != 0) {
    local.si_pid = ToSession(kernel_pid);
    const bool ended =
        local.si_code == CLD_EXITED || local.si_code == CLD_KILLED || local.si_code == CLD_DUMPED;
    if (ended && (options & WNOWAIT) == 0) RemoveChild(kernel_pid);
  }
  if (result == 0 && info != nullptr) *info = local;
  return result;
}

int getrusage(__rusage_who_t who, struct rusage* usage) {
  const int result = real::getrusage(who, usage);
  struct rusage remote;
  if (result != 0 || who != RUSAGE_CHILDREN || !RemoteChildrenUsage(&remote)) return result;
  Add(&usage->ru_utime, remote.ru_utime);
  Add(&usage->ru_stime, remote.ru_stime);
  if (remote.ru_maxrss > usage->ru_maxrss) usage->ru_maxrss = remote.ru_maxrss;
  usage->ru_minflt += remote.ru_minflt;
  usage->ru_majflt += remote.ru_majflt;
  usage->ru_inblock += remote.ru_inblock;
  usage->ru_oublock += remote.ru_oublock;
  usage->ru_nvcsw += remote.ru_nvcsw;
  usage->ru_nivcsw += remote.ru_nivcsw;
  return result;
}

clock_t times(struct tms* times) {
  const clock_t result = real::times(times);
  struct rusage remote;
  if (times == nullptr || !RemoteChildrenUsage(&remote)) return result;
  times->tms_cutime += Ticks(remote.ru_utime);
  times->tms_cstime += Ticks(remote.ru_stime);
  return result;
}

}  // namespace hooks
}  // namespace elsewhere::preload
