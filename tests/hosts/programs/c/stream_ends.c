// forks: 4
// End of file, EPIPE, SIGPIPE and EAGAIN reach a child on another host as they would at home.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int Wait(pid_t child) {
  int status;
  waitpid(child, &status, 0);
  return status;
}

int main(void) {
  int p[2], q[2];
  char buffer[100];
  // A child reads until the end.
  pipe(p);
  pid_t child = fork();
  if (child == 0) {
    close(p[1]);
    ssize_t total = 0, size;
    while ((size = read(p[0], buffer, sizeof buffer)) > 0) total += size;
    printf("child read %zd, then %zd\n", total, size);
    fflush(stdout);
    _exit(0);
  }
  close(p[0]);
  for (int i = 0; i < 5; ++i) write(p[1], "0123456789", 10);
  close(p[1]);
  printf("status %d\n", Wait(child));
  fflush(stdout);

  // Nobody reads: SIGPIPE ends the child.
  pipe(p);
  pipe(q);
  child = fork();
  if (child == 0) {
    close(p[0]);
    read(q[0], buffer, 1);
    for (;;) write(p[1], "x", 1);
  }
  close(p[0]);
  close(p[1]);
  write(q[1], "g", 1);
  int status = Wait(child);
  printf("killed by %s\n", WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "nothing");
  fflush(stdout);

  // The same with SIGPIPE ignored.
  signal(SIGPIPE, SIG_IGN);
  pipe(p);
  child = fork();
  if (child == 0) {
    close(p[0]);
    read(q[0], buffer, 1);
    while (write(p[1], "x", 1) == 1) continue;
    _exit(errno == EPIPE ? 7 : 8);
  }
  close(p[0]);
  close(p[1]);
  write(q[1], "g", 1);
  printf("status %d\n", WEXITSTATUS(Wait(child)));
  fflush(stdout);

  // O_NONBLOCK. The child says when it has found nothing; only then something comes.
  int found[2];
  pipe2(p, O_NONBLOCK);
  pipe(found);
  child = fork();
  if (child == 0) {
    close(p[1]);
    ssize_t none = read(p[0], buffer, 10);
    int again = errno == EAGAIN;
    write(found[1], "n", 1);
    char go;
    read(q[0], &go, 1);
    ssize_t some = read(p[0], buffer, 10);
    printf("%zd %d %zd %.*s flags %d\n", none, again, some, (int)some, buffer,
           fcntl(p[0], F_GETFL) & O_NONBLOCK);
    fflush(stdout);
    _exit(0);
  }
  close(found[1]);
  read(found[0], buffer, 1);
  write(p[1], "late", 4);
  write(q[1], "g", 1);
  printf("status %d\n", Wait(child));
  return 0;
}
