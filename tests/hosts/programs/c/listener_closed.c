// forks: 22
// A listening socket that processes on other hosts have inherited and closed is no more: its address can be
// bound as soon as they have said that over a connection of their own, by whatever call they closed it, also
// while they live on.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static int Listen(struct sockaddr_in* address) {
  const int s = socket(AF_INET, SOCK_STREAM, 0);
  const int on = 1;
  setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  address->sin_family = AF_INET;
  address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (bind(s, (struct sockaddr*)address, sizeof *address) != 0 || listen(s, 20) != 0) return -1;
  socklen_t size = sizeof *address;
  getsockname(s, (struct sockaddr*)address, &size);
  return s;
}

static int Connect(const struct sockaddr_in* address) {
  const int s = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(s, (const struct sockaddr*)address, sizeof *address) != 0) perror("connect");
  return s;
}

/* Closes descriptor `fd` in one of several ways. */
static void Close(int fd, int way) {
  struct pollfd one = {fd, POLLIN, 0};
  switch (way) {
    case 0:
      close(fd);
      break;
    case 1:
      dup2(STDERR_FILENO, fd);
      break;
    case 2:
      close_range((unsigned)fd, (unsigned)fd, 0);
      break;
    case 3:
      poll(&one, 1, 0);  // was looked at before
      close(fd);
      break;
    case 4:
      close(dup(fd));
      close(fd);
      break;
    case 5:  // with a child of its own that has it, too
      if (fork() == 0) {
        close(fd);
        _exit(0);
      }
      wait(NULL);
      close(fd);
      break;
  }
}

int main(void) {
  struct sockaddr_in told = {0};
  const int other = Listen(&told);  // children say here that they are ready: no descriptor of home's does
  int wrong = 0;
  for (int round = 0; round < 10; ++round) {
    struct sockaddr_in address = {0};
    const int listener = Listen(&address);
    pid_t children[2];
    for (int i = 0; i < 2; ++i) {
      children[i] = fork();
      if (children[i] != 0) continue;
      Close(listener, round % 6);
      const int connection = Connect(&told);
      char byte;
      read(connection, &byte, 1);  // lives until the parent has bound the address again
      _exit(0);
    }
    int connections[2];
    for (int i = 0; i < 2; ++i) connections[i] = accept(other, NULL, NULL);
    close(listener);
    const int again = Listen(&address);
    if (again < 0) {
      printf("round %d: %s\n", round, strerror(errno));
      ++wrong;
    }
    close(again);
    for (int i = 0; i < 2; ++i) close(connections[i]);
    for (int i = 0; i < 2; ++i) waitpid(children[i], NULL, 0);
  }
  printf("%d wrong\n", wrong);
  return wrong != 0;
}
