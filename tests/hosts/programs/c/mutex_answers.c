/* forks: 2
 * What process-shared mutexes answer: to owners, to others, to deadlines; native first, then with a child
 * elsewhere. */
#include "process_shared.h"

struct shared {
  pthread_mutex_t normal, recursive, checking, late;
  pthread_barrier_t step;
};

static void ask(const char* who, struct shared* shared) {
  struct timespec past = {1, 0}, never = {0, -1}, before_epoch = {-5, 0};
  pthread_mutex_t* all[] = {&shared->normal, &shared->recursive, &shared->checking};
  for (int i = 0; i < 3; ++i) {
    printf("%s %d: try %s", who, i, name(pthread_mutex_trylock(all[i])));
    printf(" again %s", name(pthread_mutex_trylock(all[i])));
    if (i == 1) printf(" unlock %s", name(pthread_mutex_unlock(all[i])));
    if (i != 0) printf(" lock %s", name(pthread_mutex_lock(all[i])));
    if (i == 1) printf(" unlock %s", name(pthread_mutex_unlock(all[i])));
    if (i == 0) {
      printf(" past %s", name(pthread_mutex_timedlock(all[i], &past)));
      printf(" never %s", name(pthread_mutex_timedlock(all[i], &never)));
      printf(" epoch %s", name(pthread_mutex_timedlock(all[i], &before_epoch)));
      struct timespec soon = after_milliseconds(CLOCK_MONOTONIC, 20);
      printf(" clock %s", name(pthread_mutex_clocklock(all[i], CLOCK_MONOTONIC, &soon)));
      printf(" clock %s", name(pthread_mutex_clocklock(all[i], CLOCK_PROCESS_CPUTIME_ID, &soon)));
      printf(" destroy %s", name(pthread_mutex_destroy(all[i])));
    }
    printf(" unlock %s", name(pthread_mutex_unlock(all[i])));
    if (i != 0) printf(" too often %s", name(pthread_mutex_unlock(all[i])));
    printf(" invalid but free %s", name(pthread_mutex_timedlock(all[i], &never)));
    printf(" unlock %s", name(pthread_mutex_unlock(all[i])));
    printf(" consistent %s\n", name(pthread_mutex_consistent(all[i])));
  }
  fflush(stdout);
}

/* Held by another process. */
static void ask_other(const char* who, struct shared* shared) {
  pthread_mutex_t* all[] = {&shared->normal, &shared->recursive, &shared->checking};
  for (int i = 0; i < 3; ++i) {
    struct timespec soon = after_milliseconds(CLOCK_REALTIME, 20);
    printf("%s other %d: try %s", who, i, name(pthread_mutex_trylock(all[i])));
    printf(" timed %s", name(pthread_mutex_timedlock(all[i], &soon)));
    if (i != 0) printf(" unlock %s", name(pthread_mutex_unlock(all[i])));
    printf("\n");
  }
  fflush(stdout);
}

int main(void) {
  struct shared* shared = shared_memory(sizeof *shared);
  make_mutex(&shared->normal, PTHREAD_MUTEX_NORMAL, 0);
  make_mutex(&shared->recursive, PTHREAD_MUTEX_RECURSIVE, 0);
  make_mutex(&shared->checking, PTHREAD_MUTEX_ERRORCHECK, 0);
  make_barrier(&shared->step, 2);
  ask("native", shared);
  pid_t child = fork();
  if (child == 0) {
    ask("child", shared);
    pthread_barrier_wait(&shared->step);
    pthread_barrier_wait(&shared->step); /* the parent holds them */
    ask_other("child", shared);
    make_mutex(&shared->late, PTHREAD_MUTEX_ERRORCHECK, 0);
    printf("late %s\n", name(pthread_mutex_lock(&shared->late)));
    fflush(stdout);
    pthread_barrier_wait(&shared->step);
    pthread_barrier_wait(&shared->step);
    printf("late unlock %s\n", name(pthread_mutex_unlock(&shared->late)));
    fflush(stdout);
    _exit(0);
  }
  pthread_barrier_wait(&shared->step);
  ask("parent", shared);
  pthread_mutex_lock(&shared->normal);
  pthread_mutex_lock(&shared->recursive);
  pthread_mutex_lock(&shared->checking);
  pthread_barrier_wait(&shared->step);
  pthread_barrier_wait(&shared->step);
  printf("late try %s unlock %s\n", name(pthread_mutex_trylock(&shared->late)),
         name(pthread_mutex_unlock(&shared->late)));
  fflush(stdout);
  pthread_barrier_wait(&shared->step);
  await_children(1);
  printf("late try %s\n", name(pthread_mutex_trylock(&shared->late)));
  fflush(stdout);
  /* A child of a process that holds them has none of them. */
  if (fork() == 0) {
    ask_other("second", shared);
    printf("late %s\n", name(pthread_mutex_unlock(&shared->late)));
    fflush(stdout);
    _exit(0);
  }
  await_children(1);
  printf("%s", name(pthread_mutex_unlock(&shared->late)));
  printf(" %s", name(pthread_mutex_destroy(&shared->late)));
  printf(" %s\n", name(pthread_mutex_lock(&shared->late)));
  return 0;
}
