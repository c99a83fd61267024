/* forks: 7
 * Readers and writers of several hosts: readers see whole updates, writers lose none; what the lock answers. */
#include "process_shared.h"

struct shared {
  pthread_rwlock_t lock, writers_first;
  pthread_barrier_t step;
  long a, b;
};

static void make_lock(pthread_rwlock_t* lock, int kind) {
  pthread_rwlockattr_t attributes;
  pthread_rwlockattr_init(&attributes);
  pthread_rwlockattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_rwlockattr_setkind_np(&attributes, kind);
  if (pthread_rwlock_init(lock, &attributes) != 0) exit(98);
}

static void ask(const char* who, pthread_rwlock_t* lock) {
  struct timespec past = {1, 0}, never = {0, -1};
  struct timespec soon = after_milliseconds(CLOCK_MONOTONIC, 10);
  printf("%s: read %s %s", who, name(pthread_rwlock_rdlock(lock)), name(pthread_rwlock_tryrdlock(lock)));
  printf(" write %s %s", name(pthread_rwlock_trywrlock(lock)), name(pthread_rwlock_timedwrlock(lock, &past)));
  printf(" %s", name(pthread_rwlock_clockwrlock(lock, CLOCK_MONOTONIC, &soon)));
  printf(" %s", name(pthread_rwlock_timedwrlock(lock, &never)));
  printf(" unlock %s %s", name(pthread_rwlock_unlock(lock)), name(pthread_rwlock_unlock(lock)));
  printf(" write %s %s", name(pthread_rwlock_wrlock(lock)), name(pthread_rwlock_wrlock(lock)));
  printf(" read %s %s", name(pthread_rwlock_rdlock(lock)), name(pthread_rwlock_tryrdlock(lock)));
  printf(" unlock %s\n", name(pthread_rwlock_unlock(lock)));
  fflush(stdout);
}

static void ask_other(const char* who, pthread_rwlock_t* lock) {
  struct timespec soon = after_milliseconds(CLOCK_REALTIME, 20);
  printf("%s: %s %s", who, name(pthread_rwlock_tryrdlock(lock)), name(pthread_rwlock_trywrlock(lock)));
  printf(" %s", name(pthread_rwlock_timedrdlock(lock, &soon)));
  soon = after_milliseconds(CLOCK_MONOTONIC, 20);
  printf(" %s\n", name(pthread_rwlock_clockrdlock(lock, CLOCK_MONOTONIC, &soon)));
  fflush(stdout);
}

int main(void) {
  struct shared* shared = shared_memory(sizeof *shared);
  make_lock(&shared->lock, PTHREAD_RWLOCK_PREFER_READER_NP);
  make_lock(&shared->writers_first, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
  make_barrier(&shared->step, 2);
  ask("native", &shared->lock);
  if (fork() == 0) {
    ask("child", &shared->lock);
    ask("child", &shared->writers_first);
    pthread_rwlock_wrlock(&shared->lock);
    pthread_barrier_wait(&shared->step);
    pthread_barrier_wait(&shared->step);
    pthread_rwlock_unlock(&shared->lock);
    _exit(0);
  }
  pthread_barrier_wait(&shared->step);
  ask_other("parent", &shared->lock);
  pthread_barrier_wait(&shared->step);
  await_children(1);
  ask("parent", &shared->lock);
  for (int child = 0; child < 6; ++child) {
    if (fork() != 0) continue;
    for (int i = 0; i < 40; ++i) {
      pthread_rwlock_t* lock = &shared->writers_first;
      if (child < 2) {
        pthread_rwlock_wrlock(lock);
        ++shared->a;
        sched_yield();
        ++shared->b;
      } else {
        pthread_rwlock_rdlock(lock);
        if (shared->a != shared->b) _exit(1);
      }
      pthread_rwlock_unlock(lock);
    }
    _exit(0);
  }
  await_children(6);
  printf("a %ld b %ld\n", shared->a, shared->b);
  pthread_rwlock_rdlock(&shared->lock);
  printf("destroy %s", name(pthread_rwlock_destroy(&shared->writers_first)));
  pthread_rwlock_unlock(&shared->lock);
  printf(" %s\n", name(pthread_rwlock_destroy(&shared->lock)));
  return 0;
}
