// Pids, process groups and sessions as the program sees them on a worker: home's.
//
// Groups and sessions are those of the deputies, so their calls are made there. setpgid is made here too, as
// far as it can be, so that waiting for a group sees the same children.
#include <errno.h>
#include <unistd.h>

#include "preload/agent.h"
#include "preload/children.h"
#include "preload/home_call.h"
#include "preload/hooks.h"
#include "preload/real.h"
#include "preload/self.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {
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

}  // namespace hooks
}  // namespace elsewhere::preload
