/* forks: 5
 * SIGCHLD reaches the parent once a child has ended, with who and how; wait(-1) then finds nobody. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  sigprocmask(SIG_BLOCK, &set, NULL);
  for (int i = 0; i < 5; ++i) {
    pid_t child = fork();
    if (child == 0) {
      if (i == 4) raise(SIGKILL);
      _exit(i);
    }
    siginfo_t info;
    if (sigwaitinfo(&set, &info) != SIGCHLD) return 1;
    printf("%d %d %d\n", info.si_pid == child, info.si_code, info.si_status);
    int status;
    printf("%d\n", waitpid(-1, &status, WNOHANG) == child);
  }
  printf("%d %d\n", wait(NULL) == -1, errno == ECHILD);
  return 0;
}
