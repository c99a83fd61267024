/* forks: 8
 * Eight children and rounds of a process-shared barrier: nobody is a round ahead, one in each is told apart,
 * and what was written before is seen behind it. */
#include "process_shared.h"

enum { kChildren = 8, kRounds = 6 };

struct shared {
  pthread_barrier_t barrier;
  pthread_barrier_t second;
  long cells[kChildren];
  int serial[kChildren][kRounds];
};

int main(void) {
  struct shared* shared = shared_memory(sizeof *shared);
  make_barrier(&shared->barrier, 1);
  printf("alone %s %s\n", name(pthread_barrier_wait(&shared->barrier)),
         name(pthread_barrier_destroy(&shared->barrier)));
  fflush(stdout);
  make_barrier(&shared->barrier, kChildren);
  make_barrier(&shared->second, kChildren + 1);
  for (int child = 0; child < kChildren; ++child) {
    if (fork() != 0) continue;
    for (int round = 0; round < kRounds; ++round) {
      shared->cells[child] = child + 10 * round;
      shared->serial[child][round] = pthread_barrier_wait(&shared->barrier) == PTHREAD_BARRIER_SERIAL_THREAD;
      long sum = 0;
      for (int i = 0; i < kChildren; ++i) sum += shared->cells[i];
      if (sum != kChildren * (kChildren - 1) / 2 + 10 * round * kChildren) _exit(1);
      pthread_barrier_wait(&shared->barrier);
    }
    pthread_barrier_wait(&shared->second);
    _exit(0);
  }
  int last = pthread_barrier_wait(&shared->second);
  await_children(kChildren);
  printf("last %d\n", last == 0 || last == PTHREAD_BARRIER_SERIAL_THREAD);
  for (int round = 0; round < kRounds; ++round) {
    int serial = 0;
    for (int i = 0; i < kChildren; ++i) serial += shared->serial[i][round];
    printf("round %d: told apart %d\n", round, serial);
  }
  printf("destroy %s\n", name(pthread_barrier_destroy(&shared->barrier)));
  return 0;
}
