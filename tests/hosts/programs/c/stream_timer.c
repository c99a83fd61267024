// forks: 3
// A timerfd is one object for everybody who inherited it, wherever they run: who arms it arms it for all, and an
// expiration is there for one reader.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

static void Say(const char* what, long number) {
  printf("%s %ld\n", what, number);
  fflush(stdout);
}

static long Take(int timer) {
  uint64_t value = 0;
  return read(timer, &value, sizeof value) == sizeof value ? (long)value : -errno;
}

static void Arm(int timer, long milliseconds, long again) {
  const struct itimerspec when = {{again / 1000, again % 1000 * 1000000}, {0, milliseconds * 1000000}};
  Say("armed", timerfd_settime(timer, 0, &when, NULL));
}

static long Left(int timer) {
  struct itimerspec left;
  return timerfd_gettime(timer, &left) != 0 ? -errno : left.it_value.tv_sec + left.it_interval.tv_sec * 1000;
}

static void Join(void) {
  int status;
  wait(&status);
  Say("status", status);
}

int main(void) {
  int timer = timerfd_create(CLOCK_MONOTONIC, 0);
  // Armed before the fork, and by the child, who waits in two ways.
  Arm(timer, 1, 0);
  if (fork() == 0) {
    Say("child", Take(timer));
    Say("left", Left(timer));
    Arm(timer, 20, 0);
    struct pollfd one = {timer, POLLIN, 0};
    Say("poll", poll(&one, 1, -1));
    Say("events", one.revents);
    Say("child", Take(timer));
    char little[4];
    Say("too little room", read(timer, little, sizeof little) < 0 ? errno == EINVAL : 0);
    uint64_t value = 1;
    Say("written", write(timer, &value, sizeof value) < 0 ? errno == EINVAL : 0);
    fcntl(timer, F_SETFL, O_NONBLOCK);
    Say("nothing", Take(timer) == -EAGAIN);
    _exit(0);
  }
  Join();
  Say("taken", Take(timer) == -EAGAIN);
  fcntl(timer, F_SETFL, 0);

  // By a child, for its parent; what is left is the same for both.
  if (fork() == 0) {
    const struct itimerspec when = {{5, 0}, {1000, 999999999}};
    struct itimerspec old;
    Say("set", timerfd_settime(timer, 0, &when, NULL));
    Say("left", Left(timer));
    Say("set again", timerfd_settime(timer, 0, &when, &old));
    Say("old interval", old.it_interval.tv_sec);
    const struct itimerspec bad = {{0, 0}, {0, 1000000000}};
    Say("bad", timerfd_settime(timer, 0, &bad, NULL) < 0 ? errno == EINVAL : 0);
    _exit(0);
  }
  Join();
  Say("left", Left(timer));

  // The parent arms what the child waits for already, and takes nothing.
  Arm(timer, 0, 0);
  int ready[2];
  pipe(ready);
  if (fork() == 0) {
    write(ready[1], "x", 1);
    Say("waited", Take(timer));
    _exit(0);
  }
  char letter;
  read(ready[0], &letter, 1);
  Arm(timer, 10, 0);
  Join();
  return 0;
}
