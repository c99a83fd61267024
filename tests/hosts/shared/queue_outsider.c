/* A message queue with a name that a program from outside of the session opens while one worker has it.
 *
 * queue_outsider play NAME: one child sends numbers and another gets them, until standard input says
 * something. Prints how many were sent, how many came, and whether they came in their order. queue_outsider
 * take NAME COUNT: gets COUNT of them and prints each. */
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kUrgent = 1, kLast = 0, kShown = 2000 };

static volatile sig_atomic_t ending;
static void end(int number) {
  ending = number;
}

static void send_numbers(mqd_t queue) {
  struct sigaction action = {.sa_handler = end};
  sigaction(SIGTERM, &action, NULL);
  int next = 0;
  while (!ending) next += mq_send(queue, (char*)&next, sizeof next, kUrgent) == 0;
  while (mq_send(queue, (char*)&next, sizeof next, kLast) != 0) continue;
}

static void get_numbers(mqd_t queue) {
  int number, before = -1, count = 0, ordered = 1;
  unsigned priority = kUrgent;
  for (;;) {
    if (mq_receive(queue, (char*)&number, sizeof number, &priority) != sizeof number) continue;
    if (priority == kLast) break;
    ordered &= number > before;
    before = number;
    if (++count != kShown) continue;
    printf("playing\n");
    fflush(stdout);
  }
  printf("sent %d got %d ordered %d\n", number, count, ordered);
  fflush(stdout);
}

static pid_t start(void (*run)(mqd_t), mqd_t queue) {
  const pid_t child = fork();
  if (child != 0) return child;
  run(queue);
  _exit(0);
}

static int play(const char* name) {
  struct mq_attr attributes = {.mq_maxmsg = 8, .mq_msgsize = sizeof(int)};
  const mqd_t queue = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attributes);
  if (queue < 0) return 1;
  const pid_t sender = start(send_numbers, queue), receiver = start(get_numbers, queue);
  char line[8];
  const int told = fgets(line, sizeof line, stdin) != NULL;
  kill(sender, SIGTERM);
  int first, second;
  waitpid(sender, &first, 0);
  waitpid(receiver, &second, 0);
  mq_unlink(name);
  return first != 0 || second != 0 || !told;
}

static int take(const char* name, int count) {
  const mqd_t queue = mq_open(name, O_RDONLY);
  if (queue < 0) return 1;
  for (int number; count > 0 && mq_receive(queue, (char*)&number, sizeof number, NULL) == sizeof number;
       --count)
    printf("%d\n", number);
  return count != 0;
}

int main(int count, char** arguments) {
  if (count == 3 && strcmp(arguments[1], "play") == 0) return play(arguments[2]);
  if (count == 4 && strcmp(arguments[1], "take") == 0) return take(arguments[2], atoi(arguments[3]));
  return 2;
}
