/* forks: 40
 * Every way a process ends, seen by waitpid, waitid and wait4, in order. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static void at_exit(void) { write(1, "atexit ran\n", 11); }

static void end(int how) {
  if (how < 8) _exit(how * 30);
  switch (how) {
    case 8: atexit(at_exit); printf("buffered, flushed by exit\n"); exit(1);
    case 9: abort();
    case 10: *(volatile int*)8 = 1; break;
    case 11: signal(SIGINT, SIG_DFL); raise(SIGINT); break;
    case 12: kill(getpid(), SIGKILL); break;
    case 13: __builtin_trap();
    case 14: signal(SIGPIPE, SIG_DFL); { int p[2]; if (pipe(p)) _exit(9); close(p[0]); write(p[1], "x", 1); } break;
    default: raise(SIGUSR1 + how % 2 * 2);
  }
  _exit(99);
}

int main(void) {
  struct rlimit none = {0, 0};
  setrlimit(RLIMIT_CORE, &none);
  for (int how = 0; how < 20; ++how) {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) end(how);
    int status = 0;
    if (waitpid(child, &status, 0) != child) return 1;
    printf("%d: waitpid %x\n", how, status);
    fflush(stdout);
    child = _Fork();
    if (child == 0) end(how);
    siginfo_t info = {0};
    if (waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT) != 0 || info.si_pid != child) return 2;
    struct rusage usage;
    if (wait4(child, &status, 0, &usage) != child) return 3;
    printf("%d: waitid %d %d, wait4 %x\n", how, info.si_code, info.si_status, status);
  }
  return 0;
}
