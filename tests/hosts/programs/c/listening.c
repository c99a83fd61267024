// forks: 5
// A server that forks before it accepts: children on other hosts accept on the parent's listening sockets, TCP and
// Unix, blocking, polled and through an epoll instance that was made before the fork; the parent is the client, and
// a child that connects to another child's socket. Names, options and peers are those of the real sockets.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static struct sockaddr_in address;
static struct sockaddr_un name = {.sun_family = AF_UNIX};

static int ListenTcp(void) {
  int s = socket(AF_INET, SOCK_STREAM, 0);
  socklen_t size = sizeof address;
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (bind(s, (struct sockaddr*)&address, sizeof address) != 0 || listen(s, 20) != 0) perror("listen");
  getsockname(s, (struct sockaddr*)&address, &size);
  return s;
}

static int ListenUnix(void) {
  int s = socket(AF_UNIX, SOCK_STREAM, 0);
  snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "elsewhere-listening-%d", (int)getpid()); /* abstract */
  if (bind(s, (struct sockaddr*)&name, sizeof name) != 0 || listen(s, 20) != 0) perror("listen");
  return s;
}

static int Connect(int tcp) {
  int s = socket(tcp ? AF_INET : AF_UNIX, SOCK_STREAM, 0);
  int done = tcp ? connect(s, (struct sockaddr*)&address, sizeof address) : connect(s, (struct sockaddr*)&name, sizeof name);
  if (done != 0) perror("connect");
  return s;
}

/* Echoes one line in capitals; false for the line that ends the server. */
static int Answer(int s) {
  char b[100];
  long size = read(s, b, sizeof b);
  for (long i = 0; i < size; ++i) b[i] = (char)(b[i] - ('a' <= b[i] && b[i] <= 'z' ? 32 : 0));
  write(s, b, size > 0 ? size : 0);
  close(s);
  return size > 0 && b[0] != 'Q';
}

static void CheckNames(int listener, int s, const struct sockaddr_in* from) {
  struct sockaddr_in mine, peer;
  socklen_t size = sizeof mine;
  int one = 1, type = 0, listens = 0;
  getsockname(s, (struct sockaddr*)&mine, &size);
  size = sizeof peer;
  getpeername(s, (struct sockaddr*)&peer, &size);
  size = sizeof type;
  getsockopt(s, SOL_SOCKET, SO_TYPE, &type, &size);
  getsockopt(listener, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size);
  printf("names %d %d %d, type %d, no delay %d, listens %d, read of it %d\n", mine.sin_port == address.sin_port,
         peer.sin_port == from->sin_port, peer.sin_addr.s_addr == from->sin_addr.s_addr, type,
         setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one), listens, read(listener, &one, 1) < 0 ? errno : 0);
  fflush(stdout);
}

static void Serve(int listener) {
  for (int more = 1, first = 1; more; first = 0) {
    struct sockaddr_in from;
    socklen_t size = sizeof from;
    int s = accept4(listener, (struct sockaddr*)&from, &size, SOCK_CLOEXEC);
    if (s < 0) _exit(9);
    if (first && size == sizeof from) CheckNames(listener, s, &from);
    more = Answer(s);
  }
  _exit(0);
}

static void ServePolled(int listener) {
  fcntl(listener, F_SETFL, O_NONBLOCK);
  for (int more = 1; more;) {
    struct pollfd wait = {listener, POLLIN, 0};
    poll(&wait, 1, -1);
    int s = accept(listener, NULL, NULL);
    if (s < 0 && errno == EAGAIN) continue;
    if (s < 0) _exit(9);
    more = Answer(s);
  }
  _exit(0);
}

static void ServeByEpoll(int epoll, int tcp, int local) {
  for (int more = 1; more;) {
    struct epoll_event event;
    if (epoll_wait(epoll, &event, 1, -1) != 1) continue;
    int s = accept(event.data.fd, NULL, NULL);
    if (s < 0) _exit(event.data.fd == tcp || event.data.fd == local ? 9 : 8);
    more = Answer(s);
  }
  _exit(0);
}

static void Ask(int tcp, const char* word) {
  char b[100] = {0};
  int s = Connect(tcp);
  write(s, word, strlen(word));
  long size = read(s, b, sizeof b);
  printf("%s: %ld %s %ld\n", word, size, b, (long)read(s, b, sizeof b));
  fflush(stdout);
  close(s);
}

static int End(pid_t child) {
  int status;
  waitpid(child, &status, 0);
  return status;
}

static void Interrupted(int signal) {
  (void)signal;
}

int main(void) {
  int tcp = ListenTcp(), local = ListenUnix(), epoll = epoll_create1(0);
  pid_t child = fork();
  if (child == 0) Serve(tcp);
  Ask(1, "one");
  Ask(1, "two");
  Ask(1, "quit");
  printf("blocking %d\n", End(child));
  fflush(stdout);

  child = fork();
  if (child == 0) ServePolled(local);
  Ask(0, "three");
  Ask(0, "quit");
  printf("polled %d\n", End(child));
  fflush(stdout);
  fcntl(local, F_SETFL, 0);

  for (int i = 0; i < 2; ++i) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = i ? tcp : local};
    epoll_ctl(epoll, EPOLL_CTL_ADD, event.data.fd, &event);
  }
  child = fork();
  if (child == 0) ServeByEpoll(epoll, tcp, local);
  Ask(1, "four");
  Ask(0, "five");
  Ask(1, "quit");
  printf("epoll %d\n", End(child));
  fflush(stdout);

  /* A client on one host, the server on another. */
  pid_t server = fork();
  if (server == 0) Serve(local);
  child = fork();
  if (child == 0) {
    struct sigaction action = {.sa_handler = Interrupted};
    sigaction(SIGALRM, &action, NULL);
    Ask(0, "six");
    Ask(0, "quit");
    waitpid(server, NULL, 0);
    alarm(1);
    printf("interrupted %d\n", accept(tcp, NULL, NULL) < 0 ? errno : 0);
    fflush(stdout);
    _exit(3);
  }
  printf("siblings %d %d\n", End(server), End(child));
  return 0;
}
