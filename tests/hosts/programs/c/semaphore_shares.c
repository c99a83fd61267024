/* forks: 6
 * A semaphore whose count is as large as it may be, as Python's queues have it, used by several hosts: its
 * value is right for whoever knows what others did, it never exceeds its maximum, and nothing of it is lost.
 */
#include <errno.h>
#include <limits.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kItems = 400 };

static sem_t *large, *done;
static int pipe_of[2];

static int value(void) {
  int now = -1;
  sem_getvalue(large, &now);
  return SEM_VALUE_MAX - now;
}

static void put(int items) {
  for (int i = 0; i < items; ++i) {
    sem_wait(large);
    write(pipe_of[1], "x", 1);
  }
}

/* How often the value was less than what was put and not taken yet. */
static int get(int items) {
  int wrong = 0;
  char byte;
  for (int i = 0; i < items; ++i) {
    read(pipe_of[0], &byte, 1);
    wrong += value() < 1;
    wrong += sem_post(large) != 0;
  }
  return wrong;
}

static int end_of(pid_t pid) {
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFSIGNALED(status) ? 100 + WTERMSIG(status) : WEXITSTATUS(status);
}

int main(void) {
  large = mmap(NULL, 2 * sizeof *large, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  done = large + 1;
  sem_init(large, 1, SEM_VALUE_MAX);
  sem_init(done, 1, 0);
  pipe(pipe_of);

  pid_t child = fork();
  if (child == 0) {
    put(kItems);
    _exit(value() < 0);
  }
  int wrong = get(kItems), end = end_of(child);
  printf("to the parent %d %d, left %d\n", wrong, end, value());
  errno = 0;
  int result = sem_post(large);
  printf("over it %d %d\n", result, errno == EOVERFLOW);

  child = fork();
  if (child == 0) _exit(get(kItems));
  put(kItems);
  wrong = end_of(child);
  printf("to the child %d, left %d\n", wrong, value());

  /* Two that take and two that give, and one of them that is killed. */
  pid_t puts = fork();
  if (puts == 0) {
    put(kItems);
    sem_post(done);
    pause();
  }
  pid_t gets = fork();
  if (gets == 0) _exit(get(2 * kItems));
  put(kItems);
  sem_wait(done);
  kill(puts, SIGKILL);
  printf("killed %d", end_of(puts));
  end = end_of(gets);
  printf(" gets %d, left %d\n", end, value());

  child = fork();
  if (child == 0) {
    for (int i = 0; i < 100; ++i) sem_wait(large);
    for (int i = 0; i < 40; ++i) sem_post(large);
    _exit(value());
  }
  printf("child %d", end_of(child));
  printf(" left %d\n", value());
  for (int i = 0; i < 60; ++i) sem_post(large);
  child = fork();
  if (child == 0) _exit(sem_post(large) == -1 && errno == EOVERFLOW ? 7 : 8);
  printf("full %d\n", end_of(child));
  printf("destroyed %d\n", sem_destroy(large));
  return 0;
}
