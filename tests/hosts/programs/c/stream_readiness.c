// forks: 3
// poll, select and epoll in a child on another host, over pipes, a socketpair and its own descriptors.
#include <poll.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static int in[2], go[2], back[2], pair[2];
static char buffer[100];

static void Say(const char* text) { write(back[1], text, 1); }
static void Await(void) { read(back[0], buffer, 1); }

static void Polls(void) {
  struct pollfd all[3] = {{in[0], POLLIN, 0}, {pair[1], POLLIN, 0}, {eventfd(0, 0), POLLIN, 0}};
  printf("nothing: %d\n", poll(all, 3, 0));
  printf("timeout: %d\n", poll(all, 3, 50));
  Say("a");
  int ready = poll(all, 3, -1);
  printf("pipe: %d %d %d\n", ready, all[0].revents == POLLIN, all[1].revents);
  printf("read %zd\n", read(in[0], buffer, 3));
  ready = poll(all, 3, 0);
  printf("rest: %d %d\n", ready, all[0].revents == POLLIN);
  printf("read %zd\n", read(in[0], buffer, 30));
  printf("empty: %d\n", poll(all, 3, 0));
  Say("b");
  ready = poll(all, 3, -1);
  printf("socket: %d %d %d\n", ready, all[0].revents, all[1].revents == POLLIN);
  printf("read %zd\n", recv(pair[1], buffer, 30, 0));
  close(in[1]);
  Say("c");
  ready = poll(all, 3, -1);
  printf("end: %d %d read %zd\n", ready, all[0].revents == POLLHUP, read(in[0], buffer, 30));
}

static void Selects(void) {
  fd_set set;
  struct timeval none = {0, 0};
  FD_ZERO(&set);
  FD_SET(in[0], &set);
  printf("nothing: %d\n", select(in[0] + 1, &set, 0, 0, &none));
  Say("a");
  FD_SET(in[0], &set);
  printf("pipe: %d %d\n", select(in[0] + 1, &set, 0, 0, 0), FD_ISSET(in[0], &set) != 0);
  printf("read %zd\n", read(in[0], buffer, 30));
  Say("b");
  FD_ZERO(&set);
  FD_SET(pair[1], &set);
  printf("socket: %d\n", select(pair[1] + 1, &set, 0, 0, 0));
  printf("read %zd\n", read(pair[1], buffer, 30));
  close(in[1]);
  Say("c");
  FD_ZERO(&set);
  FD_SET(in[0], &set);
  printf("end: %d read %zd\n", select(in[0] + 1, &set, 0, 0, 0), read(in[0], buffer, 30));
}

static void Epolls(void) {
  int instance = epoll_create1(0);
  struct epoll_event event = {EPOLLIN, {.u64 = 42}}, seen;
  epoll_ctl(instance, EPOLL_CTL_ADD, in[0], &event);
  event.data.u64 = 43;
  epoll_ctl(instance, EPOLL_CTL_ADD, pair[1], &event);
  printf("nothing: %d\n", epoll_wait(instance, &seen, 1, 50));
  Say("a");
  printf("pipe: %d", epoll_wait(instance, &seen, 1, -1));
  printf(" %d %d\n", (int)seen.data.u64, seen.events == EPOLLIN);
  printf("read %zd\n", read(in[0], buffer, 30));
  printf("empty: %d\n", epoll_wait(instance, &seen, 1, 50));
  Say("b");
  printf("socket: %d", epoll_wait(instance, &seen, 1, -1));
  printf(" %d\n", (int)seen.data.u64);
  printf("read %zd\n", read(pair[1], buffer, 30));
  close(in[1]);
  Say("c");
  printf("end: %d", epoll_wait(instance, &seen, 1, -1));
  printf(" %d %d read %zd\n", (int)seen.data.u64, seen.events == EPOLLHUP, read(in[0], buffer, 30));
}

static void Round(void (*child_does)(void)) {
  pipe(in);
  pipe(go);
  pipe(back);
  socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    child_does();
    fflush(stdout);
    _exit(0);
  }
  Await();
  write(in[1], "abcdef", 6);
  Await();
  write(pair[0], "xyz", 3);
  Await();
  close(in[1]);
  int status;
  waitpid(child, &status, 0);
  printf("status %d\n", status);
}

int main(void) {
  Round(Polls);
  Round(Selects);
  Round(Epolls);
  return 0;
}
