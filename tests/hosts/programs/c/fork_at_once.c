/* forks: 320
 * Children whose first act is to fork: a worker has not heard yet that they have begun. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int fork_at_once(void) {
  pid_t child = fork();
  if (child == 0) _exit(7);
  if (child < 0) fprintf(stderr, "fork: %s\n", strerror(errno));
  int status = 0;
  return child > 0 && waitpid(child, &status, 0) == child ? WEXITSTATUS(status) : 1;
}

int main(void) {
  int sevens = 0;
  for (int round = 0; round < 10; ++round) {
    for (int i = 0; i < 16; ++i) {
      if (fork() == 0) _exit(fork_at_once());
    }
    int status;
    while (wait(&status) > 0) sevens += status == 7 << 8;
  }
  printf("%d\n", sevens);
  return 0;
}
