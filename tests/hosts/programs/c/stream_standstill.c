/* forks: 4
 * One child fills a pipe and waits for room. Others, which have the pipe too and wrote a line before, post a
 * semaphore and end; the parent reads only when it has seen that. What fills the pipe is more than the
 * largest pipe holds, so that this takes as long as a pipe is given (a minute). */
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kOthers = 3, kMore = 1 << 20 };

static char block[4096];

int main(void) {
  int pipe_ends[2], written[2], go[kOthers][2];
  sem_t* posted = mmap(NULL, sizeof *posted, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  sem_init(posted, 1, 0);
  pipe(pipe_ends);
  pipe(written);
  pid_t others[kOthers];
  for (int i = 0; i < kOthers; ++i) {
    pipe(go[i]);
    if ((others[i] = fork()) == 0) {
      char byte;
      write(pipe_ends[1], "a line\n", 7);
      write(written[1], "w", 1);
      read(go[i][0], &byte, 1);
      sem_post(posted);
      _exit(i + 1);
    }
  }
  pid_t filler = fork();
  if (filler == 0) {
    for (int i = 0; i < kOthers; ++i) read(written[0], block, 1);
    memset(block, 'x', sizeof block);
    fcntl(pipe_ends[1], F_SETFL, O_NONBLOCK);
    while (write(pipe_ends[1], block, sizeof block) > 0) {
    }
    int why = errno;
    fcntl(pipe_ends[1], F_SETFL, 0);
    for (int i = 0; i < kOthers; ++i) write(go[i][1], "g", 1);
    for (int sent = 0; sent < kMore; sent += (int)sizeof block) write(pipe_ends[1], block, sizeof block);
    _exit(why == EAGAIN ? 0 : 1);
  }
  close(pipe_ends[1]);
  for (int i = 0; i < kOthers; ++i) sem_wait(posted);
  for (int i = 0; i < kOthers; ++i) {
    int status;
    waitpid(others[i], &status, 0);
    printf("%d\n", status);
  }
  fflush(stdout);
  int lines = 0, more = 0;
  for (ssize_t got; (got = read(pipe_ends[0], block, sizeof block)) > 0;) {
    for (ssize_t i = 0; i < got; ++i) {
      lines += block[i] == '\n';
      more += block[i] == 'x';
    }
  }
  int status;
  waitpid(filler, &status, 0);
  printf("%d lines, more than was waiting: %d, %d\n", lines, more > kMore, status);
  return 0;
}
