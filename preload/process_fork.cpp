// fork().
//
// At home the parent returns as soon as the kernel's fork does. The child is the deputy: it captures itself,
// and comes back here either in a restored copy on a worker, or as itself when it runs at home after all.
// Signals are blocked from before the fork until the child is what it will be, so that they reach the program
// and not the deputy.
//
// On a worker a fork is the kernel's: the child stays on the same host, a true snapshot for free. Its pid in
// the session is that of a deputy which the caller's deputy forks at home; until that is known the parent
// does not return, with signals blocked so that no handler waits for a child that has no name yet. The child
// asks for its own pid when the program does.
#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>
#include <utmp.h>

#include "preload/agent.h"
#include "preload/capture/context.h"
#include "preload/children.h"
#include "preload/deputy_start.h"
#include "preload/files.h"
#include "preload/fork.h"
#include "preload/hooks.h"
#include "preload/ipc.h"
#include "preload/real.h"
#include "preload/self.h"
#include "preload/session_start.h"
#include "preload/tracing.h"
#include "preload/write_watch.h"
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

// In a child that is an ordinary process of this host.
void BecomeChild() {
  UnmapRecords(TakeRecords());
  ResetSelfAfterFork();
  IpcAfterForkInChild(false);
}

void BecomeDeputyOrChild(pid_t parent, uint64_t start) {
  image::Registers registers;
  ForgetAgentAfterFork();
  IpcAfterForkInChild(true);
  if (elsewhere_context_save(&registers) == 0) {
    BecomeDeputy(registers, parent, start);
    ResetSelfAfterFork();
  } else {
    ContinueElsewhere();
  }
}

pid_t Fork(const ForkFunction& real_fork) {
  const bool elsewhere = !OnWorker() && JoinSession() && self.fork_remote;
  if (elsewhere) FlushFilesBeforeFork();
  if (elsewhere) NoteTracer();
  const uint64_t start = elsewhere ? NowNanoseconds() : 0;
  const pid_t parent = self.kernel_pid;
  const uint64_t mask = SetSignalMask(~uint64_t{0});
  if (elsewhere) had_remote_children.store(true, std::memory_order_relaxed);
  IpcBeforeFork();
  if (elsewhere) WatchBeforeFork();
  pid_t pid = real_fork();
  if (pid != 0) {
    if (elsewhere) WatchAfterForkInParent();
    IpcAfterForkInParent(pid);
    if (pid > 0 && OnWorker()) pid = RegisterNestedChild(pid);
  } else if (WatchAfterForkInChild(); elsewhere) {
    BecomeDeputyOrChild(parent, start);
  } else {
    BecomeChild();
  }
  SetSignalMask(mask);
  return pid;
}

}  // namespace

bool HadRemoteChildren() {
  return had_remote_children.load(std::memory_order_relaxed);
}

pid_t RegisterNestedChild(pid_t kernel_pid) {
  SessionPid();  // this process's own deputy, which forks the child's, may not be there yet
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
    if ((OnWorker() ? hooks::login_tty(terminal) : real::login_tty(terminal)) != 0) real::_exit(1);
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

int daemon(int keep_directory, int keep_descriptors) {
  const pid_t pid = hooks::fork();
  if (pid < 0) return -1;
  if (pid > 0) real::_exit(0);
  if ((OnWorker() ? hooks::setsid() : real::setsid()) < 0) return -1;
  if (keep_directory == 0) raw::Syscall(SYS_chdir, raw::Address("/"));
  if (keep_descriptors != 0) return 0;
  const long null = raw::Syscall(SYS_open, raw::Address("/dev/null"), O_RDWR | O_CLOEXEC);
  if (null < 0) {
    errno = static_cast<int>(-null);
    return -1;
  }
  for (int fd = 0; fd < 3; ++fd) hooks::dup2(static_cast<int>(null), fd);
  if (null > 2) raw::Close(static_cast<int>(null));
  return 0;
}

}  // namespace hooks
}  // namespace elsewhere::preload
