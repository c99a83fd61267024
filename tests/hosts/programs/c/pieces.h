// Input that arrives in pieces, for tests of who waits for more.
//
// The pipe holds one page, so that it is writable again only when what is in it was taken: the next piece is
// written when the reader has had the last one, and is in a read of its own.
#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static inline int MakePagePipe(int* ends) {
  return pipe(ends) == 0 && fcntl(ends[1], F_SETPIPE_SZ, 4096) >= 0 ? 0 : -1;
}

// All that was written into the page was read: the reader is on its own again, what comes next is another
// read.
static inline void AwaitTaken(int output) {
  struct pollfd taken = {output, POLLOUT, 0};
  poll(&taken, 1, -1);
}

// A child that reads the pieces as its standard input and then ends. Returns its wait status.
static inline int Feed(void (*reader)(void), const char* const* pieces) {
  int ends[2];
  if (MakePagePipe(ends) != 0) abort();
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[0], 0);
    close(ends[0]);
    close(ends[1]);
    reader();
    fflush(stdout);
    char rest[100];
    while (read(0, rest, sizeof rest) > 0) continue;
    _exit(0);
  }
  close(ends[0]);
  for (; *pieces != NULL; ++pieces) {
    AwaitTaken(ends[1]);
    if (write(ends[1], *pieces, strlen(*pieces)) < 0) break;
  }
  close(ends[1]);
  int status;
  waitpid(child, &status, 0);
  return status;
}
