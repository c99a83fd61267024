// forks: 2
// Inherited ends of socketpairs in a child on another host: borders of messages, looking without taking,
// half-closed connections, who is at the other end.
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void Say(const char* what, long number) {
  printf("%s %ld\n", what, number);
  fflush(stdout);
}

static long OrError(long result) {
  return result < 0 ? -errno : result;
}

static void Child(int s) {
  char b[100];
  int type = 0;
  struct ucred peer;
  socklen_t size = sizeof type;
  getsockopt(s, SOL_SOCKET, SO_TYPE, &type, &size);
  Say("type", type);
  size = sizeof peer;
  getsockopt(s, SOL_SOCKET, SO_PEERCRED, &peer, &size);
  Say("peer is the parent", peer.pid == getppid() && peer.uid == getuid() && size == sizeof peer);
  Say("look", recv(s, b, 6, MSG_PEEK));
  Say("take", recv(s, b, 6, 0));
  struct iovec part = {b, 2};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  Say("too little room", recvmsg(s, &message, 0));
  Say("cut", (message.msg_flags & MSG_TRUNC) != 0);
  memset(b, 0, sizeof b);
  Say("next", recv(s, b, 4, 0));
  printf("<%s>\n", b);
  while (recv(s, b, sizeof b, MSG_DONTWAIT) > 0) continue;
  Say("send for more", send(s, "more", 4, 0));
  Say("look at one", recv(s, b, 1, MSG_PEEK));
  Say("look at three", recv(s, b, 3, MSG_PEEK));
  Say("take all", recv(s, b, sizeof b, 0));
  Say("nothing", OrError(recv(s, b, sizeof b, MSG_DONTWAIT)));
  Say("send", send(s, "from child", 10, 0));
  struct pollfd wait = {s, POLLIN | POLLRDHUP, 0};
  poll(&wait, 1, -1);
  Say("half closed", (wait.revents & (POLLIN | POLLRDHUP)) == (POLLIN | POLLRDHUP));
  Say("end", recv(s, b, sizeof b, 0));
  Say("still open", send(s, "late", 4, MSG_NOSIGNAL));
  Say("shutdown", shutdown(s, SHUT_WR));
  Say("not any more", OrError(send(s, "later", 5, MSG_NOSIGNAL)));
  _exit(0);
}

int main(void) {
  const int types[] = {SOCK_STREAM, SOCK_SEQPACKET};
  for (int i = 0; i < 2; ++i) {
    int s[2], status;
    char answers[3][100] = {{0}};
    socketpair(AF_UNIX, types[i], 0, s);
    send(s[0], "abcdef", 6, 0);
    send(s[0], "second", 6, 0);
    send(s[0], "third!", 6, 0);
    if (fork() == 0) {
      close(s[0]);
      Child(s[1]);
    }
    close(s[1]);
    recv(s[0], answers[0], 4, 0);
    send(s[0], "0123456789", 10, 0);
    const long first = recv(s[0], answers[0], 10, 0);
    shutdown(s[0], SHUT_WR);
    const long second = recv(s[0], answers[1], 10, 0), end = recv(s[0], answers[2], 10, 0);
    wait(&status);
    printf("parent %ld <%s> %ld <%s> %ld status %d\n", first, answers[0], second, answers[1], end, status);
    fflush(stdout);
    close(s[0]);
  }
  return 0;
}
