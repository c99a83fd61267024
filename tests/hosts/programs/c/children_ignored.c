/* forks: 41
 * Who ignores SIGCHLD forks children that may have ended, and are forgotten, before anybody looks. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void fork_and_forget(void) {
  int forked = 0;
  signal(SIGCHLD, SIG_IGN);
  for (int i = 0; i < 40; ++i) {
    pid_t child = fork();
    if (child == 0) _exit(3);
    forked += child > 0;
  }
  int waited = wait(NULL);
  printf("%d forked, wait: %d %s\n", forked, waited, strerror(errno));
}

int main(void) {
  pid_t child = fork();
  if (child == 0) {
    fork_and_forget();
    return 0;
  }
  int status;
  waitpid(child, &status, 0);
  printf("%d\n", status);
  return 0;
}
