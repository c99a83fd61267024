/* For programs whose processes share pthread objects: memory, objects, children. */
#pragma once

#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static inline void* shared_memory(size_t size) {
  void* memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) exit(99);
  return memory;
}

static inline void make_mutex(pthread_mutex_t* mutex, int type, int robust) {
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_settype(&attributes, type);
  pthread_mutexattr_setrobust(&attributes, robust);
  if (pthread_mutex_init(mutex, &attributes) != 0) exit(98);
  pthread_mutexattr_destroy(&attributes);
}

static inline void make_condition(pthread_cond_t* condition, clockid_t clock) {
  pthread_condattr_t attributes;
  pthread_condattr_init(&attributes);
  pthread_condattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_condattr_setclock(&attributes, clock);
  if (pthread_cond_init(condition, &attributes) != 0) exit(98);
}

static inline void make_barrier(pthread_barrier_t* barrier, unsigned count) {
  pthread_barrierattr_t attributes;
  pthread_barrierattr_init(&attributes);
  pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  if (pthread_barrier_init(barrier, &attributes, count) != 0) exit(98);
}

static inline const char* name(int error) {
  return error == 0 ? "0" : error == PTHREAD_BARRIER_SERIAL_THREAD ? "SERIAL" : strerrorname_np(error);
}

static inline struct timespec after_milliseconds(clockid_t clock, long milliseconds) {
  struct timespec time;
  clock_gettime(clock, &time);
  time.tv_nsec += milliseconds % 1000 * 1000000;
  time.tv_sec += milliseconds / 1000 + time.tv_nsec / 1000000000;
  time.tv_nsec %= 1000000000;
  return time;
}

/* Says how children end whose end is not 0. */
static inline void await_children(int count) {
  for (int i = 0; i < count; ++i) {
    int status;
    if (wait(&status) < 0)
      printf("wait: %s\n", strerrorname_np(errno));
    else if (status != 0)
      printf("a child ended with %#x\n", status);
  }
}
