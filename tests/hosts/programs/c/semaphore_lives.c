/* forks: 7
 * What deaths, signals and deadlines do to processes that wait for semaphores elsewhere. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct shared {
  sem_t token, ready, late, handled;
};

static sem_t* handled;
static void Tell(int number) {
  int before = errno;
  if (number == SIGUSR2) sem_post(handled);
  errno = before;
}

static int Reap(pid_t child) {
  int status = -1;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static struct timespec In(long milliseconds) {
  struct timespec time;
  clock_gettime(CLOCK_REALTIME, &time);
  time.tv_nsec += milliseconds % 1000 * 1000000;
  time.tv_sec += milliseconds / 1000 + time.tv_nsec / 1000000000;
  time.tv_nsec %= 1000000000;
  return time;
}

/* A signal that comes before the wait begins interrupts nothing, so there is another one until one did. */
static void SignalUntilReady(struct shared* shared, pid_t child, int number) {
  struct timespec soon;
  do {
    kill(child, number);
    soon = In(50);
  } while (sem_timedwait(&shared->ready, &soon) != 0);
}

int main(void) {
  struct shared* shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  sem_init(&shared->token, 1, 0);
  sem_init(&shared->ready, 1, 0);
  sem_init(&shared->late, 1, 0);
  sem_init(&shared->handled, 1, 0);
  struct timespec soon;

  /* A waiter that is killed takes no post with it. */
  pid_t dying = fork();
  if (dying == 0) {
    sem_post(&shared->ready);
    sem_wait(&shared->token);
    _exit(1);
  }
  pid_t living = fork();
  if (living == 0) {
    sem_wait(&shared->late);
    sem_post(&shared->ready);
    _exit(sem_wait(&shared->token) == 0 ? 0 : 1);
  }
  sem_wait(&shared->ready);
  kill(dying, SIGKILL);
  printf("killed %d\n", Reap(dying));
  sem_post(&shared->late);
  sem_wait(&shared->ready);
  sem_post(&shared->token);
  printf("living %d\n", Reap(living));

  /* Whoever dies with a lock held does not give it back. */
  sem_post(&shared->token);
  pid_t holder = fork();
  if (holder == 0) {
    sem_wait(&shared->token);
    sem_post(&shared->ready);
    for (;;) pause();
  }
  sem_wait(&shared->ready);
  kill(holder, SIGKILL);
  printf("holder %d\n", Reap(holder));
  soon = In(100);
  int timed_out = sem_timedwait(&shared->token, &soon) == -1 && errno == ETIMEDOUT;
  printf("timed %d\n", timed_out);

  /* Handlers interrupt a wait, unless they were installed with SA_RESTART. */
  pid_t interrupted = fork();
  if (interrupted == 0) {
    sigset_t interrupting;
    sigemptyset(&interrupting);
    sigaddset(&interrupting, SIGUSR1);
    struct sigaction action = {0};
    action.sa_handler = Tell;
    sigaction(SIGUSR1, &action, NULL);
    action.sa_flags = SA_RESTART;
    sigaction(SIGUSR2, &action, NULL);
    handled = &shared->handled;
    sem_post(&shared->ready);
    int first = sem_wait(&shared->token), error = errno;
    sigprocmask(SIG_BLOCK, &interrupting, NULL);
    sem_post(&shared->ready);
    int second = sem_wait(&shared->token);
    /* With a deadline SA_RESTART does not help. */
    soon = In(3600000);
    sem_post(&shared->ready);
    int third = sem_timedwait(&shared->token, &soon), late = errno;
    action.sa_handler = SIG_IGN;
    sigaction(SIGUSR2, &action, NULL);
    sem_post(&shared->ready);
    _exit(first == -1 && error == EINTR && second == 0 && third == -1 && late == EINTR ? 0 : 1);
  }
  sem_wait(&shared->ready);
  SignalUntilReady(shared, interrupted, SIGUSR1);
  /* Each handler has run before the next signal is sent; nearly all of them while it waits. */
  for (int i = 0; i < 20; ++i) {
    kill(interrupted, SIGUSR2);
    sem_wait(&shared->handled);
  }
  sem_post(&shared->token);
  sem_wait(&shared->ready);
  SignalUntilReady(shared, interrupted, SIGUSR2);
  printf("interrupted %d\n", Reap(interrupted));

  /* Deadlines of both clocks, past and future, there. */
  pid_t timed = fork();
  if (timed == 0) {
    struct timespec past = {1, 0}, monotonic;
    int ok = sem_timedwait(&shared->token, &past) == -1 && errno == ETIMEDOUT;
    clock_gettime(CLOCK_MONOTONIC, &monotonic);
    monotonic.tv_nsec += 30000000;
    if (monotonic.tv_nsec >= 1000000000) ++monotonic.tv_sec, monotonic.tv_nsec -= 1000000000;
    ok = ok && sem_clockwait(&shared->token, CLOCK_MONOTONIC, &monotonic) == -1 && errno == ETIMEDOUT;
    sem_post(&shared->token);
    ok = ok && sem_timedwait(&shared->token, &past) == 0;
    soon = In(3600000);
    sem_post(&shared->ready);
    ok = ok && sem_timedwait(&shared->token, &soon) == 0;
    _exit(ok ? 0 : 1);
  }
  sem_wait(&shared->ready);
  sem_post(&shared->token);
  printf("timed there %d\n", Reap(timed));

  /* A semaphore and memory of their own on the other host, shared with a nested child. */
  pid_t parent = fork();
  if (parent == 0) {
    struct shared* own = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char name[64];
    snprintf(name, sizeof name, "/elsewhere-lives-%d", (int)getpid());
    sem_t* named = sem_open(name, O_CREAT | O_EXCL, 0600, 0);
    sem_init(&own->token, 1, 0);
    pid_t child = fork();
    if (child == 0) {
      sem_t* again = sem_open(name, 0);
      sem_post(&own->token);
      sem_post(again);
      _exit(again == SEM_FAILED ? 9 : 5);
    }
    sem_wait(&own->token);
    sem_wait(named);
    int status = Reap(child);
    sem_unlink(name);
    _exit(status);
  }
  printf("own %d\n", Reap(parent));
  return 0;
}
