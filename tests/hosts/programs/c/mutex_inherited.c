/* forks: 4
 * Children of a parent that has used a mutex for long: what the parent remembers of where it is does not hold
 * for them. */
#include "process_shared.h"

enum { kAlone = 100000, kTogether = 20000, kRounds = 3 };

struct shared {
  pthread_mutex_t mutex;
  long counter;
};

static void count(struct shared* shared, int turns) {
  for (int i = 0; i < turns; ++i) {
    pthread_mutex_lock(&shared->mutex);
    ++*(volatile long*)&shared->counter;
    pthread_mutex_unlock(&shared->mutex);
  }
}

int main(void) {
  struct shared* shared = shared_memory(sizeof *shared);
  make_mutex(&shared->mutex, PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_STALLED);
  if (fork() == 0) _exit(0); /* from here on other hosts have it, too */
  await_children(1);
  for (int round = 0; round < kRounds; ++round) {
    count(shared, kAlone);
    char byte = 0;
    int here[2];
    if (pipe(here) != 0) return 1;
    int is_child = fork() == 0;
    long done = is_child ? write(here[1], &byte, 1) : read(here[0], &byte, 1);
    count(shared, kTogether);
    if (is_child) _exit(done != 1);
    await_children(1);
  }
  printf("%ld of %d\n", shared->counter, kRounds * (kAlone + 2 * kTogether));
  return 0;
}
