/* forks: 12
 * A child that was killed and waited for does nothing any more: what it wrote is there, and nothing comes
 * after it. */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static off_t size_of(int file) {
  struct stat status;
  fstat(file, &status);
  return status.st_size;
}

/* 0: waitpid, 1: waitid that leaves it, 2: wait4 when SIGCHLD says so. */
static int reap(pid_t child, int how, sigset_t* ended) {
  int status = 0;
  siginfo_t info;
  if (how == 1) waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT);
  if (how == 2) sigwaitinfo(ended, &info);
  if (wait4(child, &status, how == 0 ? 0 : WNOHANG, NULL) != child) return -1;
  return WIFSIGNALED(status) ? WTERMSIG(status) : -2;
}

int main(void) {
  char name[] = "/tmp/kill-reaped-XXXXXX";
  int file = mkstemp(name);
  close(file);
  file = open(name, O_WRONLY | O_APPEND);
  sigset_t ended;
  sigemptyset(&ended);
  sigaddset(&ended, SIGCHLD);
  sigprocmask(SIG_BLOCK, &ended, NULL);
  for (int i = 0; i < 12; ++i) {
    pid_t child = fork();
    if (child == 0) {
      for (;;) write(file, "x", 1);
    }
    const off_t begin = size_of(file);
    while (size_of(file) < begin + 1000) sched_yield();
    kill(child, SIGKILL);
    const int signal = reap(child, i % 3, &ended);
    const off_t before = size_of(file);
    nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    printf("%d %s\n", signal, size_of(file) == before ? "quiet" : "goes on");
    struct timespec none = {0, 0};
    while (sigtimedwait(&ended, NULL, &none) > 0) continue;
  }
  unlink(name);
  return 0;
}
