// forks: 12
// A count in shared memory under locks of a file that each process has opened itself, which the kernel alone has: no
// update is lost, also where the lock goes with a descriptor, or with its process.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kChildren = 3, kRounds = 100 };

static char path[] = "/tmp/lock_files.XXXXXX";

static int Record(int file, int command, short type) {
  struct flock lock = {.l_type = type, .l_whence = SEEK_SET};
  return fcntl(file, command, &lock);
}

static void Locked(int kind, volatile long *count) {
  int file = open(path, O_RDWR);
  FILE *stream = NULL;
  for (int i = 0; i < kRounds; ++i) {
    if (kind == 0) flock(file, LOCK_EX);
    if (kind == 1) Record(file, F_SETLKW, F_WRLCK);
    if (kind == 2) lockf(file, F_LOCK, 1);
    if (kind == 3) {  // let go by closing
      stream = i % 2 != 0 ? fopen(path, "r+") : NULL;
      close(file);
      file = stream != NULL ? fileno(stream) : open(path, O_RDWR);
      flock(file, LOCK_EX);
    }
    const long before = *count;
    if (i % 10 == 0) usleep(200);
    *count = before + 1;
    if (kind == 0) flock(file, LOCK_UN);
    if (kind == 1) Record(file, F_SETLK, F_UNLCK);
    if (kind == 2) lockf(file, F_ULOCK, 1);
    if (kind == 3 && stream != NULL) fclose(stream), file = open(path, O_RDWR);
    else if (kind == 3 && i + 1 < kRounds) close(file), file = open(path, O_RDWR);
  }
  if (kind != 3) close(file);
}

int main(void) {
  volatile long *count = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  const char *const kinds[] = {"flock", "fcntl", "lockf", "closed"};
  close(mkstemp(path));
  for (int kind = 0; kind < 4; ++kind) {
    *count = 0;
    for (int child = 0; child < kChildren; ++child) {
      if (fork() != 0) continue;
      Locked(kind, count);
      exit(0);
    }
    Locked(kind, count);
    while (wait(NULL) > 0) {
    }
    printf("%s: %ld\n", kinds[kind], *count);
    fflush(stdout);
  }
  unlink(path);
  return 0;
}
