/* forks: 5
 * Shared memory that a child inherits as a descriptor only, and maps by itself: a memfd, an unlinked object
 * of shm_open; with semaphores and mutexes in it that either side made. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <semaphore.h>

#include "process_shared.h"

enum { kSize = 8192, kTurns = 200 };

struct Shared {
  sem_t there, back;
  pthread_mutex_t mutex;
  int count;
  char text[32];
};

static struct Shared* map(int object) {
  struct Shared* shared = mmap(NULL, kSize, PROT_READ | PROT_WRITE, MAP_SHARED, object, 0);
  if (shared == MAP_FAILED) exit(97);
  return shared;
}

static void make(struct Shared* shared) {
  sem_init(&shared->there, 1, 0);
  sem_init(&shared->back, 1, 0);
  make_mutex(&shared->mutex, PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_STALLED);
}

static void count(struct Shared* shared) {
  for (int turn = 0; turn < kTurns; ++turn) {
    pthread_mutex_lock(&shared->mutex);
    ++shared->count;
    pthread_mutex_unlock(&shared->mutex);
  }
}

/* The object is mapped by nobody when the child is made. */
static void one_child(const char* what, int object, int child_makes) {
  int ready[2];
  if (pipe(ready) != 0 || ftruncate(object, kSize) != 0) exit(96);
  if (!child_makes) {
    struct Shared* shared = map(object);
    make(shared);
    munmap(shared, kSize);
  }
  if (fork() == 0) {
    struct Shared* shared = map(object);
    if (child_makes) make(shared);
    strcpy(shared->text, what);
    write(ready[1], "x", 1);
    sem_wait(&shared->there);
    count(shared);
    sem_post(&shared->back);
    _exit(0);
  }
  char byte;
  read(ready[0], &byte, 1);
  struct Shared* shared = map(object);
  printf("%s: %s\n", what, shared->text);
  sem_post(&shared->there);
  count(shared);
  sem_wait(&shared->back);
  printf("%s: %d\n", what, shared->count);
  await_children(1);
  close(ready[0]);
  close(ready[1]);
}

static int unlinked(void) {
  char name[64];
  sprintf(name, "/elsewhere-unmapped-%d", getpid());
  const int object = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
  shm_unlink(name);
  return object;
}

/* Two children, and a parent that maps it when both have ended. */
static void two_children(int object) {
  if (ftruncate(object, kSize) != 0) exit(96);
  for (int child = 0; child < 2; ++child) {
    if (fork() == 0) {
      map(object)->text[child] = (char)('a' + child);
      _exit(0);
    }
  }
  await_children(2);
  printf("two children: %s\n", map(object)->text);
}

int main(void) {
  setvbuf(stdout, NULL, _IONBF, 0);
  one_child("memfd", memfd_create("memory", 0), 0);
  one_child("memfd, made by the child", memfd_create("memory", 0), 1);
  one_child("unlinked", unlinked(), 0);
  two_children(memfd_create("memory", MFD_CLOEXEC));
  return 0;
}
