// forks: 2
// Status flags and the size of a pipe belong to the open file description: what a child on another host sets
// there is set at home, and the other way round.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void Say(const char* what, long number) {
  printf("%s %ld\n", what, number);
  fflush(stdout);
}

static int NonBlocking(int fd) {
  return (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0;
}

static void Pass(int fd) {
  write(fd, "g", 1);
}
static void Await(int fd) {
  char go;
  read(fd, &go, 1);
}

int main(void) {
  int p[2], q[2], down[2], up[2], s[2], there = 0, off = 0;
  char b[8192];
  memset(b, 'x', sizeof b);
  pipe(p);
  pipe(q);
  pipe(down);
  pipe(up);
  socketpair(AF_UNIX, SOCK_STREAM, 0, s);
  if (fork() == 0) {
    Say("size", fcntl(p[0], F_GETPIPE_SZ));
    Say("set", fcntl(p[0], F_SETPIPE_SZ, 8192));
    Say("nonsense", fcntl(p[0], F_SETPIPE_SZ, -1) < 0 ? errno : 0);
    Say("of a socket", fcntl(s[0], F_GETPIPE_SZ) < 0 ? errno : 0);
    Say("access", fcntl(q[1], F_GETFL) & O_ACCMODE);
    fcntl(p[0], F_SETFL, O_NONBLOCK);
    fcntl(q[1], F_SETFL, O_NONBLOCK);
    fcntl(s[0], F_SETFL, fcntl(s[0], F_GETFL) | O_NONBLOCK);
    Say("own", read(p[0], b, 10) < 0 && errno == EAGAIN);
    long written = 0;
    while (written < 65536) {
      const ssize_t size = write(q[1], b, 4096);
      struct pollfd room = {q[1], POLLOUT, 0};
      if (size < 0) poll(&room, 1, -1);
      if (size > 0) written += size;
    }
    Say("written", written);
    ioctl(p[0], FIONBIO, &off);
    Pass(up[1]);
    Await(down[0]);
    // Home has set it meanwhile, and takes it away again.
    Say("child sees", NonBlocking(p[0]));
    Say("child reads", read(p[0], b, 10) < 0 && errno == EAGAIN);
    Pass(up[1]);
    Await(down[0]);
    Say("child sees", NonBlocking(p[0]));
    Say("child reads", read(p[0], b, 10));
    _exit(0);
  }
  Await(up[0]);
  Say("parent's size", fcntl(p[1], F_GETPIPE_SZ));
  Say("parent sees", NonBlocking(p[0]));
  Say("and", NonBlocking(q[1]));
  Say("and", NonBlocking(s[0]));
  Say("and not", NonBlocking(s[1]));
  Say("full", write(q[1], b, 1) < 0 && errno == EAGAIN);
  fcntl(p[0], F_SETFL, O_NONBLOCK);
  Pass(down[1]);
  Await(up[0]);
  fcntl(p[0], F_SETFL, 0);
  write(p[1], "data", 4);
  Pass(down[1]);
  int status;
  wait(&status);
  Say("status", status);
  ioctl(q[0], FIONREAD, &there);
  Say("in the pipe", there);

  // SIGIO goes to who was named, wherever the input is awaited.
  sigset_t io;
  sigemptyset(&io);
  sigaddset(&io, SIGIO);
  sigprocmask(SIG_BLOCK, &io, NULL);
  if (fork() == 0) {
    Say("owner", fcntl(s[0], F_SETOWN, getpid()));
    Say("is it", fcntl(s[0], F_GETOWN) == getpid());
    fcntl(s[0], F_SETFL, O_ASYNC | O_NONBLOCK);
    Pass(up[1]);
    int got = 0;
    sigwait(&io, &got);
    Say("SIGIO", got == SIGIO);
    Say("read", read(s[0], b, 10));
    _exit(0);
  }
  Await(up[0]);
  write(s[1], "ping", 4);
  wait(&status);
  Say("status", status);
  return 0;
}
