/* forks: 8
 * Message queues that one host alone sends to, mostly: no message is lost, doubled, early or too many,
 * whoever else sends, looks, wants to be told, or kills. */
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

enum { kRoom = 5, kMany = 400 };

/* `never_waits`: another description of it. */
static mqd_t make(const char* what, mqd_t* never_waits) {
  char name[64];
  struct mq_attr attributes = {.mq_maxmsg = kRoom, .mq_msgsize = 32};
  snprintf(name, sizeof name, "/queue-right-%d-%s", (int)getpid(), what);
  mqd_t queue = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attributes);
  if (queue < 0) perror("mq_open"), exit(1);
  if (never_waits != NULL) *never_waits = mq_open(name, O_RDWR | O_NONBLOCK);
  mq_unlink(name);
  return queue;
}

static int send_number(mqd_t queue, int number, unsigned priority) {
  return mq_send(queue, (const char*)&number, sizeof number, priority);
}

static int receive_number(mqd_t queue) {
  char message[32];
  int number = -1;
  if (mq_receive(queue, message, sizeof message, NULL) != sizeof number) return -1;
  memcpy(&number, message, sizeof number);
  return number;
}

static long inside(mqd_t queue) {
  struct mq_attr attributes;
  return mq_getattr(queue, &attributes) == 0 ? attributes.mq_curmsgs : -1;
}

static void end(pid_t child) {
  int status = -1;
  waitpid(child, &status, 0);
  printf("ended %#x\n", status);
}

/* As many as are sent arrive, in order. */
static void stream(mqd_t queue) {
  pid_t child = fork();
  if (child == 0) {
    for (int i = 0; i < kMany; ++i) send_number(queue, i, 0);
    _exit(0);
  }
  int wrong = 0;
  for (int i = 0; i < kMany; ++i) wrong += receive_number(queue) != i;
  end(child);
  printf("stream: %d wrong, %ld left\n", wrong, inside(queue));
}

/* What is full is full. */
static void fill(mqd_t replies, mqd_t counts) {
  mqd_t never_waits, queue = make("fill", &never_waits);
  pid_t child = fork();
  if (child == 0) {
    for (int i = 0; i < 60; ++i) { /* home takes each */
      send_number(queue, i, 0);
      receive_number(replies);
    }
    for (int round = 0; round < 3; ++round) {
      int sent = 0;
      if (round % 2) {
        while (send_number(never_waits, sent, 0) == 0) ++sent;
        printf("sent %d, then %s; ", sent, strerrorname_np(errno));
      } else {
        struct timespec soon;
        while (sent < kRoom && send_number(queue, sent, 0) == 0) ++sent;
        clock_gettime(CLOCK_REALTIME, &soon);
        int more = mq_timedsend(queue, "", 0, 0, &soon);
        printf("sent %d, then %d %s; ", sent, more, strerrorname_np(errno));
      }
      int result = mq_send(queue, "012345678901234567890123456789012", 33, 0);
      printf("%ld inside; too long: %d %s, ", inside(queue), result, strerrorname_np(errno));
      result = mq_send(queue, "", 0, 32768);
      printf("priority: %d %s\n", result, strerrorname_np(errno));
      fflush(stdout);
      send_number(counts, sent, 0);
      receive_number(replies);
    }
    _exit(0);
  }
  for (int i = 0; i < 60; ++i) send_number(replies, receive_number(queue), 0);
  for (int round = 0; round < 3; ++round) {
    int sent = receive_number(counts), wrong = inside(queue) != sent;
    for (int i = 0; i < sent; ++i) wrong += receive_number(queue) != i;
    printf("round %d: %d wrong\n", round, wrong);
    fflush(stdout);
    send_number(replies, round, 0);
  }
  end(child);
}

/* Home sends between what the other sends, and each knows of what was before. */
static void both(mqd_t queue, mqd_t replies) {
  pid_t child = fork();
  if (child == 0) {
    for (int i = 0; i < 150; ++i) {
      send_number(queue, i, 1);
      if (i % 10 == 9) receive_number(replies);
    }
    _exit(0);
  }
  int wrong = 0;
  for (int i = 0; i < 150; ++i) {
    if (i % 10 == 8) { /* first, though it comes last */
      wrong += send_number(queue, 1000 + i, 3) != 0;
      wrong += receive_number(queue) != 1000 + i;
    }
    wrong += receive_number(queue) != i;
    if (i % 10 == 9) send_number(replies, i, 0);
  }
  end(child);
  printf("both: %d wrong, %ld left\n", wrong, inside(queue));
}

/* Home fills what the other sends to, who then finds it full, or empty again. */
static void filled(mqd_t replies, mqd_t counts) {
  mqd_t never_waits, queue = make("filled", &never_waits);
  int full[2]; /* said by something that is no queue */
  char byte = 0;
  if (pipe(full) != 0) exit(1);
  pid_t child = fork();
  if (child == 0) {
    int wrong = 0;
    for (int round = 0; round < 6; ++round) {
      for (int i = 0; i < 40; ++i) {
        send_number(never_waits, i, 0);
        receive_number(replies);
      }
      wrong += read(full[0], &byte, 1) != 1;
      wrong += send_number(never_waits, 99, 0) != -1 || errno != EAGAIN;
      send_number(counts, wrong, 0);
      receive_number(replies);
      wrong += send_number(never_waits, 100, 0) != 0;
    }
    _exit(wrong);
  }
  int wrong = 0;
  for (int round = 0; round < 6; ++round) {
    for (int i = 0; i < 40; ++i) send_number(replies, wrong += receive_number(queue) != i, 0);
    for (int i = 0; i < kRoom; ++i) send_number(queue, i, 0);
    wrong += write(full[1], &byte, 1) != 1;
    receive_number(counts);
    for (int i = 0; i < kRoom; ++i) wrong += receive_number(queue) != i;
    send_number(replies, 0, 0);
    wrong += receive_number(queue) != 100;
  }
  end(child);
  printf("filled: %d wrong, %ld left\n", wrong, inside(queue));
}

/* What was sent stays sent. */
static void killed(mqd_t queue) {
  pid_t child = fork();
  if (child == 0) {
    for (int i = 0; i < 50 + kRoom; ++i) send_number(queue, i, 0);
    raise(SIGKILL);
  }
  int wrong = 0;
  for (int i = 0; i < 50; ++i) wrong += receive_number(queue) != i;
  end(child);
  wrong += inside(queue) != kRoom;
  for (int i = 50; i < 50 + kRoom; ++i) wrong += receive_number(queue) != i;
  printf("killed: %d wrong, %ld left\n", wrong, inside(queue));
}

/* Two that send as fast as they can; each one's are in order. */
static void two(mqd_t queue) {
  pid_t children[2];
  for (int child = 0; child < 2; ++child) {
    children[child] = fork();
    if (children[child] != 0) continue;
    for (int i = 0; i < kMany; ++i) send_number(queue, 2 * i + child, 0);
    _exit(0);
  }
  int wrong = 0, next[2] = {0, 1};
  for (int i = 0; i < 2 * kMany; ++i) {
    int number = receive_number(queue);
    wrong += number != next[number & 1];
    next[number & 1] = number + 2;
  }
  for (int child = 0; child < 2; ++child) end(children[child]);
  printf("two: %d wrong, %ld left\n", wrong, inside(queue));
}

/* Who wants to be told of a message is, and of who sent it. */
static void told(mqd_t queue, mqd_t replies) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigprocmask(SIG_BLOCK, &set, NULL);
  pid_t child = fork();
  if (child == 0) {
    for (int i = 0; i < 80; ++i) {
      if (i % 20 == 0) receive_number(replies);
      send_number(queue, i, 0);
    }
    _exit(0);
  }
  int wrong = 0;
  for (int i = 0; i < 80; ++i) {
    if (i % 20 == 0) {
      struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
      siginfo_t info;
      wrong += i > 0 && mq_notify(queue, &event) != 0;
      send_number(replies, i, 0);
      if (i > 0) wrong += sigwaitinfo(&set, &info) != SIGUSR1 || info.si_pid != child;
    }
    wrong += receive_number(queue) != i;
  }
  end(child);
  printf("told: %d wrong, %ld left\n", wrong, inside(queue));
}

int main(void) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  mqd_t replies = make("replies", NULL), counts = make("counts", NULL);
  stream(make("stream", NULL));
  fill(replies, counts);
  filled(replies, counts);
  both(make("both", NULL), replies);
  killed(make("killed", NULL));
  two(make("two", NULL));
  told(make("told", NULL), replies);
  return 0;
}
