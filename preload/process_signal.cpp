// Signals by pid, and pids in signals, for a process on a worker (at home all of this is the kernel's).
//
// Sending: to itself, with the kernel's pid. To another process of this host, directly, because parent and
// child share a kernel; a SIGKILL is told to the agent first, which otherwise would take an unexplained death
// for a lost process. To everybody else, and to groups, by the deputy at home, whose process groups are the
// real ones. So do signals that stop or continue another process: its deputy stops and continues with it, and
// one order of these signals, that of their arrival there, holds for both (shim/wire/signal_watch.h).
//
// Receiving: all handlers are kept in `handlers`, the kernel's handler is Deliver. It counts, because a call
// to the agent must know that a handler ran, and translates for those with SA_SIGINFO. What came from home
// says so and is turned into what was sent there (shim/wire/forwarded_signal.h); all else has kernel pids,
// which become the session's.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>

#include <atomic>

#include "preload/agent.h"
#include "preload/children.h"
#include "preload/home_call.h"
#include "preload/hooks.h"
#include "preload/lent_queue.h"
#include "preload/real.h"
#include "preload/self.h"
#include "preload/signals.h"
#include "preload/stream.h"
#include "shim/wire/forwarded_signal.h"
#include "shim/wire/raw_syscall.h"
#include "shim/wire/stream_mark.h"

namespace elsewhere::preload {
namespace {

using Handler = void (*)(int, siginfo_t*, void*);
constinit std::atomic<Handler> handlers[NSIG] = {};
constinit std::atomic<int> flags_of[NSIG] = {};  // as the program gave them
constinit thread_local volatile uint32_t handlers_run = 0;
constinit thread_local volatile uint32_t interruptions = 0;  // those without SA_RESTART

void Deliver(int signal, siginfo_t* info, void* context) {
  const int before = errno;
  handlers_run = handlers_run + 1;
  if ((flags_of[signal].load() & SA_RESTART) == 0) {
    interruptions = interruptions + 1;
    InterruptQueueWait(context);
  }
  TranslateSiginfo(info);
  errno = before;
  const Handler handler = handlers[signal].load();
  if (handler != nullptr) handler(signal, info, context);
}

bool IsOurs(const struct sigaction& action) {
  return (action.sa_flags & SA_SIGINFO) != 0 && action.sa_sigaction == Deliver;
}

bool IsHandled(const struct sigaction& action) {
  return action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN;
}

// Keeps what the program asks for and turns it into what the kernel is asked for.
void TakeOver(int signal, struct sigaction* action) {
  handlers[signal].store(action->sa_sigaction);
  flags_of[signal].store(action->sa_flags);
  action->sa_flags |= SA_SIGINFO;
  action->sa_sigaction = Deliver;
}

// The agent takes a death by SIGKILL that nobody told of for a lost process.
void TellOfKill(pid_t session_pid, int signal) {
  if (signal == SIGKILL) CallAgent(abi::Operation::kKill, {session_pid, signal});
}

bool StopsOrContinues(int signal) {
  return signal == SIGSTOP || signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU ||
         signal == SIGCONT;
}

// Where to send the signal directly; 0: nowhere, its deputy gets it.
pid_t DirectTarget(pid_t session_pid, int signal) {
  const pid_t kernel_pid = KernelPidOf(session_pid);
  if (kernel_pid == 0 || kernel_pid == self.kernel_pid.load(std::memory_order_relaxed)) return kernel_pid;
  return StopsOrContinues(signal) ? 0 : kernel_pid;
}

// `send` makes the system call with a kernel pid, `number` with `arguments` is the same at home.
template <class Send>
int SendTo(pid_t session_pid, int signal, long number, std::initializer_list<int64_t> arguments, Send send) {
  const pid_t kernel_pid = DirectTarget(session_pid, signal);
  if (kernel_pid == 0) return static_cast<int>(HomeCall(number, arguments));
  TellOfKill(session_pid, signal);
  return send(kernel_pid);
}

// What was sent at home, from what the worker's agent could send.
void RestoreForwarded(siginfo_t* info) {
  info->si_code = wire::OriginalCode(info->si_errno);
  info->si_errno = 0;
  const bool has_value = info->si_code < 0 && info->si_code != SI_TKILL;
  if (!has_value) info->si_value.sival_ptr = nullptr;
}

// What this process gets when its parent dies: a fork's child begins without.
struct ParentDeath {
  pid_t process;
  int signal;
};
constinit ParentDeath parent_death{0, 0};

}  // namespace

void TranslateSiginfo(siginfo_t* info) {
  if (info->si_code == SI_QUEUE && wire::IsForwarded(info->si_errno)) return RestoreForwarded(info);
  const bool from_process = info->si_code == SI_USER || info->si_code == SI_QUEUE ||
                            info->si_code == SI_TKILL || info->si_code == SI_MESGQ;
  if (!from_process && info->si_signo != SIGCHLD) return;
  const pid_t session_pid = SessionPidOf(info->si_pid);
  if (session_pid != 0) info->si_pid = session_pid;
}

uint32_t HandlersRun(bool restarting_too) {
  return restarting_too ? handlers_run : interruptions;
}

void TranslateSignals(void* read, ssize_t size) {
  const int before = errno;
  auto* all = static_cast<signalfd_siginfo*>(read);
  for (size_t i = 0; size > 0 && i < static_cast<size_t>(size) / sizeof *all; ++i) {
    siginfo_t info{};
    info.si_signo = static_cast<int>(all[i].ssi_signo);
    info.si_errno = all[i].ssi_errno;
    info.si_code = all[i].ssi_code;
    info.si_pid = static_cast<pid_t>(all[i].ssi_pid);
    const bool forwarded = info.si_code == SI_QUEUE && wire::IsForwarded(info.si_errno);
    TranslateSiginfo(&info);
    all[i].ssi_errno = info.si_errno;
    all[i].ssi_code = info.si_code;
    all[i].ssi_pid = static_cast<uint32_t>(info.si_pid);
    if (forwarded && (info.si_code >= 0 || info.si_code == SI_TKILL)) {
      all[i].ssi_int = 0;
      all[i].ssi_ptr = 0;
    }
  }
  errno = before;
}

void TranslateSignalHandlers() {
  for (int signal = 1; signal < NSIG; ++signal) {
    struct sigaction action;
    if (real::sigaction(signal, nullptr, &action) != 0 || !IsHandled(action) || IsOurs(action)) continue;
    TakeOver(signal, &action);
    real::sigaction(signal, &action, nullptr);
  }
}

namespace hooks {

int kill(pid_t pid, int signal) {
  if (pid <= 0) return static_cast<int>(HomeCall(SYS_kill, {pid, signal}));
  return SendTo(pid, signal, SYS_kill, {pid, signal},
                [=](pid_t target) { return real::kill(target, signal); });
}

int killpg(pid_t group, int signal) {
  if (group < 0) {
    errno = EINVAL;
    return -1;
  }
  return hooks::kill(-group, signal);
}

int sigqueue(pid_t pid, int signal, union sigval value) {
  return SendTo(pid, signal, SYS_rt_sigqueueinfo, {pid, signal, reinterpret_cast<int64_t>(value.sival_ptr)},
                [=](pid_t target) { return real::sigqueue(target, signal, value); });
}

int tgkill(pid_t group, pid_t thread, int signal) {
  const pid_t kernel_group = DirectTarget(group, signal);
  if (kernel_group == 0) return static_cast<int>(HomeCall(SYS_kill, {group, signal}));
  TellOfKill(group, signal);
  return real::tgkill(kernel_group, thread == group ? kernel_group : thread, signal);
}

int raise(int signal) {
  TellOfKill(SessionPid(), signal);
  return real::raise(signal);
}

int pthread_kill(pthread_t thread, int signal) {
  TellOfKill(SessionPid(), signal);
  return real::pthread_kill(thread, signal);
}

// Marked as in images that are restored: a program that is executed finds it again.
int signalfd(int fd, const sigset_t* mask, int flags) {
  const int made = real::signalfd(fd, mask, flags);
  if (made < 0 || fd >= 0) return made;
  raw::Syscall(SYS_fcntl, made, F_SETSIG, static_cast<long>(wire::StreamMark::kSignals));
  FindStream(made);
  return made;
}

int sigaction(int signal, const struct sigaction* action, struct sigaction* old) {
  if (signal < 1 || signal >= NSIG) return real::sigaction(signal, action, old);
  const Handler before = handlers[signal].load();
  const int flags_before = flags_of[signal].load();
  struct sigaction ours;
  if (action != nullptr && IsHandled(*action)) {
    ours = *action;
    TakeOver(signal, &ours);
    action = &ours;
  }
  const int result = real::sigaction(signal, action, old);
  if (result != 0) {
    handlers[signal].store(before);
    flags_of[signal].store(flags_before);
  } else if (old != nullptr && IsOurs(*old)) {
    old->sa_sigaction = before;
    if ((flags_before & SA_SIGINFO) == 0) old->sa_flags &= ~SA_SIGINFO;
  }
  return result;
}

// Libc's would hand out our own handler as the one that was installed before.
sighandler_t signal(int signal, sighandler_t handler) {
  struct sigaction action = {}, old;
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaddset(&action.sa_mask, signal);
  return handler == SIG_ERR || hooks::sigaction(signal, &action, &old) != 0 ? SIG_ERR : old.sa_handler;
}

int sigwaitinfo(const sigset_t* set, siginfo_t* info) {
  siginfo_t local;
  siginfo_t* received = info != nullptr ? info : &local;
  const int signal = real::sigwaitinfo(set, received);
  if (signal > 0) TranslateSiginfo(received);
  return signal;
}

int sigtimedwait(const sigset_t* set, siginfo_t* info, const struct timespec* timeout) {
  siginfo_t local;
  siginfo_t* received = info != nullptr ? info : &local;
  const int signal = real::sigtimedwait(set, received, timeout);
  if (signal > 0) TranslateSiginfo(received);
  return signal;
}

// The parent is at home, where its death is known: the deputy gets the signal, and this process with it. A
// SIGKILL of the kernel's here would be one that nobody of the session has sent.
int prctl(int option, unsigned long first, unsigned long second, unsigned long third, unsigned long fourth) {
  if (option == PR_SET_PDEATHSIG) {
    const auto result = static_cast<int>(HomeCall(SYS_prctl, {option, static_cast<int64_t>(first)}));
    if (result == 0) parent_death = {SessionPid(), static_cast<int>(first)};
    return result;
  }
  if (option == PR_GET_PDEATHSIG) {
    if (const int result = real::prctl(option, first, second, third, fourth); result != 0)
      return result;  // EFAULT
    *reinterpret_cast<int*>(first) = parent_death.process == SessionPid() ? parent_death.signal : 0;
    return 0;
  }
  return real::prctl(option, first, second, third, fourth);
}

}  // namespace hooks
}  // namespace elsewhere::preload
