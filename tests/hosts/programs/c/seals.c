// forks: 24
// A memfd that a child shared can be sealed when the child was waited for; who inherits it sealed finds the
// seals.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static void Say(const char* what, long number) {
  printf("%s %ld\n", what, number);
  fflush(stdout);
}

static long OrError(long result) {
  return result < 0 ? -errno : result;
}

static void Sealed(int file) {
  char bytes[2] = "";
  Say("seals", fcntl(file, F_GET_SEALS));
  Say("read", pread(file, bytes, 2, 0));
  Say("as written", memcmp(bytes, "ab", 2) == 0);
  Say("write", OrError(pwrite(file, "x", 1, 0)));
  Say("another seal", OrError(fcntl(file, F_ADD_SEALS, F_SEAL_SEAL)));
  Say("seals", fcntl(file, F_GET_SEALS));
  Say("no more", OrError(fcntl(file, F_ADD_SEALS, F_SEAL_GROW)));
  _exit(0);
}

int main(void) {
  for (int i = 0; i < 12; ++i) {
    int status;
    const int file = memfd_create("shared", MFD_ALLOW_SEALING);
    ftruncate(file, 8192);
    char* const memory = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    memory[0] = 'a';
    if (fork() == 0) {
      memory[1] = 'b';
      _exit(0);
    }
    Say("while it is mapped", OrError(fcntl(file, F_ADD_SEALS, F_SEAL_WRITE)));
    wait(&status);
    Say("status", status);
    munmap(memory, 8192);
    Say("seal", OrError(fcntl(file, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK)));
    if (fork() == 0) Sealed(file);
    wait(&status);
    Say("status", status);
    close(file);
  }
  return 0;
}
