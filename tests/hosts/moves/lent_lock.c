// forks: 240
// A semaphore that is lent to the worker whose processes write to a full pipe under it. Home takes it now and then,
// behind one that still runs, behind one that took it after that and wrote nothing, or behind one that has ended, and
// writes itself: messages of two writes stay whole.
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kRounds = 60, kBefore = 40, kBytes = 3000, kKinds = 3 };

static sem_t *lock;
static int ends[2];

static void Write(int number) {
  char bytes[kBytes];
  memset(bytes, number, sizeof bytes);
  sem_wait(lock);
  write(ends[1], bytes, 1);
  write(ends[1], bytes, sizeof bytes);
  sem_post(lock);
}

// With nothing to be sent, as often as it takes for the lock to be lent.
static void Take(int times) {
  for (int i = 0; i < times; ++i) sem_wait(lock), sem_post(lock);
}

static void *Play(void *unused) {
  for (int i = 0; i < kRounds * kKinds; ++i) {
    const int kind = i % kKinds;
    if (fork() == 0) {
      Take(kBefore);
      if (kind == 1 && fork() == 0) {
        usleep(4000);
        Take(1);
        _exit(0);
      }
      Write(1);
      if (kind != 2) usleep(8000);
      while (wait(NULL) > 0) {
      }
      _exit(0);
    }
    usleep(9000);
    Write(2);
  }
  return unused;
}

int main(void) {
  lock = mmap(NULL, sizeof *lock, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  sem_init(lock, 1, 1);
  pipe(ends);
  pthread_t player;
  pthread_create(&player, NULL, Play, NULL);
  int whole = 0;
  for (int i = 0; i < 2 * kRounds * kKinds; ++i) {
    char bytes[1 + kBytes];
    for (size_t got = 0; got < sizeof bytes;) {
      const ssize_t more = read(ends[0], bytes + got, sizeof bytes - got);
      if (more <= 0) return 1;
      got += (size_t)more;
    }
    int same = 1;
    for (size_t at = 1; at < sizeof bytes; ++at) same &= bytes[at] == bytes[0];
    whole += same;
    usleep(6000);
  }
  pthread_join(player, NULL);
  while (wait(NULL) > 0) {
  }
  printf("%d\n", whole);
  return 0;
}
