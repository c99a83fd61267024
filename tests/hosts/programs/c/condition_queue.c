/* forks: 6
 * A bounded queue under a process-shared mutex and two condition variables: producers and consumers of several
 * hosts, every item once. Then all wait for one broadcast, and deadlines by both clocks. */
#include "process_shared.h"

enum { kRoom = 4, kItems = 60 };

struct shared {
  pthread_mutex_t mutex;
  pthread_cond_t not_full, not_empty, all, monotonic;
  int items[kRoom], head, count, taken;
  long sum;
  int ready, go, through;
};

static void put(struct shared* shared, int item) {
  pthread_mutex_lock(&shared->mutex);
  while (shared->count == kRoom) pthread_cond_wait(&shared->not_full, &shared->mutex);
  shared->items[(shared->head + shared->count++) % kRoom] = item;
  pthread_cond_signal(&shared->not_empty);
  pthread_mutex_unlock(&shared->mutex);
}

static int get(struct shared* shared) {
  pthread_mutex_lock(&shared->mutex);
  while (shared->count == 0) pthread_cond_wait(&shared->not_empty, &shared->mutex);
  int item = shared->items[shared->head];
  shared->head = (shared->head + 1) % kRoom;
  --shared->count;
  ++shared->taken;
  shared->sum += item;
  pthread_cond_signal(&shared->not_full);
  pthread_mutex_unlock(&shared->mutex);
  return item;
}

static void await_broadcast(struct shared* shared) {
  pthread_mutex_lock(&shared->mutex);
  ++shared->ready;
  pthread_cond_signal(&shared->not_full);
  while (!shared->go) pthread_cond_wait(&shared->all, &shared->mutex);
  ++shared->through;
  pthread_mutex_unlock(&shared->mutex);
}

static void await_deadlines(struct shared* shared) {
  pthread_mutex_lock(&shared->mutex);
  struct timespec soon = after_milliseconds(CLOCK_REALTIME, 30), past = {1, 0}, never = {0, 1000000000};
  printf("deadline %s", name(pthread_cond_timedwait(&shared->all, &shared->mutex, &soon)));
  soon = after_milliseconds(CLOCK_MONOTONIC, 30);
  printf(" %s", name(pthread_cond_timedwait(&shared->monotonic, &shared->mutex, &soon)));
  soon = after_milliseconds(CLOCK_MONOTONIC, 30);
  printf(" %s", name(pthread_cond_clockwait(&shared->all, &shared->mutex, CLOCK_MONOTONIC, &soon)));
  printf(" %s", name(pthread_cond_timedwait(&shared->all, &shared->mutex, &past)));
  printf(" %s", name(pthread_cond_timedwait(&shared->all, &shared->mutex, &never)));
  printf(" unlock %s\n", name(pthread_mutex_unlock(&shared->mutex)));
  fflush(stdout);
}

int main(void) {
  struct shared* shared = shared_memory(sizeof *shared);
  make_mutex(&shared->mutex, PTHREAD_MUTEX_ERRORCHECK, 0);
  make_condition(&shared->not_full, CLOCK_REALTIME);
  make_condition(&shared->not_empty, CLOCK_REALTIME);
  make_condition(&shared->all, CLOCK_REALTIME);
  make_condition(&shared->monotonic, CLOCK_MONOTONIC);
  await_deadlines(shared);
  for (int child = 0; child < 6; ++child) {
    if (fork() != 0) continue;
    for (int i = 0; i < kItems; ++i) {
      if (child % 2 == 0) put(shared, child * 1000 + i);
      else get(shared);
    }
    await_broadcast(shared);
    _exit(0);
  }
  for (int i = 0; i < kItems; ++i) {
    put(shared, i);
    get(shared);
  }
  pthread_mutex_lock(&shared->mutex);
  while (shared->ready < 6) pthread_cond_wait(&shared->not_full, &shared->mutex);
  shared->go = 1;
  pthread_cond_broadcast(&shared->all);
  printf("through before the unlock: %d\n", shared->through);
  pthread_mutex_unlock(&shared->mutex);
  await_children(6);
  printf("taken %d sum %ld left %d through %d\n", shared->taken, shared->sum, shared->count, shared->through);
  await_deadlines(shared);
  printf("not held %s\n", name(pthread_cond_wait(&shared->all, &shared->mutex)));
  printf("destroy %s %s\n", name(pthread_cond_destroy(&shared->all)), name(pthread_mutex_destroy(&shared->mutex)));
  return 0;
}
