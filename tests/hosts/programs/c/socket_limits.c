/* forks: 4
 * SO_RCVTIMEO and SO_SNDTIMEO of sockets whose other end is on another host: set before the fork or after it,
 * for receiving, accepting and sending. How long it took is not looked at, but that it was not at once. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void limit(int s, int option, long milliseconds) {
  struct timeval time = {milliseconds / 1000, milliseconds % 1000 * 1000};
  setsockopt(s, SOL_SOCKET, option, &time, sizeof time);
}

static long now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

static void say(const char* what, long result, long since) {
  printf("%s: %s%s\n", what, result < 0 ? strerrorname_np(errno) : "done", now() - since >= 90 ? ", late" : "");
  fflush(stdout);
}

static void receive(const char* what, int s) {
  char text[10];
  long start = now();
  say(what, recv(s, text, sizeof text, 0), start);
  start = now();
  say(what, read(s, text, sizeof text), start);
  struct timeval time;
  socklen_t size = sizeof time;
  getsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &time, &size);
  printf("%ld.%06ld\n", (long)time.tv_sec, (long)time.tv_usec);
  fflush(stdout);
}

/* The parent has sent one message and sends no other. */
static void receiver(int type, int before) {
  int s[2];
  socketpair(AF_UNIX, type, 0, s);
  if (before) limit(s[0], SO_RCVTIMEO, 100);
  send(s[1], "one", 3, 0);
  if (fork() == 0) {
    if (!before) limit(s[0], SO_RCVTIMEO, 100);
    receive(before ? "set before" : "set after", s[0]);
    limit(s[0], SO_RCVTIMEO, 0);
    char text[10];
    send(s[0], "more", 4, 0);
    say("without", recv(s[0], text, sizeof text, 0), now());
    _exit(0);
  }
  char text[10];
  recv(s[1], text, sizeof text, 0);
  send(s[1], "two", 3, 0);
  wait(NULL);
  close(s[0]);
  close(s[1]);
}

static void sender(void) {
  int s[2];
  socketpair(AF_UNIX, SOCK_STREAM, 0, s);
  limit(s[0], SO_SNDTIMEO, 100);
  if (fork() == 0) {
    static char much[1 << 16];
    long start = now();
    long result;
    do {
      start = now();
      result = send(s[0], much, sizeof much, 0);
    } while (result == sizeof much);
    say("full", result < 0 ? result : send(s[0], much, sizeof much, 0), start);
    _exit(0);
  }
  wait(NULL);
}

static void acceptor(void) {
  struct sockaddr_un name = {.sun_family = AF_UNIX};
  const int listener = socket(AF_UNIX, SOCK_STREAM, 0);
  bind(listener, (struct sockaddr*)&name, sizeof(sa_family_t)); /* the kernel picks an abstract name */
  listen(listener, 1);
  limit(listener, SO_RCVTIMEO, 100);
  if (fork() == 0) {
    const long start = now();
    say("accept", accept(listener, NULL, NULL), start);
    _exit(0);
  }
  wait(NULL);
}

int main(void) {
  receiver(SOCK_STREAM, 1);
  receiver(SOCK_SEQPACKET, 0);
  sender();
  acceptor();
  return 0;
}
