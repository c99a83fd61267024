/* forks: 8
 * Owners of robust mutexes that die, of each kind of death: the next owner is told once. */
#include "process_shared.h"

struct shared {
  pthread_mutex_t robust, checking, recursive;
  pthread_barrier_t held;
  pthread_cond_t condition;
  int value;
};

static struct shared* shared;

static void* lock_and_end(void* mutex) {
  printf("thread %s\n", name(pthread_mutex_lock(mutex)));
  fflush(stdout);
  return NULL;
}

static void lock_all(void) {
  printf("lock %s", name(pthread_mutex_lock(&shared->robust)));
  printf(" %s", name(pthread_mutex_lock(&shared->checking)));
  printf(" %s", name(pthread_mutex_lock(&shared->recursive)));
  printf(" %s\n", name(pthread_mutex_lock(&shared->recursive)));
  fflush(stdout);
}

static void recover(pthread_mutex_t* mutex) {
  printf("next %s", name(pthread_mutex_lock(mutex)));
  printf(" consistent %s", name(pthread_mutex_consistent(mutex)));
  printf(" again %s", name(pthread_mutex_consistent(mutex)));
  printf(" unlock %s", name(pthread_mutex_unlock(mutex)));
  printf(" lock %s", name(pthread_mutex_lock(mutex)));
  printf(" unlock %s", name(pthread_mutex_unlock(mutex)));
  printf(" unlock %s\n", name(pthread_mutex_unlock(mutex)));
  fflush(stdout);
}

static void recover_all(void) {
  recover(&shared->robust);
  recover(&shared->checking);
  recover(&shared->recursive);
}

int main(void) {
  shared = shared_memory(sizeof *shared);
  make_mutex(&shared->robust, PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_ROBUST);
  make_mutex(&shared->checking, PTHREAD_MUTEX_ERRORCHECK, PTHREAD_MUTEX_ROBUST);
  make_mutex(&shared->recursive, PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_ROBUST);
  make_barrier(&shared->held, 2);
  make_condition(&shared->condition, CLOCK_REALTIME);

  /* A thread of this process, before anything is elsewhere. */
  pthread_t thread;
  pthread_create(&thread, NULL, lock_and_end, &shared->robust);
  pthread_join(thread, NULL);
  recover(&shared->robust);

  /* Killed while it holds them; the parent waits for one already. */
  pid_t child = fork();
  if (child == 0) {
    lock_all();
    pthread_barrier_wait(&shared->held);
    for (;;) pause();
  }
  pthread_barrier_wait(&shared->held);
  printf("held: try %s\n", name(pthread_mutex_trylock(&shared->robust)));
  fflush(stdout);
  kill(child, SIGKILL);
  recover(&shared->robust);
  waitpid(child, NULL, 0);
  recover(&shared->checking);
  recover(&shared->recursive);

  /* Killed and reaped: that it is dead is known at once. */
  child = fork();
  if (child == 0) {
    lock_all();
    pthread_barrier_wait(&shared->held);
    for (;;) pause();
  }
  pthread_barrier_wait(&shared->held);
  kill(child, SIGKILL);
  waitpid(child, NULL, 0);
  printf("reaped: try %s", name(pthread_mutex_trylock(&shared->robust)));
  printf(" consistent %s unlock %s\n", name(pthread_mutex_consistent(&shared->robust)),
         name(pthread_mutex_unlock(&shared->robust)));
  fflush(stdout);
  recover(&shared->checking);
  recover(&shared->recursive);

  /* Ends by itself; the next owner is another child. */
  if (fork() == 0) {
    lock_all();
    _exit(0);
  }
  await_children(1);
  if (fork() == 0) {
    recover_all();
    _exit(0);
  }
  await_children(1);

  /* Killed by itself; whoever is told dies too; who comes then does not make it consistent. */
  if (fork() == 0) {
    lock_all();
    kill(getpid(), SIGKILL);
  }
  wait(NULL);
  printf("reaped: try %s", name(pthread_mutex_trylock(&shared->checking)));
  printf(" consistent %s unlock %s\n", name(pthread_mutex_consistent(&shared->checking)),
         name(pthread_mutex_unlock(&shared->checking)));
  fflush(stdout);
  if (fork() == 0) {
    printf("told %s\n", name(pthread_mutex_lock(&shared->robust)));
    fflush(stdout);
    _exit(0);
  }
  await_children(1);
  struct timespec soon = after_milliseconds(CLOCK_REALTIME, 20);
  printf("told %s", name(pthread_mutex_timedlock(&shared->robust, &soon)));
  printf(" unlock %s", name(pthread_mutex_unlock(&shared->robust)));
  printf(" lock %s", name(pthread_mutex_lock(&shared->robust)));
  printf(" try %s\n", name(pthread_mutex_trylock(&shared->robust)));
  fflush(stdout);
  recover(&shared->recursive);

  /* The owner dies while this waits on a condition. */
  pthread_mutex_lock(&shared->checking);
  if (fork() == 0) {
    pthread_mutex_lock(&shared->checking);
    pthread_cond_signal(&shared->condition);
    _exit(0);
  }
  printf("wait %s", name(pthread_cond_wait(&shared->condition, &shared->checking)));
  printf(" consistent %s", name(pthread_mutex_consistent(&shared->checking)));
  printf(" unlock %s\n", name(pthread_mutex_unlock(&shared->checking)));
  fflush(stdout);
  await_children(1);

  /* The parent held it natively when its child came; a thread of a child ends with it. */
  if (fork() == 0) {
    pthread_create(&thread, NULL, lock_and_end, &shared->recursive);
    pthread_join(thread, NULL);
    recover(&shared->recursive);
    _exit(0);
  }
  await_children(1);
  return 0;
}
