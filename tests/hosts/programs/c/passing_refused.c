// forks: 1
// alone: natively everything can be passed.
// What cannot be passed to another host is refused where it is sent, and nothing of its message goes.
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static int Pass(int s, int fd) {
  char control[CMSG_SPACE(sizeof fd)] = {0};
  struct iovec part = {"x", 1};
  struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  struct cmsghdr* h = CMSG_FIRSTHDR(&m);
  h->cmsg_level = SOL_SOCKET;
  h->cmsg_type = SCM_RIGHTS;
  h->cmsg_len = CMSG_LEN(sizeof fd);
  memcpy(CMSG_DATA(h), &fd, sizeof fd);
  errno = 0;
  return sendmsg(s, &m, 0) < 0 ? errno : 0;
}

int main(void) {
  int s[2], status = 0;
  char b[10];
  socketpair(AF_UNIX, SOCK_STREAM, 0, s);
  if (fork() == 0) {
    close(s[0]);
    int epoll = epoll_create1(0), written = memfd_create("written", 0);
    _exit(Pass(s[1], epoll) == EOPNOTSUPP && Pass(s[1], written) == EOPNOTSUPP ? 1 : 0);
  }
  close(s[1]);
  printf("nothing arrives: %d\n", read(s[0], b, sizeof b) == 0);
  wait(&status);
  printf("refused: %d\n", WEXITSTATUS(status));
  return 0;
}
