/* Two processes increment one counter of a file without a name, which the child maps by itself, without any
   order between them. `large`: the child maps a file of 513 MiB. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char** argv) {
  (void)argv;
  char name[] = "/tmp/mapped-file-XXXXXX";
  const int file = mkstemp(name);
  unlink(name);
  if (posix_fallocate(file, 0, argc > 1 ? 513L << 20 : 4096) != 0) return 1;
  const pid_t child = fork();
  volatile long* counter = MAP_FAILED;
  if (child == 0 || argc == 1) counter = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (argc > 1) {
    if (child == 0) puts(counter == MAP_FAILED ? strerror(errno) : "mapped");
    return wait(NULL) < 0 && child != 0;
  }
  for (int i = 0; i < 2000; ++i) {
    __atomic_fetch_add(counter, 1, __ATOMIC_SEQ_CST);
    usleep(500);
  }
  if (child == 0) _exit(0);
  wait(NULL);
  printf("counter %ld\n", *counter);
  return 0;
}
