// fork().
//
// At home the child of the real fork is the deputy of a child that runs elsewhere (preload/deputy.h); the parent
// returns at once.
//
// On a worker a fork is the kernel's: the child stays on the same host, a true snapshot for free. Its pid in
// the session is that of a deputy which the caller's deputy forks at home; until that is known the parent
// does not return, with signals blocked so that no handler waits for a child that has no name yet. The child
// asks for its own pid when the program does.
#include <errno.h>
#include <pty.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <utmp.h>

#include "preload/agent.h"
#include "preload/capture/context.h"
#include "preload/children.h"
#include "preload/deputy.h"
#include "preload/fork.h"
#include "preload/hooks.h"
#include "preload/real.h"
#include "preload/self.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {
namespace {

constinit std::atomic<bool> had_remote_children = false;

uint64_t SetSignalMask(uint64_t mask) {
  uint64_t before = 0;
  raw::Syscall(SYS_rt_sigprocmask, SIG_SETMASK, raw::Address(&mask), raw::Address(&before), sizeof mask);
  return before;
}

using ForkFunction = RealFunction<pid_t()>;

pid_t ForkOnWorker(const ForkFunction& real_fork) {
  const uint64_t mask = SetSignalMask(~uint64_t{0});
  pid_t pid = real_fork();
  if (pid == 0) {
    ResetSelfAfterFork();
  } else if (pid > 0) {
    pid = RegisterNestedChild(pid);
  }
  SetSignalMask(mask);
  return pid;
}

pid_t ForkLocally(const ForkFunction& real_fork) {
  const pid_t pid = real_fork();
  if (pid == 0) ResetSelfAfterFork();
  return pid;
}

// In the child of a fork at home. Returns where the child is to run: here if it was not taken, on a worker the second
// time. A frame of its own: what it knew before the capture is what it knows after the restore.
__attribute__((noinline)) void LeaveHome(uint64_t fork_nanoseconds) {
  ResetSelfAfterFork();
  image::Registers registers;
  if (elsewhere_context_save(&registers) == 0) {
    BeDeputy(registers, fork_nanoseconds);
  } else {
    BecomeRestored(restore_note);
  }
}

pid_t ForkRemotely(const ForkFunction& real_fork) {
  timespec now{};
  raw::Syscall(SYS_clock_gettime, CLOCK_MONOTONIC, raw::Address(&now));
  const uint64_t nanoseconds = static_cast<uint64_t>(now.tv_sec) * 1000000000U + static_cast<uint64_t>(now.tv_nsec);
  const uint64_t mask = SetSignalMask(~uint64_t{0});
  const pid_t pid = real_fork();
  if (pid == 0) {
    LeaveHome(nanoseconds);
  } else if (pid > 0) {
    had_remote_children.store(true, std::memory_order_relaxed);
  }
  SetSignalMask(mask);
  return pid;
}

pid_t Fork(const ForkFunction& real_fork) {
  if (OnWorker()) return ForkOnWorker(real_fork);
  return self.in_session && self.fork_remote ? ForkRemotely(real_fork) : ForkLocally(real_fork);
}

}  // namespace

bool HadRemoteChildren() {
  return had_remote_children.load(std::memory_order_relaxed);
}

pid_t RegisterNestedChild(pid_t kernel_pid) {
  const auto session_pid = static_cast<pid_t>(CallAgent(abi::Operation::kNestedFork, {kernel_pid}));
  if (session_pid > 0) {
    AddChild(kernel_pid, session_pid);
    return session_pid;
  }
  const int error = errno == 0 ? EAGAIN : errno;
  raw::Syscall(SYS_kill, kernel_pid, SIGKILL);
  raw::Syscall(SYS_wait4, kernel_pid, 0, 0, 0);
  errno = error;
  return -1;
}

namespace hooks {

pid_t fork() {
  return Fork(real::fork);
}
pid_t _Fork() {
  return Fork(real::_Fork);
}

// Libc's own would fork without us; these are made of the same parts (source: login_tty(3), daemon(3)).
pid_t forkpty(int* primary, char* name, const struct termios* attributes, const struct winsize* size) {
  int main_end, terminal;
  if (openpty(&main_end, &terminal, name, attributes, size) != 0) return -1;
  const pid_t pid = hooks::fork();
  if (pid == 0) {
    raw::Close(main_end);
    if (login_tty(terminal) != 0) ::_exit(1);
    return 0;
  }
  raw::Close(terminal);
  if (pid < 0) {
    raw::Close(main_end);
    return -1;
  }
  *primary = main_end;
  return pid;
}

}  // namespace hooks
}  // namespace elsewhere::preload
