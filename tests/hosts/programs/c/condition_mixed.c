/* forks: 1
 * Condition variables with mutexes of other kinds: a private one with a shared mutex, a shared one with a
 * private mutex, threads that wait across the fork; a thread that is cancelled while it waits. */
#include "process_shared.h"

struct shared {
  pthread_mutex_t mutex;
  pthread_cond_t condition, turn;
  int go, waiting, seen;
};

static struct shared* shared;
static pthread_mutex_t private_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t private_condition = PTHREAD_COND_INITIALIZER;
static int private_go, private_waiting;

static void* wait_privately(void* unused) {
  pthread_mutex_lock(&shared->mutex);
  ++private_waiting;
  pthread_cond_broadcast(&shared->turn);
  while (!private_go) pthread_cond_wait(&private_condition, &shared->mutex);
  pthread_mutex_unlock(&shared->mutex);
  return unused;
}

static void* wait_across(void* unused) {
  pthread_mutex_lock(&shared->mutex);
  ++shared->waiting;
  pthread_cond_broadcast(&shared->turn);
  while (!shared->go) pthread_cond_wait(&shared->condition, &shared->mutex);
  ++shared->seen;
  pthread_mutex_unlock(&shared->mutex);
  return unused;
}

static void cleanup(void* unused) {
  (void)unused;
  printf("cancelled, with the mutex: try %s\n", name(pthread_mutex_trylock(&shared->mutex)));
  pthread_mutex_unlock(&shared->mutex);
}

static void* wait_for_ever(void* unused) {
  pthread_mutex_lock(&shared->mutex);
  pthread_cleanup_push(cleanup, NULL);
  ++shared->waiting;
  pthread_cond_broadcast(&shared->turn);
  for (;;) pthread_cond_wait(&shared->condition, &shared->mutex);
  pthread_cleanup_pop(1);
  return unused;
}

static void await_waiting(const int* count, int wanted) {
  pthread_mutex_lock(&shared->mutex);
  while (*count < wanted) pthread_cond_wait(&shared->turn, &shared->mutex);
  pthread_mutex_unlock(&shared->mutex);
}

int main(void) {
  shared = shared_memory(sizeof *shared);
  make_mutex(&shared->mutex, PTHREAD_MUTEX_ERRORCHECK, 0);
  make_condition(&shared->condition, CLOCK_REALTIME);
  make_condition(&shared->turn, CLOCK_REALTIME);

  pthread_t threads[4];
  pthread_create(&threads[0], NULL, wait_for_ever, NULL);
  await_waiting(&shared->waiting, 1);
  pthread_cancel(threads[0]);
  void* result;
  pthread_join(threads[0], &result);
  printf("joined %d, free again: %s\n", result == PTHREAD_CANCELED, name(pthread_mutex_trylock(&shared->mutex)));
  shared->waiting = 0;
  pthread_mutex_unlock(&shared->mutex);

  for (int i = 0; i < 3; ++i) pthread_create(&threads[i], NULL, i == 2 ? wait_privately : wait_across, NULL);
  await_waiting(&shared->waiting, 2);
  await_waiting(&private_waiting, 1);
  fflush(stdout);
  if (fork() == 0) {
    /* A shared condition with a mutex that only this process has. */
    struct timespec soon = after_milliseconds(CLOCK_REALTIME, 20);
    pthread_mutex_lock(&private_mutex);
    printf("private mutex %s\n", name(pthread_cond_timedwait(&shared->turn, &private_mutex, &soon)));
    printf("unlock %s\n", name(pthread_mutex_unlock(&private_mutex)));
    fflush(stdout);
    pthread_mutex_lock(&shared->mutex);
    shared->go = 1;
    pthread_cond_broadcast(&shared->condition);
    pthread_mutex_unlock(&shared->mutex);
    _exit(0);
  }
  pthread_join(threads[0], NULL);
  pthread_join(threads[1], NULL);
  await_children(1);
  pthread_mutex_lock(&shared->mutex);
  private_go = 1;
  pthread_cond_signal(&private_condition);
  pthread_mutex_unlock(&shared->mutex);
  pthread_join(threads[2], NULL);
  printf("seen %d\n", shared->seen);
  return 0;
}
