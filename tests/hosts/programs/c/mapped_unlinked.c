// forks: 19
// Files without a name that children map when they run already: one file for mappings, reads and writes of
// all.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kPage = 4096 };

static int FromTemplate(void) {
  char name[] = "/tmp/mapped-XXXXXX";
  const int fd = mkstemp(name);
  unlink(name);
  return fd;
}
static int FromStdio(void) {
  return dup(fileno(tmpfile()));
}
static int WithoutName(void) {
  return open("/tmp", O_RDWR | O_TMPFILE, 0600);
}
static int Wait(pid_t child) {
  int status;
  waitpid(child, &status, 0);
  return status;
}

static char* Map(int fd, size_t size, int protection, int flags, off_t offset) {
  char* const mapped = mmap(NULL, size, protection, flags, fd, offset);
  if (mapped == MAP_FAILED) printf("mmap: %s\n", strerror(errno));
  return mapped;
}

static sigjmp_buf back;
static void Bus(int signal) {
  (void)signal;
  siglongjmp(back, 1);
}
// The byte, -1: there is none.
static int At(const volatile char* at) {
  signal(SIGBUS, Bus);
  return sigsetjmp(back, 1) == 0 ? *at : -1;
}

static int CountOf(int fd) {
  struct stat status;
  fstat(fd, &status);
  return (int)status.st_size;
}

// Of one child all: what it maps, reads, writes and cuts is one file.
static void Child(int fd) {
  char text[64] = "";
  char* mapped = Map(fd, 2 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
  printf("mapped %.6s, at %ld\n", mapped, (long)lseek(fd, 0, SEEK_CUR));
  memcpy(mapped + 100, "stored", 6);
  pread(fd, text, 6, 100);
  printf("read %s\n", text);
  pwrite(fd, "pwrite", 6, 200);
  printf("mapped %.6s\n", mapped + 200);
  for (int i = 0; i < 20; ++i) {
    char line[8];
    snprintf(line, sizeof line, "%06d", i);
    write(fd, line, 6);
    if (memcmp(mapped + 6 + 6 * i, line, 6) != 0) printf("not mapped: %s\n", line);
  }
  memcpy(mapped + 126, "behind", 6);
  FILE* file = fdopen(dup(fd), "r+");
  fseek(file, 300, SEEK_SET);
  fputs("by stdio", file);
  fflush(file);
  printf("mapped %.8s\n", mapped + 300);
  fclose(file);

  printf("ftruncate %d\n", ftruncate(fd, 4 * kPage + 10));
  char* const more = Map(fd, 2 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, 3 * kPage);
  printf("more %d %d\n", At(more), At(more + kPage + 9));
  more[kPage + 9] = 'z';
  pread(fd, text, 2, 4 * kPage + 9);
  printf("read %.1s, msync %d\n", text, msync(more, 2 * kPage, MS_SYNC));
  printf("munmap %d\n", munmap(more, 2 * kPage));
  mapped[kPage + 1] = 'x';
  ftruncate(fd, kPage);
  printf("cut: %d\n", At(mapped + kPage + 1));
  ftruncate(fd, 2 * kPage);
  printf("longer: %d %d\n", At(mapped + kPage + 1), At(mapped + 100));
  printf("munmap %d\n", munmap(mapped, 2 * kPage));
  mapped = Map(fd, kPage, PROT_READ, MAP_SHARED, 0);
  printf("again %.6s %.6s\n", mapped + 100, mapped + 126);
  lseek(fd, 1, SEEK_SET);
}

static void Both(const char* what, int fd) {
  char text[16] = "";
  write(fd, "parent", 6);
  ftruncate(fd, 2 * kPage);
  printf("%s\n", what);
  pid_t child = fork();
  if (child == 0) {
    Child(fd);
    _exit(0);
  }
  printf("status %d\n", Wait(child));
  printf("at %ld of %d\n", (long)lseek(fd, 0, SEEK_CUR), CountOf(fd));
  char* mapped = Map(fd, 2 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
  pread(fd, text, 6, 100);
  printf("parent: %s %.6s %.6s %.8s\n", text, mapped + 126, mapped + 200, mapped + 300);

  // Two children and the parent, in turns; the second finds the file mapped.
  int to[2], from[2];
  char byte;
  pipe(to);
  pipe(from);
  child = fork();
  if (child == 0) {
    char* own = Map(fd, 2 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
    memcpy(own, "first ", 6);
    write(from[1], "1", 1);
    read(to[0], &byte, 1);
    printf("first: %.6s %.6s\n", own, own + 6);
    write(fd, "!", 1);
    strcpy(own + kPage, "second page");
    _exit(0);
  }
  read(from[0], &byte, 1);
  const pid_t second = fork();
  if (second == 0) {
    char* own = Map(fd, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
    pread(fd, text, 6, 0);
    printf("second: %.6s %s %.6s\n", own, text, mapped);
    memcpy(own + 6, "second", 6);
    _exit(0);
  }
  Wait(second);
  memcpy(mapped, "parent", 6);
  write(to[1], "2", 1);
  printf("status %d\n", Wait(child));
  printf("parent: %.12s %s at %ld\n", mapped, mapped + kPage, (long)lseek(fd, 0, SEEK_CUR));
  munmap(mapped, 2 * kPage);
  close(to[0]), close(to[1]), close(from[0]), close(from[1]);
  close(fd);
}

// The parent has it mapped at the fork; a child has a child.
static void Inherited(void) {
  const int fd = FromTemplate();
  char text[8] = "";
  ftruncate(fd, 2 * kPage);
  char* mapped = Map(fd, 2 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
  strcpy(mapped, "parent");
  pid_t child = fork();
  if (child == 0) {
    write(fd, "child", 5);
    printf("%s at %ld\n", mapped, (long)lseek(fd, 0, SEEK_CUR));
    ftruncate(fd, 3 * kPage);
    char* more = Map(fd, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, 2 * kPage);
    strcpy(more, "more");
    const pid_t nested = fork();
    if (nested == 0) {
      write(fd, "nested", 6);
      char* own = Map(fd, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
      strcpy(own + 200, "nested");
      _exit(0);
    }
    Wait(nested);
    printf("%s %s\n", mapped, mapped + 200);
    _exit(0);
  }
  Wait(child);
  pread(fd, text, 4, 2 * kPage);
  printf("parent %s at %ld of %d: %s\n", mapped, (long)lseek(fd, 0, SEEK_CUR), CountOf(fd), text);

  // What one writes who has not mapped it is there for one who has, on another host, when that one knows.
  int to[2];
  pipe(to);
  const pid_t reader = fork();
  if (reader == 0) {
    char byte;
    char* own = Map(fd, kPage, PROT_READ, MAP_SHARED, 0);
    read(to[0], &byte, 1);
    printf("%s %s\n", mapped, own);
    _exit(0);
  }
  const pid_t writer = fork();
  if (writer == 0) {
    lseek(fd, 0, SEEK_SET);
    write(fd, "writer", 6);
    write(to[1], "w", 1);
    _exit(0);
  }
  Wait(writer);
  printf("status %d\n", Wait(reader));
}

static int Open(int fd, int mode) {
  char name[32];
  snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
  return open(name, mode);
}

// What descriptors permit, and what changes behind a mapping's back.
static void Permissions(void) {
  const int fd = FromTemplate(), reads = Open(fd, O_RDONLY), writes = Open(fd, O_WRONLY);
  int to[2], from[2];
  char byte, text[8] = "";
  pipe(to);
  pipe(from);
  write(fd, "parent", 6);
  const pid_t child = fork();
  if (child == 0) {
    printf("nothing %d, odd %d\n", mmap(NULL, 0, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED ? errno : 0,
           mmap(NULL, 1, PROT_READ, MAP_SHARED, fd, 1) == MAP_FAILED ? errno : 0);
    Map(writes, 10, PROT_READ, MAP_SHARED, 0);
    Map(writes, 10, PROT_WRITE, MAP_SHARED, 0);
    Map(writes, 10, PROT_READ, MAP_PRIVATE, 0);
    Map(reads, 10, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
    char* shared = Map(reads, kPage, PROT_READ, MAP_SHARED, 0);
    printf("mprotect %d %s\n", mprotect(shared, kPage, PROT_READ | PROT_WRITE), strerror(errno));
    char* own = Map(reads, 2 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);
    char* grows = Map(fd, kPage, PROT_READ, MAP_SHARED, 2 * kPage);
    char* later = Map(fd, kPage, PROT_READ, MAP_SHARED, 0);
    printf("mprotect %d\n", mprotect(later, kPage, PROT_READ | PROT_WRITE));
    own[0] = 'P';
    printf("%.6s %.6s %d %d\n", shared, own, At(own + kPage), At(grows));
    write(from[1], "1", 1);
    read(to[0], &byte, 1);
    printf("%.6s %.6s %.6s %.6s %d %d\n", shared, own, later, own + kPage, At(grows), At(grows + 1));
    memcpy(later, "LATER.", 6);
    pread(reads, text, 6, 0);
    printf("%.6s %s %.6s\n", shared, text, own);
    write(from[1], "1", 1);
    read(to[0], &byte, 1);
    printf("cut %d %d %d\n", At(shared), At(later), At(own));
    _exit(0);
  }
  read(from[0], &byte, 1);
  pwrite(fd, "PARENT", 6, 0);
  pwrite(fd, "second", 6, kPage);
  ftruncate(fd, 2 * kPage + 1);
  pwrite(fd, "3", 1, 2 * kPage);
  write(to[1], "1", 1);
  read(from[0], &byte, 1);
  pread(fd, text, 6, 0);
  printf("parent: %s\n", text);
  ftruncate(fd, 0);
  write(to[1], "1", 1);
  printf("status %d\n", Wait(child));
}

// An empty file that children make larger, with what they share in it. A large one that is cut and made as
// long again between two looks.
struct Shared {
  sem_t ready;
  pthread_mutex_t mutex;
  int count;
};
static void Synchronised(void) {
  const int fd = WithoutName();
  pid_t children[3];
  if ((children[0] = fork()) == 0) {
    struct Shared* shared = (struct Shared*)Map(fd, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
    printf("empty %d\n", At((char*)shared));
    ftruncate(fd, sizeof *shared);
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(&shared->mutex, &attributes);
    sem_init(&shared->ready, 1, 0);
    _exit(0);
  }
  Wait(children[0]);
  for (int i = 0; i < 3; ++i) {
    if ((children[i] = fork()) != 0) continue;
    struct Shared* shared = (struct Shared*)Map(fd, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
    for (int k = 0; k < 100; ++k) {
      pthread_mutex_lock(&shared->mutex);
      ++shared->count;
      pthread_mutex_unlock(&shared->mutex);
    }
    sem_post(&shared->ready);
    _exit(0);
  }
  struct Shared* shared = (struct Shared*)Map(fd, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
  for (int i = 0; i < 3; ++i) sem_wait(&shared->ready);
  printf("%d\n", shared->count);
  for (int i = 0; i < 3; ++i) Wait(children[i]);
}

static void Large(void) {
  enum { kSize = 4 << 20 };
  const int fd = FromStdio();
  int to[2], from[2];
  char byte;
  pipe(to);
  pipe(from);
  ftruncate(fd, kSize);
  char* own = Map(fd, kSize, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
  memset(own, 'a', kSize / 2);
  const pid_t child = fork();
  if (child == 0) {
    char* mapped = Map(fd, kSize, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
    printf("large %d %d %d\n", At(mapped + 5), At(own + kSize / 2 - 1), At(mapped + kSize - 1));
    write(from[1], "1", 1);
    read(to[0], &byte, 1);
    printf("zero %d %d\n", At(mapped + 5), At(own + kSize / 2 - 1));
    mapped[kSize - 1] = 'b';
    _exit(0);
  }
  read(from[0], &byte, 1);
  ftruncate(fd, 0);
  ftruncate(fd, kSize);
  write(to[1], "1", 1);
  Wait(child);
  printf("parent %d %d\n", own[5], own[kSize - 1]);
}

int main(void) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  signal(SIGBUS, SIG_DFL);
  Both("mkstemp", FromTemplate());
  Both("tmpfile", FromStdio());
  Both("O_TMPFILE", WithoutName());
  Inherited();
  Permissions();
  Synchronised();
  Large();
  return 0;
}
