/* forks: 2
 * A mutex that is destroyed and made again in the same place while a process remembers the one before; where that
 * was kept, another mutex is by then. Each keeps out whoever else uses it. */
#include "process_shared.h"

/* What a host has lent is kept in so many places; who comes so many later has the place of one before. */
enum { kPlaces = 4096, kAround = 16, kTurns = 1000000 };

struct shared {
  pthread_mutex_t again, others[2 * kAround], passing;
  pthread_barrier_t barrier;
  volatile int here[2];
  long counter;
};

/* A barrier lets one go long before the other. */
static void together(struct shared* shared, int self) {
  shared->here[self] = 1;
  while (!shared->here[!self]) {
  }
}

static void count(struct shared* shared) {
  for (int i = 0; i < kTurns; ++i) {
    pthread_mutex_lock(&shared->again);
    ++*(volatile long*)&shared->counter;
    pthread_mutex_unlock(&shared->again);
  }
}

static void first(struct shared* shared) {
  make_mutex(&shared->again, PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_STALLED);
  pthread_barrier_wait(&shared->barrier);
  pthread_barrier_wait(&shared->barrier); /* the other has used it alone */
  pthread_mutex_destroy(&shared->again);
  for (int i = 0; i < kPlaces - kAround; ++i) {
    make_mutex(&shared->passing, PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_STALLED);
    pthread_mutex_destroy(&shared->passing);
  }
  for (int i = 0; i < 2 * kAround; ++i) {
    make_mutex(&shared->others[i], PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_STALLED);
    for (int turn = 0; turn < kTurns / 1000; ++turn) {
      pthread_mutex_lock(&shared->others[i]);
      pthread_mutex_unlock(&shared->others[i]);
    }
  }
  make_mutex(&shared->again, PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_STALLED);
  pthread_barrier_wait(&shared->barrier);
  together(shared, 0);
  count(shared);
}

static void second(struct shared* shared) {
  pthread_barrier_wait(&shared->barrier);
  count(shared);
  pthread_barrier_wait(&shared->barrier);
  pthread_barrier_wait(&shared->barrier); /* it is another one now */
  together(shared, 1);
  count(shared);
}

int main(void) {
  struct shared* shared = shared_memory(sizeof *shared);
  make_barrier(&shared->barrier, 2);
  if (fork() == 0) {
    if (fork() == 0) {
      second(shared);
      _exit(0);
    }
    first(shared);
    await_children(1);
    _exit(0);
  }
  await_children(1);
  printf("%ld of %d\n", shared->counter, 3 * kTurns);
  return 0;
}
