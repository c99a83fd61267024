/* forks: 10
 * Memory that children share with their parent and each other: anonymous, of an unlinked file, through a descriptor. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kWriters = 4, kBytes = 20000 };

struct board {
  sem_t lock, ready;
  int counter;
  volatile int flag, seen;
  unsigned char bytes[kBytes];
  double numbers[1000];
};

static struct board* Map(int fd, int flags) {
  return mmap(NULL, sizeof(struct board), PROT_READ | PROT_WRITE, MAP_SHARED | flags, fd, 0);
}

static void Reap(int count) {
  for (int i = 0; i < count; ++i) {
    int status = -1;
    wait(&status);
    if (status != 0) printf("a child ended with %d\n", status);
  }
}

int main(void) {
  struct board* board = Map(-1, MAP_ANONYMOUS);
  sem_init(&board->lock, 1, 1);
  sem_init(&board->ready, 1, 0);
  strcpy((char*)board->bytes, "from the parent");

  /* Every writer writes every fourth byte: neighbours in the same words. A counter under a lock. */
  for (int writer = 0; writer < kWriters; ++writer) {
    if (fork() == 0) {
      if (strcmp((char*)board->bytes + 0, "from the parent") != 0 && writer == 0) _exit(1);
      sem_post(&board->ready);
      for (int i = 100 + writer; i < kBytes; i += kWriters) board->bytes[i] = (unsigned char)(i % 251);
      for (int i = writer; i < 1000; i += kWriters) board->numbers[i] = i / 3.0;
      for (int i = 0; i < 50; ++i) {
        sem_wait(&board->lock);
        ++board->counter;
        sem_post(&board->lock);
      }
      _exit(0);
    }
  }
  for (int i = 0; i < kWriters; ++i) sem_wait(&board->ready);
  Reap(kWriters);
  int wrong = 0;
  for (int i = 100; i < kBytes; ++i) wrong += board->bytes[i] != (unsigned char)(i % 251);
  for (int i = 0; i < 1000; ++i) wrong += board->numbers[i] != i / 3.0;
  printf("counter %d wrong %d %s\n", board->counter, wrong, (char*)board->bytes);

  /* A flag that is only looked at, and an answer that is, too. */
  if (fork() == 0) {
    while (board->flag == 0) usleep(1000);
    board->seen = board->flag + 1;
    _exit(0);
  }
  board->flag = 41;
  while (board->seen == 0) usleep(1000);
  printf("seen %d\n", board->seen);
  Reap(1);

  /* Two children that talk to each other, the parent silent. */
  sem_t* turns = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  unsigned* value = (unsigned*)(turns + 2);
  sem_init(&turns[0], 1, 1);
  sem_init(&turns[1], 1, 0);
  for (int me = 0; me < 2; ++me) {
    if (fork() == 0) {
      for (int i = 0; i < 25; ++i) {
        sem_wait(&turns[me]);
        *value = *value * 3 + (unsigned)me + 1;
        sem_post(&turns[1 - me]);
      }
      _exit(0);
    }
  }
  Reap(2);
  printf("value %u\n", *value);

  /* An unlinked file: the child writes through its mapping, and through a mapping that it makes of the descriptor. */
  char name[] = "/dev/shm/elsewhere-test-XXXXXX";
  int fd = mkstemp(name);
  unlink(name);
  if (ftruncate(fd, sizeof(struct board)) != 0) return 1;
  struct board* file = Map(fd, 0);
  file->counter = 5;
  if (fork() == 0) {
    struct board* again = Map(fd, 0);
    if (again == MAP_FAILED || again->counter != 5) _exit(3);
    again->counter = 6;
    file->flag = 7;
    _exit(0);
  }
  Reap(1);
  printf("file %d %d\n", file->counter, file->flag);

  /* A nested child shares with all. */
  if (fork() == 0) {
    if (fork() == 0) {
      board->bytes[1] = 'R';
      _exit(0);
    }
    Reap(1);
    _exit(board->bytes[1] == 'R' ? 0 : 4);
  }
  Reap(1);
  printf("nested %s\n", (char*)board->bytes);
  return 0;
}
