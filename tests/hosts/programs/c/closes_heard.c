// forks: 106
// Who hears of a close by other means finds the end of file, wherever the two are: at once, by a read that
// does not wait. And who finds the end of file finds what was written elsewhere before.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kEach = 20 };

static struct {
  sem_t go, said, closed;
  int late;
} * shared;
static int by_byte;  // said by a byte in another pipe rather than by a post
static int sockets;
static int reads[kEach], writes[kEach], word[2];

static void Make(int count) {
  if (pipe(word) != 0) abort();
  for (int i = 0; i < count; ++i) {
    int ends[2];
    if ((sockets ? socketpair(AF_UNIX, SOCK_STREAM, 0, ends) : pipe(ends)) != 0) abort();
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    reads[i] = ends[0];
    writes[i] = ends[1];
  }
}

static void CloseAll(const int* ends, int count) {
  for (int i = 0; i < count; ++i) close(ends[i]);
}

static int IsLate(int end) {
  char byte;
  const ssize_t got = read(end, &byte, 1);
  if (got < 0 && errno != EAGAIN) perror("read");
  return got != 0;
}

static void Say(void) {
  if (by_byte) {
    write(word[1], "x", 1);
  } else {
    sem_post(&shared->said);
  }
}

static void Hear(void) {
  char byte;
  if (by_byte) {
    read(word[0], &byte, 1);
  } else {
    sem_wait(&shared->said);
  }
}

static void CloseOneByOne(void) {
  for (int i = 0; i < kEach; ++i) {
    sem_wait(&shared->go);
    close(writes[i]);
    Say();
  }
}

static void ReadOneByOne(void) {
  for (int i = 0; i < kEach; ++i) {
    sem_post(&shared->go);
    Hear();
    shared->late += IsLate(reads[i]);
  }
}

static void Report(const char* what) {
  while (wait(NULL) > 0) continue;
  CloseAll(reads, kEach);
  CloseAll(word, 2);
  printf("%s, %s, %s: %d late\n", what, sockets ? "sockets" : "pipes", by_byte ? "byte" : "post",
         shared->late);
  fflush(stdout);
  shared->late = 0;
}

// The child has hardly begun.
static void AtItsStart(void) {
  int late = 0;
  for (int i = 0; i < kEach; ++i) {
    Make(1);
    if (fork() == 0) {
      close(writes[0]);
      Say();
      sem_wait(&shared->go);
      _exit(0);
    }
    close(writes[0]);
    Hear();
    late += IsLate(reads[0]);
    sem_post(&shared->go);
    wait(NULL);
    close(reads[0]);
    CloseAll(word, 2);
  }
  printf("closed at its start, %s, %s: %d late\n", sockets ? "sockets" : "pipes", by_byte ? "byte" : "post",
         late);
  fflush(stdout);
}

static void ChildToParent(void) {
  Make(kEach);
  if (fork() == 0) {
    CloseAll(reads, kEach);
    CloseOneByOne();
    _exit(0);
  }
  CloseAll(writes, kEach);
  ReadOneByOne();
  Report("a child closes");
}

// Its sibling, or on the same host its parent, reads.
static void Elsewhere(int nested) {
  Make(kEach);
  if (fork() == 0) {
    if (nested && fork() != 0) {
      CloseAll(writes, kEach);
      sem_wait(&shared->closed);
      ReadOneByOne();
      wait(NULL);
    } else {
      CloseOneByOne();
    }
    _exit(0);
  }
  if (!nested && fork() == 0) {
    CloseAll(writes, kEach);
    sem_wait(&shared->closed);
    ReadOneByOne();
    _exit(0);
  }
  CloseAll(writes, kEach);
  sem_post(&shared->closed);
  Report(nested ? "a child's child closes" : "a sibling closes");
}

static void Itself(void) {
  Make(kEach);
  if (fork() == 0) {
    sem_wait(&shared->closed);
    for (int i = 0; i < kEach; ++i) {
      close(writes[i]);
      shared->late += IsLate(reads[i]);
    }
    _exit(0);
  }
  CloseAll(writes, kEach);
  sem_post(&shared->closed);
  Report("the reader closes");
}

static void BytesBefore(void) {
  Make(kEach);
  if (fork() == 0) {
    dup2(word[1], 1);
    for (int i = 0; i < kEach; ++i) {
      sem_wait(&shared->go);
      write(1, "x", 1);
      close(writes[i]);
    }
    _exit(0);
  }
  CloseAll(writes, kEach);
  for (int i = 0; i < kEach; ++i) {
    char byte;
    fcntl(reads[i], F_SETFL, 0);
    sem_post(&shared->go);
    if (read(reads[i], &byte, 1) != 0) perror("no end of file");
    fcntl(word[0], F_SETFL, O_NONBLOCK);
    const int is_late = read(word[0], &byte, 1) != 1;
    fcntl(word[0], F_SETFL, 0);
    if (is_late) read(word[0], &byte, 1);
    shared->late += is_late;
  }
  Report("a child writes, then closes");
}

int main(void) {
  shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  sem_init(&shared->go, 1, 0);
  sem_init(&shared->said, 1, 0);
  sem_init(&shared->closed, 1, 0);
  for (sockets = 0; sockets < 2; ++sockets) {
    for (by_byte = 0; by_byte < 2; ++by_byte) {
      AtItsStart();
      ChildToParent();
      Elsewhere(0);
      Elsewhere(1);
      Itself();
    }
    BytesBefore();
  }
  return 0;
}
