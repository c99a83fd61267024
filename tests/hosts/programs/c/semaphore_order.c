/* forks: 3
 * Two processes of one host write in turns, each to a pipe of its own, and hand over by semaphores that
 * nobody else uses: who has read what the second wrote finds what the first wrote before. */
#include <fcntl.h>
#include <semaphore.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kTurns = 500 };

struct turns {
  sem_t first, second;
};

static void write_in_turns(sem_t* mine, sem_t* next, int fd) {
  for (int i = 0; i < kTurns; ++i) {
    sem_wait(mine);
    write(fd, "x", 1);
    sem_post(next);
  }
}

int main(void) {
  struct turns* turns = mmap(NULL, sizeof *turns, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  int first[2], second[2];
  sem_init(&turns->first, 1, 1);
  sem_init(&turns->second, 1, 0);
  pipe(first);
  pipe(second);
  if (fork() == 0) {
    if (fork() == 0) {
      write_in_turns(&turns->first, &turns->second, first[1]);
      _exit(0);
    }
    if (fork() == 0) {
      write_in_turns(&turns->second, &turns->first, second[1]);
      _exit(0);
    }
    int status = 0, wrong = 0;
    for (int i = 0; i < 2; ++i) wrong += wait(&status) < 0 || status != 0;
    _exit(wrong);
  }
  fcntl(first[0], F_SETFL, O_NONBLOCK);
  int missing = 0;
  char byte;
  for (int i = 0; i < kTurns; ++i) {
    read(second[0], &byte, 1);
    missing += read(first[0], &byte, 1) != 1;
  }
  int status = 0, value = -1;
  wait(&status);
  sem_getvalue(&turns->first, &value);
  printf("missing %d, status %d, left %d\n", missing, status, value);
  return 0;
}
