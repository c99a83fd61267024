/* A process-shared mutex with priority inheritance: a protocol that exists on one host only. */
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

struct shared {
  pthread_mutex_t lock;
  long counter;
};

int main(void) {
  struct shared* shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
  pthread_mutex_init(&shared->lock, &attributes);
  for (int child = 0; child < 2; ++child) {
    if (fork() == 0) {
      for (int i = 0; i < 20000; ++i) {
        pthread_mutex_lock(&shared->lock);
        ++shared->counter;
        pthread_mutex_unlock(&shared->lock);
      }
      _exit(0);
    }
  }
  wait(NULL);
  wait(NULL);
  printf("counter %ld\n", shared->counter);
  return 0;
}
