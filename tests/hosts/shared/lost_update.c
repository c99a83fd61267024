/* Two processes increment one counter of shared memory without any order between them. `anonymous`: of a
   mapping that the child inherits; `file`: of a file without a name, which it maps by itself; `large`: it
   maps one of 513 MiB. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile long* map(int file) {
  return mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | (file < 0 ? MAP_ANONYMOUS : 0), file, 0);
}

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const int large = strcmp(argv[1], "large") == 0;
  char name[] = "/tmp/lost-update-XXXXXX";
  const int file = strcmp(argv[1], "anonymous") == 0 ? -1 : mkstemp(name);
  if (file >= 0) unlink(name);
  if (file >= 0 && posix_fallocate(file, 0, large ? 513L << 20 : 4096) != 0) return 1;
  volatile long* counter = file < 0 ? map(file) : NULL;
  const pid_t child = fork();
  if (large) {
    if (child == 0) puts(map(file) == MAP_FAILED ? strerror(errno) : "mapped");
    return wait(NULL) < 0 && child != 0;
  }
  if (file >= 0) counter = map(file);
  for (int i = 0; i < 2000; ++i) {
    __atomic_fetch_add(counter, 1, __ATOMIC_SEQ_CST);
    usleep(500);
  }
  if (child == 0) _exit(0);
  wait(NULL);
  printf("counter %ld\n", *counter);
  return 0;
}
