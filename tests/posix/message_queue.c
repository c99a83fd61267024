// forks: 8
// POSIX message queues between processes: every call and what it refuses.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char name[64];

static const char *error_of(long result) { return result < 0 ? strerrorname_np(errno) : "fine"; }
#define SHOW(call)                                   \
  do {                                               \
    errno = 0;                                       \
    const long shown = (long)(call);                 \
    printf("%s: %s\n", #call, error_of(shown));      \
    fflush(stdout);                                  \
  } while (0)
#define VALUE(call)                                                         \
  do {                                                                      \
    errno = 0;                                                              \
    const long shown = (long)(call);                                        \
    printf("%s = %ld %s\n", #call, shown, shown < 0 ? strerrorname_np(errno) : ""); \
    fflush(stdout);                                                         \
  } while (0)

static void in_child(void (*run)(mqd_t), mqd_t queue) {
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    run(queue);
    fflush(stdout);
    _exit(0);
  }
  int status;
  waitpid(child, &status, 0);
  printf("status %d\n", status);
}

static struct timespec soon(long milliseconds) {
  struct timespec when;
  clock_gettime(CLOCK_REALTIME, &when);
  when.tv_nsec += milliseconds * 1000000;
  when.tv_sec += when.tv_nsec / 1000000000;
  when.tv_nsec %= 1000000000;
  return when;
}

static void show_attributes(mqd_t queue) {
  struct mq_attr attributes;
  if (mq_getattr(queue, &attributes) != 0) {
    printf("mq_getattr: %s\n", strerrorname_np(errno));
    return;
  }
  printf("flags %#lo, at most %ld of %ld bytes, %ld there\n", (unsigned long)attributes.mq_flags,
         attributes.mq_maxmsg, attributes.mq_msgsize, attributes.mq_curmsgs);
}

static void fill(mqd_t queue) {
  show_attributes(queue);
  SHOW(mq_send(queue, "low", 4, 0));
  SHOW(mq_send(queue, "first of five", 14, 5));
  SHOW(mq_send(queue, "highest", 8, 32767));
  SHOW(mq_send(queue, "second of five", 15, 5));
  SHOW(mq_send(queue, "", 0, 32768));
  static char large[65];
  SHOW(mq_send(queue, large, 65, 0));
  SHOW(mq_send(queue, large, 1UL << 40, 0));
  SHOW(mq_send(999, "x", 1, 0));
  SHOW(mq_send(1, "x", 1, 0));
  show_attributes(queue);
  struct timespec past = {0, 0}, wrong = {0, 1000000000}, negative = {-1, 0}, later = soon(30);
  SHOW(mq_timedsend(queue, "x", 1, 0, &past));
  SHOW(mq_timedsend(queue, "x", 1, 0, &wrong));
  SHOW(mq_timedsend(queue, "x", 1, 0, &negative));
  SHOW(mq_timedsend(queue, "x", 1, 0, &later));
  struct mq_attr attributes = {.mq_flags = O_NONBLOCK}, old;
  SHOW(mq_setattr(queue, &attributes, &old));
  SHOW(mq_send(queue, "x", 1, 0));
  show_attributes(queue);
  attributes.mq_flags = 0;
  SHOW(mq_setattr(queue, &attributes, NULL));
  attributes.mq_flags = 12345;
  SHOW(mq_setattr(queue, &attributes, NULL));
}

static void empty(mqd_t queue) {
  char text[64];
  unsigned priority;
  VALUE(mq_receive(queue, text, 63, &priority));
  for (int i = 0; i < 4; ++i) {
    VALUE(mq_receive(queue, text, sizeof text, &priority));
    printf("%u %s\n", priority, text);
  }
  struct timespec past = {0, 0}, wrong = {0, -1}, later = soon(30);
  VALUE(mq_timedreceive(queue, text, sizeof text, NULL, &past));
  VALUE(mq_timedreceive(queue, text, sizeof text, NULL, &wrong));
  VALUE(mq_timedreceive(queue, text, sizeof text, NULL, &later));
  VALUE(mq_receive(999, text, sizeof text, NULL));
  const mqd_t reading = mq_open(name, O_RDONLY | O_NONBLOCK);
  VALUE(mq_receive(reading, text, sizeof text, NULL));
  VALUE(mq_send(reading, "x", 1, 0));
  printf("access %#o\n", fcntl(reading, F_GETFL) & (O_ACCMODE | O_NONBLOCK));
  VALUE(mq_close(reading));
  VALUE(mq_close(reading));
  VALUE(mq_receive(reading, text, sizeof text, NULL));
}

static void names(mqd_t queue) {
  (void)queue;
  char other[80], longest[300];
  snprintf(other, sizeof other, "%s.other", name);
  SHOW(mq_open(name + 1, O_RDWR));
  SHOW(mq_open("/", O_RDWR));
  SHOW(mq_open("/a/b", O_RDWR | O_CREAT, 0600, NULL));
  SHOW(mq_open(other, O_RDWR));
  SHOW(mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, NULL));
  memset(longest, 'a', sizeof longest);
  longest[0] = '/';
  longest[sizeof longest - 1] = 0;
  SHOW(mq_open(longest, O_RDWR | O_CREAT, 0600, NULL));
  longest[256] = 0;
  mqd_t opened;
  SHOW(opened = mq_open(longest, O_RDWR | O_CREAT, 0600, NULL));
  SHOW(mq_close(opened));
  SHOW(mq_unlink(longest));
  struct mq_attr none = {.mq_maxmsg = 0, .mq_msgsize = 10}, huge = {.mq_maxmsg = 1L << 40, .mq_msgsize = 10};
  SHOW(mq_open(other, O_RDWR | O_CREAT, 0600, &none));
  SHOW(mq_open(other, O_RDWR | O_CREAT, 0600, &huge));
  umask(077);
  struct mq_attr small = {.mq_maxmsg = 2, .mq_msgsize = 10};
  SHOW(opened = mq_open(other, O_WRONLY | O_CREAT | O_EXCL, 0666, &small));
  show_attributes(opened);
  char text[10];
  VALUE(mq_receive(opened, text, sizeof text, NULL));
  SHOW(mq_close(opened));
  SHOW(mq_unlink(other));
  SHOW(mq_unlink(other));
  SHOW(mq_unlink(other + 1));
  SHOW(mq_open(other, O_RDWR));
}

static volatile sig_atomic_t alarms;
static void on_alarm(int number) { alarms += number == SIGALRM; }

static void interrupted(mqd_t queue) {
  char text[64];
  struct sigaction action = {.sa_handler = on_alarm};
  sigaction(SIGALRM, &action, NULL);
  ualarm(30000, 0);
  VALUE(mq_receive(queue, text, sizeof text, NULL));
  printf("alarms %d\n", (int)alarms);

}

static void inherited(mqd_t queue) {
  char text[64] = "";
  VALUE(mq_send(queue, "to the grandchild", 18, 1));
  fflush(stdout);
  const mqd_t copy = dup(queue);
  if (fork() == 0) {  // on the same worker
    VALUE(mq_receive(copy, text, sizeof text, NULL));
    printf("%s\n", text);
    VALUE(mq_close(queue));
    VALUE(mq_send(copy, "from the grandchild", 20, 1));
    fflush(stdout);
    _exit(0);
  }
  wait(NULL);
  VALUE(mq_receive(queue, text, sizeof text, NULL));
  printf("%s\n", text);
  VALUE(mq_close(copy));
  show_attributes(queue);
  fflush(stdout);
}

static mqd_t second;
static void answers(mqd_t queue) {
  char text[64];
  for (int i = 0; i < 200; ++i) {
    unsigned priority;
    const ssize_t size = mq_receive(queue, text, sizeof text, &priority);
    if (size < 0 || mq_send(second, text, (size_t)size, priority + 1) != 0) {
      printf("round %d: %s\n", i, strerrorname_np(errno));
      return;
    }
  }
}

// What a queue says to who reads its descriptor, from where the last read ended.
static void as_file(mqd_t queue) {
  char text[100];
  SHOW(mq_send(queue, "to be seen", 10, 3));
  const ssize_t first = read(queue, text, 12);
  printf("%zd <%.*s>\n", first, (int)first, text);
  const ssize_t rest = read(queue, text, sizeof text);
  printf("%zd\n", rest);
  printf("%.*s", (int)rest, text);
  VALUE(read(queue, text, sizeof text));
  VALUE(mq_receive(queue, text, sizeof text, NULL));
}

int main(void) {
  snprintf(name, sizeof name, "/elsewhere-test-%d", (int)getpid());
  struct mq_attr attributes = {.mq_maxmsg = 4, .mq_msgsize = 64};
  const mqd_t queue = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attributes);
  in_child(fill, queue);
  show_attributes(queue);
  in_child(empty, queue);
  show_attributes(queue);
  in_child(names, queue);
  in_child(interrupted, queue);
  in_child(inherited, queue);
  in_child(as_file, queue);
  // A round trip to another host, with back-pressure: the queue holds four.
  char other[80];
  snprintf(other, sizeof other, "%s.second", name);
  second = mq_open(other, O_RDWR | O_CREAT | O_EXCL, 0600, &attributes);
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    answers(queue);
    _exit(0);
  }
  int wrong = 0;
  for (int i = 0; i < 200; ++i) {
    char sent[64], got[64] = "";
    unsigned priority = 0;
    const int size = snprintf(sent, sizeof sent, "message %d", i) + 1;
    if (mq_send(queue, sent, (size_t)size, (unsigned)i) != 0) ++wrong;
    if (mq_receive(second, got, sizeof got, &priority) != size) ++wrong;
    if (strcmp(sent, got) != 0 || priority != (unsigned)i + 1) ++wrong;
  }
  wait(NULL);
  printf("wrong %d\n", wrong);
  mq_unlink(other);
  mq_unlink(name);
  return 0;
}
