/* forks: 2
 * Calls that name a process by its pid, by libc's name and by number: the caller itself and its child. Not ptrace by its
 * name, which keeps a program's children at home. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHECK(call)                                                           \
  do {                                                                        \
    errno = 0;                                                                \
    long result = (long)(call);                                               \
    printf("%s: %ld %s\n", #call, result, result < 0 ? strerror(errno) : ""); \
  } while (0)

static int await_signal(int signal) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, signal);
  return sigwaitinfo(&set, NULL) == signal;
}

static void name_a_child(pid_t child) {
  struct timespec interval;
  struct rlimit limit;
  CHECK(sched_rr_get_interval(child, &interval));
  CHECK(syscall(SYS_prlimit64, child, RLIMIT_NOFILE, NULL, &limit));
  CHECK(syscall(SYS_kill, child, 0));
  CHECK(syscall(SYS_getpgid, child) == getpgrp());
  CHECK(syscall(SYS_ptrace, PTRACE_ATTACH, child, 0, 0));
  CHECK(waitpid(child, NULL, 0) == child);
  CHECK(syscall(SYS_ptrace, PTRACE_DETACH, child, 0, 0));
  int handle = (int)syscall(SYS_pidfd_open, child, 0);
  CHECK(handle >= 0);
  CHECK(syscall(SYS_pidfd_send_signal, handle, SIGTERM, NULL, 0));
  siginfo_t info;
  memset(&info, 0, sizeof info);
  CHECK(waitid(P_PIDFD, (id_t)handle, &info, WEXITED));
  CHECK(info.si_pid == child && info.si_status == SIGTERM);
  CHECK(syscall(SYS_pidfd_open, child, 0));
}

static void name_oneself(void) {
  char from[8] = "reached", to[8] = "";
  struct iovec local = {to, sizeof to}, remote = {from, sizeof from};
  CHECK(process_vm_readv(getpid(), &local, 1, &remote, 1, 0));
  puts(to);
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, getpid()};
  struct __user_cap_data_struct data[2];
  CHECK(syscall(SYS_capget, &header, data));
  clockid_t clock;
  CHECK(clock_getcpuclockid(getpid(), &clock));
  CHECK(syscall(SYS_getpid) == getpid() && syscall(SYS_gettid) == getpid());
  CHECK(syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGUSR1));
  CHECK(await_signal(SIGUSR1));

  timer_t timer;
  struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR2};
  event._sigev_un._tid = gettid();
  struct itimerspec soon = {.it_value = {0, 1000000}};
  CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer));
  CHECK(timer_settime(timer, 0, &soon, NULL));
  CHECK(await_signal(SIGUSR2));

  int ends[2];
  if (pipe(ends) != 0) return;
  CHECK(fcntl(ends[0], F_SETOWN, getpid()));
  CHECK(fcntl(ends[0], F_GETOWN) == getpid());
  CHECK(fcntl(ends[0], F_SETFL, O_ASYNC));
  CHECK(write(ends[1], "x", 1));
  CHECK(await_signal(SIGIO));
}

int main(void) {
  sigset_t awaited;
  sigemptyset(&awaited);
  sigaddset(&awaited, SIGUSR1);
  sigaddset(&awaited, SIGUSR2);
  sigaddset(&awaited, SIGIO);
  sigprocmask(SIG_BLOCK, &awaited, NULL);
  pid_t child = fork();
  if (child == 0) {
    name_oneself();
    pid_t nested = fork();
    if (nested == 0) {
      for (;;) pause();
    }
    name_a_child(nested);
    return 0;
  }
  int status;
  waitpid(child, &status, 0);
  printf("status %d\n", status);
  return 0;
}
