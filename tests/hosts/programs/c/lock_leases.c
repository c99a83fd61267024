/* forks: 8
 * Read-write locks and spin locks that mostly one host uses, now and then another: readers see whole updates,
 * writers lose none, and who is killed while it holds or awaits one leaves what natively stays. */
#include "process_shared.h"

enum { kChildren = 4, kTurns = 600, kReaders = 3 };

struct shared {
  pthread_rwlock_t locks[kChildren], writers_first;
  pthread_spinlock_t spins[kChildren];
  pthread_barrier_t step;
  struct {
    volatile long a, b;
  } pairs[kChildren];
  volatile long counters[kChildren];
};

static void make_lock(pthread_rwlock_t* lock, int kind) {
  pthread_rwlockattr_t attributes;
  pthread_rwlockattr_init(&attributes);
  pthread_rwlockattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_rwlockattr_setkind_np(&attributes, kind);
  if (pthread_rwlock_init(lock, &attributes) != 0) exit(98);
}

/* 1: a reader has seen half an update. */
static int use(struct shared* shared, int which) {
  pthread_rwlock_t* lock = &shared->locks[which];
  pthread_rwlock_wrlock(lock);
  ++shared->pairs[which].a;
  ++shared->pairs[which].b;
  pthread_rwlock_unlock(lock);
  pthread_spin_lock(&shared->spins[which]);
  ++shared->counters[which];
  pthread_spin_unlock(&shared->spins[which]);
  pthread_rwlock_rdlock(lock);
  const int torn = shared->pairs[which].a != shared->pairs[which].b;
  pthread_rwlock_unlock(lock);
  return torn;
}

/* Its own locks most of the time, another's once in a while. */
static int work(struct shared* shared, int self) {
  int torn = 0;
  for (int i = 0; i < kTurns; ++i) {
    torn += use(shared, self);
    if (i % 97 == 96) torn += use(shared, (self + 1) % kChildren);
  }
  return torn;
}

/* Threads of one host that read and write at once, also where writers come first. */
static void* reads_and_writes(void* of) {
  struct shared* shared = of;
  long torn = 0;
  for (int i = 0; i < kTurns; ++i) {
    pthread_rwlock_t* lock = i % 2 ? &shared->writers_first : &shared->locks[1];
    if (i % 5 == 0) {
      pthread_rwlock_wrlock(lock);
      ++shared->pairs[i % 2].a;
      ++shared->pairs[i % 2].b;
    } else {
      pthread_rwlock_rdlock(lock);
      torn += shared->pairs[i % 2].a != shared->pairs[i % 2].b;
    }
    pthread_rwlock_unlock(lock);
  }
  return (void*)torn;
}

static int together(struct shared* shared) {
  pthread_t threads[kReaders];
  long torn = 0;
  for (int i = 0; i < kReaders; ++i) pthread_create(&threads[i], NULL, reads_and_writes, shared);
  for (int i = 0; i < kReaders; ++i) {
    void* result;
    pthread_join(threads[i], &result);
    torn += (long)result;
  }
  return torn != 0;
}

/* What they answer to who has them, when their host has them. */
static int answers(struct shared* shared) {
  pthread_rwlock_t* lock = &shared->locks[2];
  int wrong = 0;
  for (int i = 0; i < 50; ++i) {
    struct timespec past = {1, 0}, never = {0, -1};
    wrong += pthread_rwlock_wrlock(lock) != 0;
    wrong += pthread_rwlock_rdlock(lock) != EDEADLK;
    wrong += pthread_rwlock_wrlock(lock) != EDEADLK;
    wrong += pthread_rwlock_tryrdlock(lock) != EBUSY;
    wrong += pthread_rwlock_unlock(lock) != 0;
    wrong += pthread_rwlock_rdlock(lock) != 0;
    wrong += pthread_rwlock_tryrdlock(lock) != 0;
    wrong += pthread_rwlock_trywrlock(lock) != EBUSY;
    wrong += pthread_rwlock_timedwrlock(lock, &past) != ETIMEDOUT;
    wrong += pthread_rwlock_timedwrlock(lock, &never) != EINVAL;
    wrong += pthread_rwlock_unlock(lock) != 0;
    wrong += pthread_rwlock_unlock(lock) != 0;
    wrong += pthread_spin_lock(&shared->spins[2]) != 0;
    wrong += pthread_spin_trylock(&shared->spins[2]) != EBUSY;
    wrong += pthread_spin_unlock(&shared->spins[2]) != 0;
  }
  return wrong;
}

/* Is killed with one lock held for reading, one for writing and a spin lock. */
static void die_with_locks(struct shared* shared) {
  for (int i = 0; i < 50; ++i) use(shared, 0), use(shared, 3);
  pthread_rwlock_rdlock(&shared->locks[0]);
  pthread_rwlock_wrlock(&shared->locks[3]);
  pthread_spin_lock(&shared->spins[0]);
  raise(SIGKILL);
}

int main(void) {
  struct shared* shared = shared_memory(sizeof *shared);
  for (int i = 0; i < kChildren; ++i) {
    make_lock(&shared->locks[i], PTHREAD_RWLOCK_PREFER_READER_NP);
    pthread_spin_init(&shared->spins[i], PTHREAD_PROCESS_SHARED);
  }
  make_lock(&shared->writers_first, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
  make_barrier(&shared->step, 2);

  for (int child = 0; child < kChildren; ++child) {
    if (fork() == 0) _exit(work(shared, child) != 0);
  }
  for (int i = 0; i < 40; ++i) {
    if (use(shared, i % kChildren)) printf("torn at home\n");
  }
  await_children(kChildren);
  for (int i = 0; i < kChildren; ++i)
    printf("pair %ld %ld counter %ld\n", shared->pairs[i].a, shared->pairs[i].b, shared->counters[i]);

  if (fork() == 0) _exit(together(shared));
  await_children(1);
  printf("together %ld %ld\n", shared->pairs[0].a, shared->pairs[1].b);
  if (fork() == 0) _exit(answers(shared));
  await_children(1);
  printf("at home %d\n", answers(shared));

  /* Two hosts, one after the other: what the first has is fetched while a thread of it waits there. */
  if (fork() == 0) {
    for (int i = 0; i < 50; ++i) use(shared, 1);
    pthread_rwlock_wrlock(&shared->locks[1]);
    pthread_barrier_wait(&shared->step);
    pthread_barrier_wait(&shared->step);
    pthread_rwlock_unlock(&shared->locks[1]);
    _exit(0);
  }
  pthread_barrier_wait(&shared->step);
  printf("held there: %s", name(pthread_rwlock_tryrdlock(&shared->locks[1])));
  pthread_barrier_wait(&shared->step);
  printf(" %s", name(pthread_rwlock_rdlock(&shared->locks[1])));
  printf(" %s\n", name(pthread_rwlock_unlock(&shared->locks[1])));
  await_children(1);

  const pid_t dies = fork();
  if (dies == 0) die_with_locks(shared);
  int status;
  waitpid(dies, &status, 0);
  printf("killed %d", WTERMSIG(status));
  printf(" read %s", name(pthread_rwlock_tryrdlock(&shared->locks[0])));
  printf(" write %s", name(pthread_rwlock_trywrlock(&shared->locks[0])));
  printf(" unlock %s", name(pthread_rwlock_unlock(&shared->locks[0])));
  printf(" read %s", name(pthread_rwlock_tryrdlock(&shared->locks[3])));
  printf(" spin %s\n", name(pthread_spin_trylock(&shared->spins[0])));
  printf("destroy %s", name(pthread_rwlock_destroy(&shared->locks[2])));
  printf(" %s\n", name(pthread_spin_destroy(&shared->spins[2])));
  return 0;
}
