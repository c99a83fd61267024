/* forks: 4
 * A counter under a process-shared spin lock. */
#include "process_shared.h"

struct shared {
  pthread_spinlock_t lock, held;
  long counter;
};

int main(void) {
  struct shared* shared = shared_memory(sizeof *shared);
  pthread_spin_init(&shared->lock, PTHREAD_PROCESS_SHARED);
  pthread_spin_init(&shared->held, PTHREAD_PROCESS_SHARED);
  pthread_spin_lock(&shared->held);
  for (int child = 0; child < 4; ++child) {
    if (fork() != 0) continue;
    if (pthread_spin_trylock(&shared->held) != EBUSY) _exit(1);
    for (int i = 0; i < 100; ++i) {
      pthread_spin_lock(&shared->lock);
      ++shared->counter;
      pthread_spin_unlock(&shared->lock);
    }
    _exit(0);
  }
  await_children(4);
  printf("held %s unlock %s try %s\n", name(pthread_spin_trylock(&shared->held)),
         name(pthread_spin_unlock(&shared->held)), name(pthread_spin_trylock(&shared->held)));
  printf("counter %ld destroy %s\n", shared->counter, name(pthread_spin_destroy(&shared->lock)));
  return 0;
}
