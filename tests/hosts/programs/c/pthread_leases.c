/* forks: 10
 * Mutexes and condition variables that mostly one host uses, now and then another: each protects its
 * counters, no signal is lost, and who is killed while it waits takes nothing along. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { kChildren = 4, kTurns = 600, kItems = 2000 };

struct shared {
  pthread_mutex_t locks[kChildren], recursive, checked, ring_lock;
  pthread_cond_t not_empty, not_full;
  long counters[kChildren];
  int ring[8], head, tail, ended;
};

static void add(struct shared* shared, int which) {
  pthread_mutex_lock(&shared->locks[which]);
  ++shared->counters[which];
  pthread_mutex_unlock(&shared->locks[which]);
}

/* Its own lock most of the time, everybody's once in a while. */
static void work(struct shared* shared, int self) {
  for (int i = 0; i < kTurns; ++i) {
    add(shared, self);
    if (i % 97 == 96) add(shared, (self + 1) % kChildren);
  }
}

static void put(struct shared* shared, int item) {
  pthread_mutex_lock(&shared->ring_lock);
  while (shared->head - shared->tail == 8) pthread_cond_wait(&shared->not_full, &shared->ring_lock);
  shared->ring[shared->head++ % 8] = item;
  pthread_cond_signal(&shared->not_empty);
  pthread_mutex_unlock(&shared->ring_lock);
}

static int take(struct shared* shared) {
  pthread_mutex_lock(&shared->ring_lock);
  while (shared->head == shared->tail) pthread_cond_wait(&shared->not_empty, &shared->ring_lock);
  int item = shared->ring[shared->tail++ % 8];
  pthread_cond_signal(&shared->not_full);
  pthread_mutex_unlock(&shared->ring_lock);
  return item;
}

static long take_all(struct shared* shared) {
  long sum = 0;
  for (int i = 0; i < kItems; ++i) sum += take(shared);
  return sum;
}

static void put_all(struct shared* shared) {
  for (int i = 0; i < kItems; ++i) put(shared, i);
}

static int end_of(pid_t pid) {
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFSIGNALED(status) ? 100 + WTERMSIG(status) : WEXITSTATUS(status);
}

static int is_right(long sum) {
  return sum == (long)kItems * (kItems - 1) / 2;
}

/* Both ends of the ring on one host; a third waits for what never comes, and is killed at it. */
static int both_here(struct shared* shared) {
  pid_t waits = fork();
  if (waits == 0) {
    pthread_mutex_lock(&shared->ring_lock);
    for (;;) pthread_cond_wait(&shared->not_full, &shared->ring_lock);
  }
  pid_t puts = fork();
  if (puts == 0) {
    put_all(shared);
    _exit(0);
  }
  int right = is_right(take_all(shared));
  end_of(puts);
  kill(waits, SIGKILL);
  return right + 2 * (end_of(waits) == 109);
}

/* What the kinds of mutexes say to who holds them and to others, many times. */
static int kinds(struct shared* shared) {
  int wrong = 0;
  for (int i = 0; i < 100; ++i) {
    wrong += pthread_mutex_lock(&shared->recursive) != 0;
    wrong += pthread_mutex_trylock(&shared->recursive) != 0;
    wrong += pthread_mutex_unlock(&shared->recursive) != 0;
    wrong += pthread_mutex_unlock(&shared->recursive) != 0;
    wrong += pthread_mutex_unlock(&shared->recursive) != EPERM;
    wrong += pthread_mutex_lock(&shared->checked) != 0;
    wrong += pthread_mutex_lock(&shared->checked) != EDEADLK;
    wrong += pthread_mutex_trylock(&shared->checked) != EBUSY;
    wrong += pthread_mutex_destroy(&shared->checked) != EBUSY;
    wrong += pthread_mutex_unlock(&shared->checked) != 0;
    wrong += pthread_mutex_unlock(&shared->checked) != EPERM;
  }
  return wrong;
}

static int times_out(struct shared* shared) {
  struct timespec soon;
  int count = 0;
  for (int i = 0; i < 5; ++i) {
    pthread_mutex_lock(&shared->ring_lock);
    clock_gettime(CLOCK_REALTIME, &soon);
    soon.tv_nsec += 2000000;
    if (soon.tv_nsec >= 1000000000) ++soon.tv_sec, soon.tv_nsec -= 1000000000;
    int result = 0;
    while (result == 0) result = pthread_cond_timedwait(&shared->not_empty, &shared->ring_lock, &soon);
    count += result == ETIMEDOUT;
    pthread_mutex_unlock(&shared->ring_lock);
  }
  return count;
}

static void make(struct shared* shared) {
  pthread_mutexattr_t mutex;
  pthread_condattr_t condition;
  pthread_mutexattr_init(&mutex);
  pthread_mutexattr_setpshared(&mutex, PTHREAD_PROCESS_SHARED);
  pthread_condattr_init(&condition);
  pthread_condattr_setpshared(&condition, PTHREAD_PROCESS_SHARED);
  for (int i = 0; i < kChildren; ++i) pthread_mutex_init(&shared->locks[i], &mutex);
  pthread_mutex_init(&shared->ring_lock, &mutex);
  pthread_mutexattr_settype(&mutex, PTHREAD_MUTEX_RECURSIVE);
  pthread_mutex_init(&shared->recursive, &mutex);
  pthread_mutexattr_settype(&mutex, PTHREAD_MUTEX_ERRORCHECK);
  pthread_mutex_init(&shared->checked, &mutex);
  pthread_cond_init(&shared->not_empty, &condition);
  pthread_cond_init(&shared->not_full, &condition);
}

int main(void) {
  struct shared* shared =
      mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  make(shared);
  for (int child = 0; child < kChildren; ++child) {
    if (fork() != 0) continue;
    work(shared, child);
    _exit(0);
  }
  for (int i = 0; i < 40; ++i) add(shared, i % kChildren);
  for (int i = 0; i < kChildren; ++i) wait(NULL);
  for (int i = 0; i < kChildren; ++i) printf("counter %ld\n", shared->counters[i]);

  pid_t across = fork();
  if (across == 0) {
    put_all(shared);
    _exit(0);
  }
  printf("across %d", is_right(take_all(shared)));
  printf(" %d\n", end_of(across));

  pid_t here = fork();
  if (here == 0) _exit(both_here(shared));
  printf("on one host %d\n", end_of(here));

  pid_t tries = fork();
  if (tries == 0) _exit(kinds(shared) + 10 * times_out(shared));
  printf("kinds and times %d\n", end_of(tries));
  printf("at home %d\n", kinds(shared));

  /* Whoever is killed with the mutex keeps it. */
  pid_t holds = fork();
  if (holds == 0) {
    for (int i = 0; i < 50; ++i) add(shared, 0);
    pthread_mutex_lock(&shared->locks[0]);
    raise(SIGKILL);
  }
  printf("killed %d\n", end_of(holds));
  printf("held %d\n", pthread_mutex_trylock(&shared->locks[0]) == EBUSY);
  return 0;
}
