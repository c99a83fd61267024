/* forks: 3
 * Unnamed process-shared and named semaphores between parent and children, with their errnos. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct shared {
  sem_t ping, pong;
  int turns;
};

int main(void) {
  struct shared* shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  sem_init(&shared->ping, 1, 0);
  sem_init(&shared->pong, 1, 0);
  char name[64];
  snprintf(name, sizeof name, "/elsewhere-test-%d", (int)getpid());
  sem_t* named = sem_open(name, O_CREAT | O_EXCL, 0600, 2);
  if (named == SEM_FAILED) return 1;
  printf("again %d\n", sem_open(name, O_CREAT | O_EXCL, 0600, 0) == SEM_FAILED && errno == EEXIST);
  pid_t child = fork();
  if (child == 0) {
    for (int i = 0; i < 100; ++i) {
      sem_wait(&shared->ping);
      ++shared->turns;
      sem_post(&shared->pong);
    }
    _exit(0);
  }
  for (int i = 0; i < 100; ++i) {
    sem_post(&shared->ping);
    sem_wait(&shared->pong);
    if (shared->turns != i + 1) return 2;
  }
  waitpid(child, NULL, 0);
  int value = -1;
  sem_getvalue(&shared->ping, &value);
  printf("turns %d value %d\n", shared->turns, value);

  child = fork();
  if (child == 0) {
    int ok = sem_trywait(named) == 0 && sem_trywait(named) == 0;
    ok = ok && sem_trywait(named) == -1 && errno == EAGAIN;
    struct timespec soon;
    clock_gettime(CLOCK_REALTIME, &soon);
    soon.tv_nsec += 20000000;
    if (soon.tv_nsec >= 1000000000) soon.tv_sec++, soon.tv_nsec -= 1000000000;
    ok = ok && sem_timedwait(named, &soon) == -1 && errno == ETIMEDOUT;
    soon.tv_nsec = 1000000000;
    ok = ok && sem_timedwait(named, &soon) == -1 && errno == EINVAL;
    _exit(ok ? 21 : 22);
  }
  int status = 0;
  waitpid(child, &status, 0);
  sem_getvalue(named, &value);
  printf("child %d value %d\n", WEXITSTATUS(status), value);
  sem_post(named);
  child = fork();
  if (child == 0) {
    sem_t* again = sem_open(name, 0);
    _exit(again != SEM_FAILED && sem_wait(again) == 0 && sem_close(again) == 0 ? 23 : 24);
  }
  waitpid(child, &status, 0);
  printf("opened by name %d\n", WEXITSTATUS(status));
  printf("unlink %d %d\n", sem_unlink(name), sem_unlink(name) == -1 && errno == ENOENT);
  printf("gone %d\n", sem_open(name, 0) == SEM_FAILED && errno == ENOENT);
  printf("close %d\n", sem_close(named));
  return 0;
}
