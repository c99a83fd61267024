/* forks: 12
 * A counter under a process-shared mutex of each type, also when the parent holds it at the fork, and in
 * children of children. */
#include "process_shared.h"

struct shared {
  pthread_mutex_t mutexes[6];
  long counters[6];
  long together;
};

static void count(struct shared* shared, int which, int times, int depth) {
  for (int i = 0; i < times; ++i) {
    for (int level = 0; level < depth; ++level) pthread_mutex_lock(&shared->mutexes[which]);
    long before = shared->counters[which];
    if (i % 16 == 0) sched_yield();
    shared->counters[which] = before + 1;
    for (int level = 0; level < depth; ++level) pthread_mutex_unlock(&shared->mutexes[which]);
  }
}

int main(void) {
  static const int types[] = {PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_ERRORCHECK};
  struct shared* shared = shared_memory(sizeof *shared);
  for (int i = 0; i < 6; ++i) make_mutex(&shared->mutexes[i], types[i % 3], i / 3);
  for (int i = 0; i < 6; ++i) pthread_mutex_lock(&shared->mutexes[i]);
  for (int child = 0; child < 6; ++child) {
    if (fork() != 0) continue;
    for (int i = 0; i < 6; ++i) count(shared, (child + i) % 6, 40, i % 3 == 1 && (child + i) % 3 == 1 ? 3 : 1);
    pid_t nested = fork();
    for (int i = 0; i < 6; ++i) count(shared, (child + i) % 6, 20, 1);
    if (nested == 0) _exit(0);
    int status;
    waitpid(nested, &status, 0);
    _exit(status);
  }
  for (int i = 0; i < 6; ++i) {
    ++shared->counters[i];
    printf("unlock %s\n", name(pthread_mutex_unlock(&shared->mutexes[i])));
  }
  for (int i = 0; i < 6; ++i) count(shared, i, 40, 1);
  await_children(6);
  for (int i = 0; i < 6; ++i) {
    printf("counter %d: %ld\n", i, shared->counters[i]);
    printf("destroy %s\n", name(pthread_mutex_destroy(&shared->mutexes[i])));
  }
  return 0;
}
