/* forks: 2
 * Signals between home and a remote process carry sender and value. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t sender, value, count;

static void handler(int signal, siginfo_t* info, void* context) {
  (void)context;
  sender = info->si_pid;
  value = signal == SIGUSR2 ? info->si_value.sival_int : 0;
  ++count;
}

static void wait_for(int wanted, const sigset_t* open) {
  while (count < wanted) sigsuspend(open);
}

int main(void) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = handler;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGUSR1, &action, NULL);
  sigaction(SIGUSR2, &action, NULL);
  sigset_t both, open;
  sigemptyset(&both);
  sigaddset(&both, SIGUSR1);
  sigaddset(&both, SIGUSR2);
  sigprocmask(SIG_BLOCK, &both, &open);
  const pid_t home = getpid();
  pid_t pid = fork();
  if (pid == 0) {
    kill(home, SIGUSR1);
    wait_for(1, &open);
    int good = sender == home;
    wait_for(2, &open);
    good += sender == home && value == 42;
    struct sigaction old;
    sigaction(SIGUSR1, NULL, &old);
    good += old.sa_sigaction == handler && (old.sa_flags & SA_SIGINFO) != 0;
    pid_t inner = fork();
    if (inner == 0) {
      kill(getppid(), SIGUSR1);
      _exit(0);
    }
    wait_for(3, &open);
    good += sender == inner;
    waitpid(inner, NULL, 0);
    _exit(good);
  }
  wait_for(1, &open);
  printf("from child %d\n", sender == pid);
  kill(pid, SIGUSR1);
  usleep(20000);
  union sigval with = {.sival_int = 42};
  sigqueue(pid, SIGUSR2, with);
  int status = 0;
  waitpid(pid, &status, 0);
  printf("in child %d\n", WEXITSTATUS(status));
  return 0;
}
