/* forks: 0
 * home: a scheduling policy of its own does not move
 * A scheduling policy is inherited. Workers may not be able to give it, so the child stays at home. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void) {
  struct sched_param none = {0};
  if (sched_setscheduler(0, SCHED_BATCH, &none) != 0) return 2;
  if (fork() == 0) _exit(sched_getscheduler(0));
  int status = 0;
  wait(&status);
  printf("the child's policy %d\n", WEXITSTATUS(status));
  return 0;
}
