// Pids, process groups and sessions as the program sees them on a worker: home's.
//
// Groups and sessions are those of the deputies, so their calls are made there. setpgid is made here too, as
// far as it can be, so that waiting for a group sees the same children.
#include <errno.h>
#include <sched.h>
#include <unistd.h>

#include "preload/agent.h"
#include "preload/children.h"
#include "preload/home_call.h"
#include "preload/hooks.h"
#include "preload/real.h"
#include "preload/self.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {
namespace {

// A pid argument of a call that is about a process's kernel attributes: 0 means the caller. -1: not on this
// host.
pid_t LocalTarget(pid_t session_pid) {
  if (session_pid <= 0) return session_pid;
  const pid_t kernel_pid = KernelPidOf(session_pid);
  if (kernel_pid != 0) return kernel_pid;
  // A thread's id is the kernel's own.
  return raw::Syscall(SYS_tgkill, raw::Syscall(SYS_getpid), session_pid, 0) == 0 ? session_pid : -1;
}

int NoSuchProcess() {
  errno = ESRCH;
  return -1;
}

}  // namespace

namespace hooks {

pid_t getpid() {
  return SessionPid();
}

pid_t gettid() {
  const pid_t thread = real::gettid();
  return thread == self.kernel_pid.load(std::memory_order_relaxed) ? SessionPid() : thread;
}

pid_t getppid() {
  const pid_t parent = real::getppid();
  const pid_t known = parent > 1 ? SessionPidOf(parent) : 0;
  if (known != 0) return known;
  const int before = errno;
  SessionPid();
  const auto answer = static_cast<pid_t>(CallAgent(abi::Operation::kParent, {}));
  errno = before;
  return answer > 0 ? answer : 1;
}

pid_t getpgrp() {
  return static_cast<pid_t>(HomeCall(SYS_getpgid, {0}));
}
pid_t getpgid(pid_t pid) {
  return static_cast<pid_t>(HomeCall(SYS_getpgid, {pid}));
}
pid_t getsid(pid_t pid) {
  return static_cast<pid_t>(HomeCall(SYS_getsid, {pid}));
}
pid_t setsid() {
  const auto result = static_cast<pid_t>(HomeCall(SYS_setsid, {}));
  if (result >= 0) raw::Syscall(SYS_setsid);
  return result;
}

int setpgid(pid_t pid, pid_t group) {
  const auto result = static_cast<int>(HomeCall(SYS_setpgid, {pid, group}));
  if (result == 0) raw::Syscall(SYS_setpgid, KernelPidOf(pid), KernelPidOf(group));
  return result;
}
int setpgrp() {
  return hooks::setpgid(0, 0);
}

int getpriority(__priority_which_t which, id_t who) {
  if (which != PRIO_PROCESS) return real::getpriority(which, who);
  const pid_t target = LocalTarget(static_cast<pid_t>(who));
  return target < 0 ? NoSuchProcess() : real::getpriority(which, static_cast<id_t>(target));
}
int setpriority(__priority_which_t which, id_t who, int priority) {
  if (which != PRIO_PROCESS) return real::setpriority(which, who, priority);
  const pid_t target = LocalTarget(static_cast<pid_t>(who));
  return target < 0 ? NoSuchProcess() : real::setpriority(which, static_cast<id_t>(target), priority);
}
int sched_getaffinity(pid_t pid, size_t size, cpu_set_t* set) {
  const pid_t target = LocalTarget(pid);
  return target < 0 ? NoSuchProcess() : real::sched_getaffinity(target, size, set);
}
int sched_setaffinity(pid_t pid, size_t size, const cpu_set_t* set) {
  const pid_t target = LocalTarget(pid);
  return target < 0 ? NoSuchProcess() : real::sched_setaffinity(target, size, set);
}
int sched_getparam(pid_t pid, struct sched_param* parameter) {
  const pid_t target = LocalTarget(pid);
  return target < 0 ? NoSuchProcess() : real::sched_getparam(target, parameter);
}
int sched_setparam(pid_t pid, const struct sched_param* parameter) {
  const pid_t target = LocalTarget(pid);
  return target < 0 ? NoSuchProcess() : real::sched_setparam(target, parameter);
}
int sched_getscheduler(pid_t pid) {
  const pid_t target = LocalTarget(pid);
  return target < 0 ? NoSuchProcess() : real::sched_getscheduler(target);
}
int sched_setscheduler(pid_t pid, int policy, const struct sched_param* parameter) {
  const pid_t target = LocalTarget(pid);
  return target < 0 ? NoSuchProcess() : real::sched_setscheduler(target, policy, parameter);
}
int prlimit(pid_t pid, __rlimit_resource_t resource, const struct rlimit* limit, struct rlimit* old) {
  const pid_t target = LocalTarget(pid);
  return target < 0 ? NoSuchProcess() : real::prlimit(target, resource, limit, old);
}
int pidfd_open(pid_t pid, unsigned flags) {
  const pid_t target = LocalTarget(pid);
  return target <= 0 ? NoSuchProcess() : real::pidfd_open(target, flags);
}

}  // namespace hooks
}  // namespace elsewhere::preload
