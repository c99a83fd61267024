// forks: 4
// Descriptors passed over sockets (SCM_RIGHTS) between processes on different hosts, in every direction and on from
// who received them: pipes, sockets, plain files, sealed memory files, events. They keep their place among the bytes.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void Say(const char* what, long number) {
  printf("%s %ld\n", what, number);
  fflush(stdout);
}

static long Send(int s, const char* text, const int* passed, int count) {
  char control[CMSG_SPACE(8 * sizeof(int))] = {0};
  struct iovec part = {(void*)text, strlen(text)};
  struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1};
  if (count > 0) {
    m.msg_control = control;
    m.msg_controllen = CMSG_SPACE(count * sizeof(int));
    struct cmsghdr* h = CMSG_FIRSTHDR(&m);
    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(h), passed, count * sizeof(int));
  }
  return sendmsg(s, &m, 0);
}

/* How many descriptors came. */
static int Receive(int s, char* text, size_t size, int* passed) {
  char control[CMSG_SPACE(8 * sizeof(int))];
  struct iovec part = {text, size - 1};
  struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  long got = recvmsg(s, &m, 0);
  text[got < 0 ? 0 : got] = 0;
  struct cmsghdr* h = CMSG_FIRSTHDR(&m);
  if (h == NULL) return 0;
  int count = (int)((h->cmsg_len - CMSG_LEN(0)) / sizeof(int));
  memcpy(passed, CMSG_DATA(h), count * sizeof(int));
  return count;
}

static void Pass(int s, const char* text, int fd) {
  if (Send(s, text, &fd, 1) < 0) perror(text);
  close(fd);
}

static int Take(int s) {
  char text[100];
  int fd = -1;
  if (Receive(s, text, sizeof text, &fd) != 1) printf("nothing came with <%s>\n", text);
  return fd;
}

/* What the parent passes: each kind, used. */
static void Uses(int s) {
  char b[100] = {0};
  int in = Take(s), out = Take(s), file = Take(s), written = Take(s), memory = Take(s), event = Take(s), own = Take(s);
  Say("pipe", read(in, b, sizeof b));
  printf("<%s>\n", b);
  Say("end", read(in, b, sizeof b));
  Say("other pipe", write(out, "to the parent", 13));
  close(out);
  memset(b, 0, sizeof b);
  Say("file", read(file, b, 6));
  printf("<%s>\n", b);
  Say("written", write(written, "third line\n", 11));
  memset(b, 0, sizeof b);
  Say("memory", pread(memory, b, sizeof b, 0));
  printf("<%s>\n", b);
  eventfd_t value = 0;
  Say("event", eventfd_read(event, &value));
  Say("value", (long)value);
  Say("socket", write(own, "hello", 5));
  Say("answer", read(own, b, sizeof b));
  _exit(0);
}

static void Parent(void) {
  int s[2], in[2], out[2], own[2];
  char name[] = "/tmp/elsewhere-passing-XXXXXX", b[100] = {0};
  socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s);
  pid_t child = fork();
  if (child == 0) {
    close(s[0]);
    Uses(s[1]);
  }
  close(s[1]);
  pipe(in);
  pipe(out);
  socketpair(AF_UNIX, SOCK_STREAM, 0, own);
  int file = mkstemp(name), memory = memfd_create("sealed", MFD_ALLOW_SEALING), event = eventfd(7, 0);
  write(file, "first second ", 13);
  int again = open(name, O_RDONLY), written = open(name, O_WRONLY | O_APPEND);
  lseek(again, 6, SEEK_SET);
  write(memory, "sealed bytes", 12);
  fcntl(memory, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK);
  write(in[1], "to the child", 12);
  close(in[1]);
  Pass(s[0], "in", in[0]);
  Pass(s[0], "out", out[1]);
  Pass(s[0], "file", again);
  Pass(s[0], "written", written);
  Pass(s[0], "memory", memory);
  Pass(s[0], "event", event);
  Pass(s[0], "own", own[1]);
  const long first = read(out[0], b, sizeof b), end = read(out[0], b + 50, 10);
  const long word = read(own[0], b + 60, 30);
  write(own[0], "answer", 6);
  waitpid(child, NULL, 0);
  printf("parent %ld <%s> %ld %ld <%s>\n", first, b, end, word, b + 60);
  memset(b, 0, sizeof b);
  printf("file %ld <%s>\n", (long)pread(file, b, sizeof b, 0), b);
  fflush(stdout);
  unlink(name);
  close(own[0]);
  close(out[0]);
  close(s[0]);
  close(file);
}

/* One child passes what it has made to its sibling, which passes a part on to the parent. */
static void Siblings(void) {
  int between[2], up[2], status;
  char b[100] = {0};
  socketpair(AF_UNIX, SOCK_STREAM, 0, between);
  socketpair(AF_UNIX, SOCK_STREAM, 0, up);
  pid_t one = fork();
  if (one == 0) {
    int talk[2], event = eventfd(0, 0), feed[2], back;
    close(up[0]);
    close(up[1]);
    close(between[1]);
    socketpair(AF_UNIX, SOCK_STREAM, 0, talk);
    pipe(feed);
    Pass(between[0], "talk", talk[1]);
    const int both[2] = {feed[0], event};
    Send(between[0], "both", both, 2);
    close(feed[0]);
    char word[100] = {0};
    long got = read(talk[0], word, sizeof word);
    printf("first child hears %ld <%s>\n", got, word);
    fflush(stdout);
    eventfd_write(event, 41);
    write(feed[1], "fed by the first", 16);
    close(feed[1]);
    back = Take(between[0]); /* its own end comes back */
    write(back, "again", 5);
    got = read(talk[0], word, sizeof word);
    printf("first child hears itself %ld\n", got);
    fflush(stdout);
    _exit(1);
  }
  pid_t two = fork();
  if (two == 0) {
    char text[100];
    int both[8];
    close(between[0]);
    close(up[0]);
    int talk = Take(between[1]);
    Say("came", Receive(between[1], text, sizeof text, both));
    write(talk, "from the second", 15);
    eventfd_t value = 0;
    eventfd_read(both[1], &value);
    Say("second child counts", (long)value);
    Pass(up[1], "on", both[0]);
    Pass(between[1], "back", talk);
    _exit(2);
  }
  close(between[0]);
  close(between[1]);
  close(up[1]);
  const int fed = Take(up[0]);
  long got = 0, part;
  while ((part = read(fed, b + got, sizeof b - got)) > 0) got += part;
  waitpid(one, &status, 0);
  waitpid(two, NULL, 0);
  printf("parent reads %ld <%s> then %ld\n", got, b, part);
  fflush(stdout);
  close(fed);
  close(up[0]);
}

/* Among bytes: what lies before descriptors is read without them. */
static void Places(void) {
  int s[2], p[2], q[2];
  char b[100];
  socketpair(AF_UNIX, SOCK_STREAM, 0, s);
  pipe(p);
  pipe(q);
  pid_t child = fork();
  if (child == 0) {
    int got[8];
    char text[100];
    close(s[0]);
    Say("before", read(s[1], text, 4));
    Say("with", Receive(s[1], text, 3, got));
    printf("<%s>\n", text);
    Say("after", read(s[1], text, 3));
    Say("second", Receive(s[1], text, sizeof text, got + 1));
    printf("<%s>\n", text);
    write(got[0], "1", 1);
    write(got[1], "2", 1);
    Send(s[1], "up", got, 2);
    Send(s[1], "plain", NULL, 0);
    _exit(0);
  }
  close(s[1]);
  Send(s[0], "abcd", NULL, 0);
  Send(s[0], "efxyz", &p[1], 1);
  Send(s[0], "gh", &q[1], 1);
  close(p[1]);
  close(q[1]);
  int fds[8];
  waitpid(child, NULL, 0);
  Say("back", Receive(s[0], b, sizeof b, fds));
  printf("<%s>\n", b);
  write(fds[0], "x", 1);
  close(fds[0]);
  close(fds[1]);
  Say("no more", Receive(s[0], b, sizeof b, fds));
  printf("<%s>\n", b);
  long n = read(p[0], b, 10), m = read(q[0], b, 10), end = read(p[0], b, 10);
  printf("pipes %ld %ld %ld\n", n, m, end);
}

int main(void) {
  alarm(60);
  Parent();
  Siblings();
  Places();
  return 0;
}
