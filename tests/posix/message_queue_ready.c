// forks: 5
// Readiness and notification of message queues: poll, select, epoll, mq_notify by signal, thread and not at all.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/wait.h>
#include <unistd.h>

static char name[64];
static mqd_t queue, back;
static char text[16];

static int ready(int timeout) {
  struct pollfd one = {queue, POLLIN | POLLOUT, 0};
  const int count = poll(&one, 1, timeout);
  return count < 0 ? -errno : count == 0 ? 0 : one.revents;
}
static void refused(const char *what, mqd_t of, const struct sigevent *event) {
  errno = 0;
  const int result = mq_notify(of, event);
  printf("%s %d %s\n", what, result, strerrorname_np(errno));
}
static void token(void) { mq_send(back, "t", 1, 0); }
static void take_token(void) { mq_receive(back, text, sizeof text, NULL); }

static void run(void (*child)(void), void (*meanwhile)(void)) {
  fflush(stdout);
  const pid_t pid = fork();
  if (pid == 0) {
    child();
    fflush(stdout);
    _exit(0);
  }
  meanwhile();
  int status;
  waitpid(pid, &status, 0);
  printf("status %d\n", status);
}
static void nothing(void) {}

static void levels(void) {
  printf("empty %#x\n", ready(0));
  mq_send(queue, "a", 1, 0);
  printf("one %#x\n", ready(0));
  mq_send(queue, "b", 1, 0);
  printf("full %#x\n", ready(-1));
  mq_receive(queue, text, sizeof text, NULL);
  mq_receive(queue, text, sizeof text, NULL);
  printf("empty %#x\n", ready(1000));
  struct pollfd in = {queue, POLLIN, 0};
  printf("nothing to read: %d\n", poll(&in, 1, 20));
}

// Waits for what the parent does after it has seen that it is time.
static void waits(void) {
  struct pollfd in = {queue, POLLIN, 0};
  token();
  printf("poll %d %#x\n", poll(&in, 1, -1), in.revents);
  mq_receive(queue, text, sizeof text, NULL);
  fd_set set;
  FD_ZERO(&set);
  FD_SET(queue, &set);
  token();
  printf("select %d", select(queue + 1, &set, NULL, NULL, NULL));
  printf(" %d\n", FD_ISSET(queue, &set) != 0);
  mq_receive(queue, text, sizeof text, NULL);
  const int epoll = epoll_create1(0);
  struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u64 = 77}, got = {0};
  epoll_ctl(epoll, EPOLL_CTL_ADD, queue, &event);
  token();
  printf("epoll %d", epoll_wait(epoll, &got, 1, -1));
  printf(" %#x %d\n", got.events, (int)got.data.u64);
  mq_receive(queue, text, sizeof text, NULL);
  printf("epoll %d\n", epoll_wait(epoll, &got, 1, 0));
  mq_send(queue, "x", 1, 0);
  mq_send(queue, "x", 1, 0);
  token();  // it is full until the parent takes one
  struct pollfd out = {queue, POLLOUT, 0};
  printf("room %d %#x\n", poll(&out, 1, -1), out.revents);
  close(epoll);
}
static void feeds(void) {
  for (int i = 0; i < 3; ++i) {
    take_token();
    mq_send(queue, "m", 1, 0);
  }
  take_token();
  mq_receive(queue, text, sizeof text, NULL);
}

static void by_signal(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigprocmask(SIG_BLOCK, &set, NULL);
  struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = 42};
  mq_receive(queue, text, sizeof text, NULL);
  printf("notify %d\n", mq_notify(queue, &event));
  refused("again", queue, &event);
  token();
  siginfo_t info;
  printf("signal %d", sigwaitinfo(&set, &info) == SIGUSR1);
  printf(" value %d code %d sender %d\n", info.si_value.sival_int, info.si_code == SI_MESGQ,
         info.si_pid == getppid());
  printf("used up: notify %d\n", mq_notify(queue, &event));
  printf("off %d\n", mq_notify(queue, NULL));
  event.sigev_signo = 99;
  refused("no signal", queue, &event);
  event.sigev_notify = 7;
  refused("no way", queue, &event);
  event.sigev_notify = SIGEV_NONE;
  printf("none %d\n", mq_notify(queue, &event));
  refused("not a queue", 1, &event);
  fflush(stdout);
  token();
  mq_receive(queue, text, sizeof text, NULL);
  mq_receive(queue, text, sizeof text, NULL);  // the parent has tried
  mq_send(queue, "m", 1, 0);
}
static void sends(void) {
  take_token();
  struct sigevent event = {.sigev_notify = SIGEV_NONE};
  refused("busy", queue, &event);
  mq_send(queue, "m", 1, 0);
  take_token();
  refused("busy", queue, &event);
  mq_send(queue, "end", 3, 0);
}

static sem_t notified;
static void on_message(union sigval value) {
  printf("thread %d, %zd bytes\n", value.sival_int, mq_receive(queue, text, sizeof text, NULL));
  sem_post(&notified);
}
static void by_thread(void) {
  mq_receive(queue, text, sizeof text, NULL);
  sem_init(&notified, 0, 0);
  struct sigevent event = {.sigev_notify = SIGEV_THREAD, .sigev_value.sival_int = 7, .sigev_notify_function = on_message};
  for (int i = 0; i < 2; ++i) {
    printf("notify %d\n", mq_notify(queue, &event));
    token();
    sem_wait(&notified);
  }
  printf("notify %d\n", mq_notify(queue, &event));
  printf("off %d\n", mq_notify(queue, NULL));
}
static void sends_twice(void) {
  for (int i = 0; i < 2; ++i) {
    take_token();
    mq_send(queue, "four", 4, 0);
  }
}

// The descriptor is closed on exec, at home too: nobody else's notification finds it in use.
static void executes(void) {
  struct sigevent event = {.sigev_notify = SIGEV_NONE};
  printf("notify %d\n", mq_notify(queue, &event));
  fflush(stdout);
  char program[] = "test ! -e /proc/self/fd/$0 && echo closed";
  char number[16];
  snprintf(number, sizeof number, "%d", queue);
  execlp("sh", "sh", "-c", program, number, NULL);
}

int main(void) {
  snprintf(name, sizeof name, "/elsewhere-ready-%d", (int)getpid());
  struct mq_attr attributes = {.mq_maxmsg = 2, .mq_msgsize = sizeof text};
  queue = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attributes);
  mq_unlink(name);
  back = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attributes);
  mq_unlink(name);
  run(levels, nothing);
  run(waits, feeds);
  run(by_signal, sends);
  run(by_thread, sends_twice);
  run(executes, nothing);
  struct sigevent event = {.sigev_notify = SIGEV_NONE};
  printf("free %d\n", mq_notify(queue, &event));
  return 0;
}
