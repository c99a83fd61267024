// Calls that name a process by its pid and are made where they are called: on a worker the kernel knows the
// process by another one. A process that is not on this host cannot be meant; the answer is ESRCH, which a
// program must be ready for.
//
// syscall() is among them: libraries call by number what an older libc had no name for (pidfd_open, gettid,
// tgkill).
#include "preload/process_target.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "preload/children.h"
#include "preload/file_syscall.h"
#include "preload/files.h"
#include "preload/hooks.h"
#include "preload/real.h"
#include "preload/self.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {
namespace {

// linux/ioprio.h has it, in a form that is not C++ on every kernel.
constexpr long kIoPriorityOfProcess = 1;  // IOPRIO_WHO_PROCESS

int NoSuchProcess() {
  errno = ESRCH;
  return -1;
}

pid_t SessionOrSame(pid_t kernel_pid) {
  const pid_t session_pid = kernel_pid > 0 ? SessionPidOf(kernel_pid) : 0;
  return session_pid != 0 ? session_pid : kernel_pid;
}

// The owner of a descriptor's signals: a process, or a group by its negative number.
pid_t KernelOwner(pid_t owner) {
  if (owner >= 0) return LocalTarget(owner);
  const pid_t group = KernelPidOf(-owner);
  return group != 0 ? -group : -1;
}

int SetOwner(int fd, pid_t owner) {
  const pid_t target = KernelOwner(owner);
  return target == -1 ? NoSuchProcess()
                      : real::fcntl(fd, F_SETOWN, reinterpret_cast<void*>(static_cast<intptr_t>(target)));
}

int SetOwnerEx(int fd, const f_owner_ex& owner) {
  f_owner_ex here = owner;
  here.pid = owner.type == F_OWNER_PGRP ? KernelPidOf(owner.pid) : LocalTarget(owner.pid);
  return here.pid < 0 || (here.pid == 0 && owner.pid != 0) ? NoSuchProcess()
                                                           : real::fcntl(fd, F_SETOWN_EX, &here);
}

int GetOwner(int fd) {
  const int owner = real::fcntl(fd, F_GETOWN, nullptr);
  return owner < -1 ? -SessionOrSame(-owner) : SessionOrSame(owner);
}

template <class Header>
Header AboutLocal(const Header& header, bool* here) {
  Header local = header;
  local.pid = LocalTarget(header.pid);
  *here = local.pid >= 0;
  return local;
}

// Numbers whose first argument is a pid and which have nothing else to translate.
bool StartsWithPid(long number) {
  switch (number) {
    case SYS_pidfd_open:
    case SYS_prlimit64:
    case SYS_process_vm_readv:
    case SYS_process_vm_writev:
    case SYS_sched_getaffinity:
    case SYS_sched_setaffinity:
    case SYS_sched_getparam:
    case SYS_sched_setparam:
    case SYS_sched_getscheduler:
    case SYS_sched_setscheduler:
    case SYS_sched_getattr:
    case SYS_sched_setattr:
    case SYS_sched_rr_get_interval:
    case SYS_get_robust_list:
    case SYS_migrate_pages:
    case SYS_move_pages:
    case SYS_rt_sigqueueinfo:
      return true;
    default:
      return false;
  }
}

// And whose second one is.
bool GoesOnWithPid(long number, long first) {
  switch (number) {
    case SYS_ptrace:
      return true;
    case SYS_getpriority:
    case SYS_setpriority:
      return first == PRIO_PROCESS;
    case SYS_ioprio_get:
    case SYS_ioprio_set:
      return first == kIoPriorityOfProcess;
    default:
      return false;
  }
}

}  // namespace

pid_t LocalTarget(pid_t session_pid) {
  if (session_pid <= 0) return session_pid;
  const pid_t kernel_pid = KernelPidOf(session_pid);
  if (kernel_pid != 0) return kernel_pid;
  // A thread's id is the kernel's own.
  return raw::Syscall(SYS_tgkill, raw::Syscall(SYS_getpid), session_pid, 0) == 0 ? session_pid : -1;
}

bool CommandNamesProcess(int command) {
  switch (command) {
    case F_SETOWN:
    case F_GETOWN:
    case F_SETOWN_EX:
    case F_GETOWN_EX:
    case F_GETLK:
      return true;
    default:
      return false;
  }
}

int ControlByPid(int fd, int command, void* argument) {
  if (command == F_SETOWN) return SetOwner(fd, static_cast<pid_t>(reinterpret_cast<intptr_t>(argument)));
  if (command == F_SETOWN_EX && argument != nullptr)
    return SetOwnerEx(fd, *static_cast<f_owner_ex*>(argument));
  if (command == F_GETOWN) return GetOwner(fd);
  const int result = real::fcntl(fd, command, argument);
  if (result != 0) return result;
  if (command == F_GETOWN_EX) {
    auto* owner = static_cast<f_owner_ex*>(argument);
    owner->pid = SessionOrSame(owner->pid);
  } else if (auto* lock = static_cast<struct flock*>(argument); lock != nullptr && lock->l_type != F_UNLCK) {
    lock->l_pid = SessionOrSame(lock->l_pid);
  }
  return result;
}

namespace hooks {

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
int sched_rr_get_interval(pid_t pid, struct timespec* interval) {
  const pid_t target = LocalTarget(pid);
  return target < 0 ? NoSuchProcess() : real::sched_rr_get_interval(target, interval);
}
int prlimit(pid_t pid, __rlimit_resource_t resource, const struct rlimit* limit, struct rlimit* old) {
  const pid_t target = LocalTarget(pid);
  return target < 0 ? NoSuchProcess() : real::prlimit(target, resource, limit, old);
}
int pidfd_open(pid_t pid, unsigned flags) {
  const pid_t target = LocalTarget(pid);
  return target < 0 ? NoSuchProcess() : real::pidfd_open(target, flags);
}
ssize_t process_vm_readv(pid_t pid, const struct iovec* local, unsigned long local_count,
                         const struct iovec* remote, unsigned long remote_count, unsigned long flags) {
  const pid_t target = LocalTarget(pid);
  return target < 0 ? NoSuchProcess()
                    : real::process_vm_readv(target, local, local_count, remote, remote_count, flags);
}
ssize_t process_vm_writev(pid_t pid, const struct iovec* local, unsigned long local_count,
                          const struct iovec* remote, unsigned long remote_count, unsigned long flags) {
  const pid_t target = LocalTarget(pid);
  return target < 0 ? NoSuchProcess()
                    : real::process_vm_writev(target, local, local_count, remote, remote_count, flags);
}
long ptrace(int request, pid_t pid, void* address, void* data) {
  const pid_t target = LocalTarget(pid);
  return target < 0 ? NoSuchProcess() : real::ptrace(request, target, address, data);
}
int capget(struct __user_cap_header_struct* header, struct __user_cap_data_struct* data) {
  bool here;
  auto local = AboutLocal(*header, &here);
  const int result = here ? real::capget(&local, data) : NoSuchProcess();
  header->version = local.version;  // the kernel's own, where it does not know the caller's
  return result;
}
int capset(struct __user_cap_header_struct* header, const struct __user_cap_data_struct* data) {
  bool here;
  auto local = AboutLocal(*header, &here);
  const int result = here ? real::capset(&local, data) : NoSuchProcess();
  header->version = local.version;
  return result;
}
int clock_getcpuclockid(pid_t pid, clockid_t* clock) {
  const pid_t target = LocalTarget(pid);
  return target < 0 ? ESRCH : real::clock_getcpuclockid(target, clock);
}
int timer_create(clockid_t clock, struct sigevent* event, timer_t* timer) {
  if (event == nullptr || event->sigev_notify != SIGEV_THREAD_ID)
    return real::timer_create(clock, event, timer);
  struct sigevent local = *event;
  local._sigev_un._tid = LocalTarget(event->_sigev_un._tid);
  return real::timer_create(clock, &local, timer);
}

long syscall(long number, long a, long b, long c, long d, long e, long f) {
  long result;
  if ((HasMaps() || OnWorker()) && FileSyscall(number, a, b, c, d, e, f, &result)) return result;
  if (!OnWorker()) return real::syscall(number, a, b, c, d, e, f);
  if (StartsWithPid(number) || GoesOnWithPid(number, a)) {
    long& pid = StartsWithPid(number) ? a : b;
    pid = LocalTarget(static_cast<pid_t>(pid));
    return pid < 0 ? NoSuchProcess() : real::syscall(number, a, b, c, d, e, f);
  }
  switch (number) {
    case SYS_getpid:
      return hooks::getpid();
    case SYS_gettid:
      return hooks::gettid();
    case SYS_getppid:
      return hooks::getppid();
    case SYS_getpgrp:
      return hooks::getpgid(0);
    case SYS_getpgid:
      return hooks::getpgid(static_cast<pid_t>(a));
    case SYS_setpgid:
      return hooks::setpgid(static_cast<pid_t>(a), static_cast<pid_t>(b));
    case SYS_getsid:
      return hooks::getsid(static_cast<pid_t>(a));
    case SYS_setsid:
      return hooks::setsid();
    case SYS_kill:
      return hooks::kill(static_cast<pid_t>(a), static_cast<int>(b));
    case SYS_tgkill:
      return hooks::tgkill(static_cast<pid_t>(a), static_cast<pid_t>(b), static_cast<int>(c));
    case SYS_tkill:
      return hooks::tgkill(hooks::getpid(), static_cast<pid_t>(a), static_cast<int>(b));
    case SYS_wait4:
      return hooks::wait4(static_cast<pid_t>(a), reinterpret_cast<int*>(b), static_cast<int>(c),
                          reinterpret_cast<struct rusage*>(d));
    case SYS_waitid:
      if (e != 0) break;
      return hooks::waitid(static_cast<idtype_t>(a), static_cast<id_t>(b), reinterpret_cast<siginfo_t*>(c),
                           static_cast<int>(d));
    case SYS_capget:
      return hooks::capget(reinterpret_cast<__user_cap_header_struct*>(a),
                           reinterpret_cast<__user_cap_data_struct*>(b));
    case SYS_capset:
      return hooks::capset(reinterpret_cast<__user_cap_header_struct*>(a),
                           reinterpret_cast<__user_cap_data_struct*>(b));
    default:
      break;
  }
  return real::syscall(number, a, b, c, d, e, f);
}

}  // namespace hooks
}  // namespace elsewhere::preload
