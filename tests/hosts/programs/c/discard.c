/* forks: 1
 * Memory of a forked child that it discards reads as zeros, and private mappings of files as the file. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kPage = 4096, kPages = 512 };

static int sum(const unsigned char* memory, int from, int to) {
  int total = 0;
  for (int i = from * kPage; i < to * kPage; ++i) total += memory[i] != 0;
  return total / kPage;
}

int main(void) {
  unsigned char* memory = mmap(NULL, kPages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  for (int i = 0; i < kPages * kPage; ++i) memory[i] = (unsigned char)(i % 251 + 1);
  int file = open("/etc/passwd", O_RDONLY);
  unsigned char* mapped = mmap(NULL, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
  unsigned char first = mapped[0];
  fflush(stdout);
  pid_t pid = fork();
  if (pid == 0) {
    printf("whole: %d\n", sum(memory, 0, kPages));
    printf("discard: %d\n", madvise(memory + 100 * kPage, 200 * kPage, MADV_DONTNEED));
    printf("before, in, after: %d %d %d\n", sum(memory, 0, 100), sum(memory, 100, 300), sum(memory, 300, kPages));
    memset(memory + 150 * kPage, 7, 10 * kPage);
    printf("written again: %d\n", sum(memory, 100, 300));
    printf("free: %d\n", madvise(memory + 400 * kPage, 10 * kPage, MADV_FREE));
    mapped[0] = (unsigned char)(first + 1);
    printf("discard of a file mapping: %d", madvise(mapped, kPage, MADV_DONTNEED));
    printf(" %d\n", mapped[0] == first);
    printf("nothing there: %d\n", madvise((void*)0x10000, kPage, MADV_DONTNEED));
    free(malloc(3 << 20));
    fflush(stdout);
    _exit(0);
  }
  int status;
  waitpid(pid, &status, 0);
  printf("status %d\n", status);
  return 0;
}
