/* forks: 10
 * Semaphores that mostly one host uses, now and then another: nothing is lost on the way, each protects its
 * counter, and who is killed while it waits takes nothing along. */
#include <errno.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kChildren = 4, kTurns = 600 };

struct shared {
  sem_t locks[kChildren], tokens, there, back, go, late;
  long counters[kChildren];
};

static void add(struct shared* shared, int which) {
  sem_wait(&shared->locks[which]);
  ++shared->counters[which];
  sem_post(&shared->locks[which]);
}

/* Its own lock most of the time, everybody's once in a while. */
static void work(struct shared* shared, int self) {
  for (int i = 0; i < kTurns; ++i) {
    add(shared, self);
    if (i % 97 == 96) add(shared, (self + 1) % kChildren);
    if (i % 5 == 0) sem_post(&shared->tokens);
  }
}

static void play(struct shared* shared, int turns) {
  for (int i = 0; i < turns; ++i) {
    sem_wait(&shared->there);
    sem_post(&shared->back);
  }
}

int main(void) {
  struct shared* shared =
      mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  for (int i = 0; i < kChildren; ++i) sem_init(&shared->locks[i], 1, 1);
  sem_init(&shared->tokens, 1, 0);
  sem_init(&shared->there, 1, 0);
  sem_init(&shared->back, 1, 0);
  sem_init(&shared->go, 1, 0);
  sem_init(&shared->late, 1, 0);
  for (int child = 0; child < kChildren; ++child) {
    if (fork() != 0) continue;
    work(shared, child);
    _exit(0);
  }
  for (int i = 0; i < 40; ++i) add(shared, i % kChildren);
  for (int i = 0; i < kChildren; ++i) wait(NULL);
  for (int i = 0; i < kChildren; ++i) {
    int value = -1;
    sem_getvalue(&shared->locks[i], &value);
    printf("counter %ld lock %d\n", shared->counters[i], value);
  }
  int tokens = 0;
  while (sem_trywait(&shared->tokens) == 0) ++tokens;
  printf("tokens %d %d\n", tokens, errno == EAGAIN);

  /* Two generations on one host play with each other; one of three waiters is killed at it. */
  pid_t pair = fork();
  if (pair == 0) {
    pid_t dying = fork();
    if (dying == 0) {
      for (int i = 0; i < 40; ++i) {
        sem_post(&shared->tokens);
        sem_wait(&shared->tokens);
      }
      sem_post(&shared->go);
      sem_wait(&shared->tokens);
      _exit(1);
    }
    pid_t living = fork();
    if (living == 0) {
      play(shared, 400);
      sem_wait(&shared->late);
      sem_wait(&shared->tokens);
      _exit(3);
    }
    for (int i = 0; i < 400; ++i) {
      sem_post(&shared->there);
      sem_wait(&shared->back);
    }
    int first, second;
    sem_wait(&shared->go);
    kill(dying, SIGKILL);
    waitpid(dying, &first, 0);
    sem_post(&shared->late);
    sem_post(&shared->tokens);
    waitpid(living, &second, 0);
    _exit(WTERMSIG(first) + WEXITSTATUS(second));
  }
  int status;
  waitpid(pair, &status, 0);
  printf("pair %d\n", WEXITSTATUS(status));

  /* What its only user left behind is there for others. */
  pid_t last = fork();
  if (last == 0) {
    for (int i = 0; i < 100; ++i) sem_post(&shared->tokens);
    for (int i = 0; i < 30; ++i) sem_wait(&shared->tokens);
    _exit(0);
  }
  waitpid(last, NULL, 0);
  for (tokens = 0; sem_trywait(&shared->tokens) == 0;) ++tokens;
  printf("left %d\n", tokens);

  /* A waiter whose signal comes while the semaphore is here. */
  pid_t waiting = fork();
  if (waiting == 0) {
    for (int i = 0; i < 50; ++i) sem_post(&shared->tokens), sem_wait(&shared->tokens);
    sem_post(&shared->go);
    pause();
  }
  sem_wait(&shared->go);
  kill(waiting, SIGTERM);
  waitpid(waiting, &status, 0);
  sem_post(&shared->tokens);
  printf("ended by %d, token %d\n", WTERMSIG(status), sem_wait(&shared->tokens));

  pid_t again = fork();
  if (again == 0) _exit(sem_trywait(&shared->tokens) == -1 && errno == EAGAIN ? 7 : 8);
  waitpid(again, &status, 0);
  printf("again %d\n", WEXITSTATUS(status));
  return 0;
}
