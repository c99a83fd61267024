/* forks: 44
 * Waiters and posters of one semaphore are killed at random while all are at work. Nobody hangs, no token is taken twice,
 * and a killed waiter takes at most the one that it was just given. */
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kChildren = 4, kKills = 40, kSeed = 20240607, kTakenBetweenKills = 20 };

static sem_t* token;
static int told[2];
static long begun, attempts, posted, taken; /* what children told: at once, before a post, after it, after a wait */

static void Tell(char what) {
  while (write(told[1], &what, 1) != 1) {
  }
}

/* False at the end of the pipe. */
static int Hear(void) {
  char words[512];
  ssize_t size = read(told[0], words, sizeof words);
  for (ssize_t i = 0; i < size; ++i) {
    begun += words[i] == 'b';
    attempts += words[i] == 'a';
    posted += words[i] == 'p';
    taken += words[i] == 't';
  }
  return size > 0;
}

/* Returns when the child runs. */
static pid_t Start(int waits) {
  long others = begun;
  pid_t child = fork();
  if (child != 0) {
    while (begun == others) Hear();
    return child;
  }
  close(told[0]);
  Tell('b');
  for (;;) {
    if (waits) {
      if (sem_wait(token) == 0) Tell('t');
    } else {
      Tell('a');
      sem_post(token);
      Tell('p');
    }
  }
}

static int Kill(pid_t child) {
  int status = 0;
  kill(child, SIGKILL);
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

int main(void) {
  token = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  sem_init(token, 1, 0);
  if (pipe(told) != 0) return 1;
  srandom(kSeed);
  pid_t children[kChildren];
  long waiters_killed = 0;
  int killed_right = 0;
  for (int i = 0; i < kChildren; ++i) children[i] = Start(i % 2);
  for (int kills = 0; kills < kKills; ++kills) {
    for (long until = taken + kTakenBetweenKills; taken < until;) Hear();
    int victim = (int)(random() % kChildren);
    killed_right += Kill(children[victim]);
    waiters_killed += victim % 2;
    children[victim] = Start(victim % 2);
  }
  for (int i = 0; i < kChildren; ++i) {
    killed_right += Kill(children[i]);
    waiters_killed += i % 2;
  }
  close(told[1]);
  while (Hear()) {
  }
  int value = 0;
  sem_getvalue(token, &value);
  printf("killed %d\n", killed_right);
  printf("taken twice: %d\n", taken + value > attempts);
  printf("lost: %d\n", posted - taken - value > waiters_killed);
  if (taken + value > attempts || posted - taken - value > waiters_killed) {
    printf("attempts %ld posted %ld taken %ld value %d waiters killed %ld\n", attempts, posted, taken, value, waiters_killed);
  }
  return 0;
}
