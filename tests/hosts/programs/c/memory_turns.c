// Shared memory that children use one after another, and what its owner does with it in between: writes,
// throws the content away, makes it larger.
// forks: 5
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGES 8
#define PAGE 4096

static void turn(unsigned char* memory, size_t pages, unsigned char adds) {
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    unsigned sum = 0;
    for (size_t page = 0; page < pages; ++page) sum += memory[page * PAGE];
    printf("child sees %u\n", sum);
    for (size_t page = 0; page < pages; ++page) memory[page * PAGE + 1] += adds;
    fflush(stdout);
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  printf("status %d, parent sees", status);
  for (size_t page = 0; page < pages; ++page) printf(" %d", memory[page * PAGE + 1]);
  printf("\n");
}

static int object(void) {
  char path[] = "/dev/shm/memory-turns-XXXXXX";
  const int file = mkstemp(path);
  unlink(path);
  if (file < 0 || ftruncate(file, PAGES * PAGE) != 0) exit(1);
  return file;
}

static unsigned char* map(int file, size_t pages) {
  unsigned char* memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (memory == MAP_FAILED) exit(2);
  return memory;
}

int main(void) {
  const int file = object();
  unsigned char* memory = map(file, PAGES);
  memset(memory, 3, PAGES * PAGE);
  turn(memory, PAGES, 1);
  memory[0] = 9;
  turn(memory, PAGES, 2);
  if (ftruncate(file, 0) != 0 || ftruncate(file, PAGES * PAGE) != 0) return 1;
  memory[PAGE] = 5;
  turn(memory, PAGES, 4);
  memset(memory, 1, PAGES * PAGE);
  turn(memory, PAGES, 1);
  if (ftruncate(file, 2 * PAGES * PAGE) != 0) return 1;
  memory = map(file, 2 * PAGES);
  memset(memory + PAGES * PAGE, 2, PAGES * PAGE);
  turn(memory, 2 * PAGES, 1);
  return 0;
}
