/* forks: 8
 * fork from one of several threads; threads, thread-local storage and memory in the child. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static __thread int local = 11;
static char* block;
static pthread_barrier_t barrier;

static void* double_it(void* argument) {
  local = 5;
  *(long*)argument *= 2 + local - 5;
  return argument;
}

static void* idle(void* argument) {
  pthread_barrier_wait(&barrier);
  pause();
  return argument;
}

static void* fork_here(void* argument) {
  long number = (long)argument;
  local = (int)number;
  pid_t child = fork();
  if (child == 0) {
    long values[4] = {1, 2, 3, number};
    pthread_t threads[4];
    for (int i = 0; i < 4; ++i) pthread_create(&threads[i], NULL, double_it, &values[i]);
    for (int i = 0; i < 4; ++i) pthread_join(threads[i], NULL);
    long sum = 0;
    for (long i = 0; i < 50 << 20; i += 4096) sum += block[i];
    _exit(values[0] == 2 && values[3] == 2 * number && local == number && sum == 12800 * 3 ? 40 + (int)number : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return (void*)(long)WEXITSTATUS(status);
}

int main(void) {
  block = malloc(50 << 20);
  memset(block, 3, 50 << 20);
  pthread_barrier_init(&barrier, NULL, 3);
  pthread_t idlers[2], forkers[8];
  for (int i = 0; i < 2; ++i) pthread_create(&idlers[i], NULL, idle, NULL);
  pthread_barrier_wait(&barrier);
  for (long i = 0; i < 8; ++i) pthread_create(&forkers[i], NULL, fork_here, (void*)i);
  for (int i = 0; i < 8; ++i) {
    void* result;
    pthread_join(forkers[i], &result);
    printf("thread %d: child ended with %ld\n", i, (long)result);
  }
  return 0;
}
