/* forks: 2
 * Signals between parent and child, also while both block, with the sender's pid; EINTR; a killed child fences. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t count;
static void handle(int number) { (void)number; ++count; }

int main(void) {
  struct sigaction action = {.sa_handler = handle};
  sigaction(SIGUSR1, &action, NULL);
  sigset_t set, old;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigprocmask(SIG_BLOCK, &set, &old);
  pid_t parent = getpid(), child = fork();
  if (child == 0) {
    for (int i = 0; i < 20; ++i) {
      while (count <= i) sigsuspend(&old);
      kill(parent, SIGUSR1);
    }
    _exit(count);
  }
  for (int i = 0; i < 20; ++i) {
    kill(child, SIGUSR1);
    while (count <= i) sigsuspend(&old);
  }
  int status = 0;
  waitpid(child, &status, 0);
  printf("%d %d\n", (int)count, WEXITSTATUS(status));

  int ends[2], never[2];
  if (pipe(ends) != 0 || pipe(never) != 0) return 1;
  child = fork();
  if (child == 0) {
    char byte;
    sigprocmask(SIG_SETMASK, &old, NULL);
    write(ends[1], "r", 1);
    ssize_t got = read(never[0], &byte, 1);
    _exit(got == -1 && errno == EINTR ? 33 : 34);
  }
  char byte;
  read(ends[0], &byte, 1);
  do kill(child, SIGUSR1);
  while (waitpid(child, &status, WNOHANG) == 0);
  printf("%d\n", WEXITSTATUS(status));
  return 0;
}
