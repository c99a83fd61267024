// forks: 6
// An eventfd is one object for everybody who inherited it, wherever they run: its count goes to who reads it,
// and all who wait for it are woken.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

static void Say(const char* what, long number) {
  printf("%s %ld\n", what, number);
  fflush(stdout);
}

static long Take(int event) {
  uint64_t value = 0;
  return read(event, &value, sizeof value) == sizeof value ? (long)value : -errno;
}

static void Join(int children) {
  for (int status; children > 0; --children) {
    wait(&status);
    Say("status", status);
  }
}

// To and fro; both kinds of calls.
static void BothWays(void) {
  const int down = eventfd(3, 0), up = eventfd(0, 0);
  if (fork() == 0) {
    Say("child", Take(down));
    eventfd_write(up, 5);
    eventfd_t value = 0;
    Say("eventfd_read", eventfd_read(down, &value));
    Say("child then", (long)value);
    // What was written here is read here.
    fcntl(up, F_SETFL, O_NONBLOCK);
    char little[4];
    Say("too little room", read(up, little, sizeof little) < 0 && errno == EINVAL);
    eventfd_write(down, 20);
    eventfd_write(down, 22);
    Say("own", Take(down));
    eventfd_write(up, 1);
    eventfd_write(up, 1);
    _exit(0);
  }
  Say("parent", Take(up));
  eventfd_write(down, 9);
  Join(1);
  Say("sum of the child's", Take(up));
  close(down);
  close(up);
}

// Nobody takes it, all see it.
static void Broadcast(void) {
  const int stop = eventfd(0, 0), seen = eventfd(0, EFD_SEMAPHORE);
  for (int i = 0; i < 2; ++i) {
    if (fork() != 0) continue;
    struct pollfd wait = {stop, POLLIN, 0};
    const int ready = poll(&wait, 1, -1);
    eventfd_write(seen, 1);
    const int epoll = epoll_create1(0);
    struct epoll_event event = {EPOLLIN, {.u64 = 77}}, got = {0};
    epoll_ctl(epoll, EPOLL_CTL_ADD, stop, &event);
    const int again = epoll_wait(epoll, &got, 1, -1);
    _exit(ready == 1 && wait.revents == POLLIN && again == 1 && got.data.u64 == 77 ? 0 : 1);
  }
  eventfd_write(stop, 1);
  Take(seen);
  Take(seen);
  Join(2);
  Say("still there", Take(stop));
  close(stop);
  close(seen);
}

// Tokens: each is taken once.
static void Tokens(void) {
  enum { kTokens = 40 };
  const int tokens = eventfd(0, EFD_SEMAPHORE | EFD_NONBLOCK), done = eventfd(0, 0);
  for (int i = 0; i < 3; ++i) {
    if (fork() != 0) continue;
    for (;;) {
      struct pollfd either[] = {{tokens, POLLIN, 0}, {done, POLLIN, 0}};
      poll(either, 2, -1);
      const long got = Take(tokens);
      if (got == 1) eventfd_write(done, 1000);
      if (got == -EAGAIN && (either[1].revents & POLLIN) == 0) continue;
      if (got == -EAGAIN) break;
    }
    _exit(0);
  }
  eventfd_write(tokens, kTokens);
  Join(3);
  Say("taken", Take(done));
  Say("left", Take(tokens));
}

int main(void) {
  BothWays();
  Broadcast();
  Tokens();
  return 0;
}
