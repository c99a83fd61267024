// forks: 8
// Message queues that one host uses alone, until a process of another host or of home comes in: nothing is
// lost, doubled or out of order, and who waits goes on waiting, also in a storm of signals.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { kRounds = 120 };

struct message {
  int from;
  int number;
};

static mqd_t there, back, third;
static const char* volatile nowhere = (const char*)16;

static mqd_t make(long most, long size) {
  static int count;
  char name[64];
  snprintf(name, sizeof name, "/elsewhere-leases-%d-%d", (int)getpid(), count++);
  struct mq_attr attributes = {.mq_maxmsg = most, .mq_msgsize = size};
  const mqd_t queue = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attributes);
  if (queue < 0) perror("mq_open");
  mq_unlink(name);
  return queue;
}

static void say(mqd_t queue, int from, int number, unsigned priority) {
  const struct message message = {from, number};
  while (mq_send(queue, (const char*)&message, sizeof message, priority) != 0) {
    if (errno == EINTR) continue;
    perror("mq_send");
    _exit(1);
  }
}
static struct message hear(mqd_t queue, unsigned* priority) {
  struct message message;
  while (mq_receive(queue, (char*)&message, sizeof message, priority) != sizeof message) {
    if (errno == EINTR) continue;
    perror("mq_receive");
    _exit(1);
  }
  return message;
}

// Both on one worker. What is sent back is what came, in its order.
static void echo(int rounds) {
  for (int i = 0; i < rounds; ++i) {
    unsigned priority;
    const struct message message = hear(there, &priority);
    say(back, message.from, message.number, priority);
  }
}
static int play(int from, int rounds) {
  int wrong = 0;
  for (int i = 0; i < rounds; ++i) {
    unsigned priority = 0;
    say(there, from, i, (unsigned)i % 5);
    const struct message message = hear(back, &priority);
    wrong += message.from != from || message.number != i || priority != (unsigned)i % 5;
  }
  return wrong;
}

static void attributes(const char* what, mqd_t queue) {
  struct mq_attr found;
  if (mq_getattr(queue, &found) != 0) perror("mq_getattr");
  printf("%s: flags %#lo, at most %ld of %ld bytes, %ld there\n", what, (unsigned long)found.mq_flags,
         found.mq_maxmsg, found.mq_msgsize, found.mq_curmsgs);
  fflush(stdout);
}

// Everything that a queue refuses, while it is lent.
static void refusals(void) {
  char text[sizeof(struct message)] = "x";
  struct timespec past = {0, 0}, wrong = {0, 1000000000}, soon;
  for (int i = 0; i < 40; ++i) say(third, 1, i, 0), hear(third, NULL);
  attributes("lent", third);
#define SHOW(call)                                                                  \
  do {                                                                              \
    errno = 0;                                                                      \
    const long shown = (long)(call);                                                \
    printf("%s: %ld %s\n", #call, shown, shown == 0 ? "" : strerrorname_np(errno)); \
  } while (0)
  SHOW(mq_send(third, text, 9, 0));
  SHOW(mq_send(third, text, 1, 32768));
  SHOW(mq_receive(third, text, 7, NULL));
  SHOW(mq_send(third, nowhere, 4, 0));
  SHOW(mq_timedreceive(third, text, sizeof text, NULL, &past));
  SHOW(mq_timedreceive(third, text, sizeof text, NULL, &wrong));
  clock_gettime(CLOCK_REALTIME, &soon);
  soon.tv_nsec += 20000000;
  soon.tv_sec += soon.tv_nsec / 1000000000;
  soon.tv_nsec %= 1000000000;
  SHOW(mq_timedreceive(third, text, sizeof text, NULL, &soon));
  for (int i = 0; i < 40; ++i) say(third, 1, i, 0), hear(third, NULL);
  struct mq_attr nonblocking = {.mq_flags = O_NONBLOCK};
  SHOW(mq_setattr(third, &nonblocking, NULL));
  for (int i = 0; i < 40; ++i) say(third, 1, i, 0), hear(third, NULL);
  SHOW(mq_receive(third, text, sizeof text, NULL));
  for (int i = 0; i < 10; ++i) SHOW(mq_send(third, "", 0, (unsigned)(i * 7) % 10));
  SHOW(mq_send(third, "", 0, 1));
  attributes("full", third);
  for (int i = 0; i < 10; ++i) {
    unsigned priority = 99;
    const long size = mq_receive(third, text, sizeof text, &priority);
    printf("%ld of priority %u\n", size, priority);
  }
  const mqd_t reading = dup(third);
  for (int i = 0; i < 5; ++i) say(reading, 1, i, 3);
  close(reading);
  attributes("five", third);
  nonblocking.mq_flags = 0;
  SHOW(mq_setattr(third, &nonblocking, NULL));
  fflush(stdout);
}

static volatile sig_atomic_t alarmed;
static void on_alarm(int number) {
  alarmed = number == SIGALRM;
}

// A pair on one worker plays; a storm of signals goes over both; others come in between.
static void storm(void) {
  fflush(stdout);
  const pid_t pair = fork();
  if (pair == 0) {
    struct sigaction action = {.sa_handler = on_alarm};
    sigaction(SIGALRM, &action, NULL);
    sigset_t alarm, before;
    sigemptyset(&alarm);
    sigaddset(&alarm, SIGALRM);
    const pid_t echoing = fork();
    if (echoing == 0) {
      echo(20 * kRounds);
      _exit(0);
    }
    sigprocmask(SIG_BLOCK, &alarm, &before);
    const pid_t storming = fork();
    if (storming == 0) {
      for (;;) {
        kill(echoing, SIGALRM);
        kill(getppid(), SIGALRM);
        usleep(300);
      }
    }
    while (alarmed == 0) sigsuspend(&before);  // it may take longer to begin than the game to end
    sigprocmask(SIG_SETMASK, &before, NULL);
    const int wrong = play(1, 20 * kRounds);
    kill(storming, SIGKILL);
    waitpid(storming, NULL, 0);
    int status;
    waitpid(echoing, &status, 0);
    _exit(wrong != 0 || status != 0);
  }
  // Home looks again and again; who asks gets what is there, never less.
  for (int i = 0; i < 200; ++i) {
    struct mq_attr found;
    if (mq_getattr(there, &found) != 0 || found.mq_curmsgs > found.mq_maxmsg) printf("wrong look\n");
    usleep(1000);
  }
  int status;
  waitpid(pair, &status, 0);
  printf("storm %d\n", status);
}

// Messages of three hosts in one queue: each sender's arrive in its order, and all of them.
static void crowd(void) {
  enum { kSenders = 3, kEach = 400 };
  fflush(stdout);
  pid_t senders[kSenders];
  for (int s = 0; s < kSenders; ++s) {
    senders[s] = fork();
    if (senders[s] != 0) continue;
    for (int i = 0; i < kEach; ++i) {
      say(third, s, i, 0);
      if (i % 100 == 50 && s == 0) usleep(20000);
    }
    _exit(0);
  }
  const pid_t receiver = fork();
  if (receiver == 0) {
    int next[kSenders] = {0}, wrong = 0;
    for (int i = 0; i < kSenders * kEach / 2; ++i) {
      const struct message message = hear(third, NULL);
      wrong += message.number < next[message.from];
      next[message.from] = message.number + 1;
    }
    _exit(wrong != 0);
  }
  int next[kSenders] = {0}, wrong = 0, status;
  for (int i = 0; i < kSenders * kEach / 2; ++i) {
    const struct message message = hear(third, NULL);
    wrong += message.number < next[message.from];
    next[message.from] = message.number + 1;
  }
  for (int s = 0; s < kSenders; ++s) {
    waitpid(senders[s], &status, 0);
    wrong += status != 0;
  }
  waitpid(receiver, &status, 0);
  printf("crowd %d %d\n", wrong, status);
}

int main(void) {
  there = make(4, sizeof(struct message));
  back = make(4, sizeof(struct message));
  third = make(10, sizeof(struct message));
  fflush(stdout);
  pid_t pair = fork();
  if (pair == 0) {
    refusals();
    _exit(0);
  }
  int status;
  waitpid(pair, &status, 0);
  attributes("at home", third);
  for (int i = 0; i < 5; ++i) {
    unsigned priority;
    const struct message message = hear(third, &priority);
    printf("%d %d %u\n", message.from, message.number, priority);
  }
  storm();
  crowd();
  return 0;
}
