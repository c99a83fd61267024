// forks: 0
// home: an inotify instance with watches cannot move to another host
// A child that stays at home when its capture is done has its pipes and sockets under their numbers, with
// their flags, and in its epoll instances.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kMost = 300, kNumbers = 1000, kWatched = 5 };

static int ends[kMost][2], flags[kNumbers];

static void NoteFlags(int* noted) {
  for (int fd = 0; fd < kNumbers; ++fd) noted[fd] = fcntl(fd, F_GETFD);
}

// With gaps between the numbers, and some that are high.
static void Make(int count, int spread) {
  for (int i = 0; i < count; ++i) {
    const int on_exec = i % 2;
    if (i % 3 == 0) {
      socketpair(AF_UNIX, SOCK_STREAM | (on_exec ? SOCK_CLOEXEC : 0), 0, ends[i]);
    } else {
      pipe2(ends[i], on_exec ? O_CLOEXEC : 0);
    }
    if (!spread || i % 4 != 0) continue;
    const int high = fcntl(ends[i][0], F_DUPFD, 700 + 3 * i);
    close(ends[i][0]);
    ends[i][0] = high;
  }
}

static int Check(int epoll, int count) {
  int wrong = 0, now[kNumbers];
  NoteFlags(now);
  for (int fd = 0; fd < kNumbers; ++fd) wrong += now[fd] != flags[fd];
  for (int i = 0; i < count; ++i) {
    const char sent = (char)i;
    char got = (char)(i + 1);
    wrong += write(ends[i][1], &sent, 1) != 1;
    if (i != kWatched) wrong += read(ends[i][0], &got, 1) != 1 || got != sent;
  }
  struct epoll_event event;
  return wrong + (epoll_wait(epoll, &event, 1, 0) != 1 || event.data.fd != ends[kWatched][0]);
}

int main(void) {
  inotify_add_watch(inotify_init(), "/", IN_CREATE);
  for (int round = 0; round < 3; ++round) {
    const int count = round == 2 ? kMost : 20;
    Make(count, round == 1);
    const int epoll = epoll_create1(0);
    struct epoll_event event = {EPOLLIN, {.fd = ends[kWatched][0]}};
    epoll_ctl(epoll, EPOLL_CTL_ADD, ends[kWatched][0], &event);
    NoteFlags(flags);
    fflush(stdout);
    if (fork() == 0) {
      printf("%d wrong\n", Check(epoll, count));
      return 0;
    }
    wait(NULL);
    close(epoll);
    for (int i = 0; i < count; ++i) {
      close(ends[i][0]);
      close(ends[i][1]);
    }
  }
  return 0;
}
