/* forks: 12
 * Every call that waits, at home for remote children and in a remote process for its own. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t child_that_exits(int code) {
  pid_t pid = fork();
  if (pid == 0) _exit(code);
  return pid;
}

static void waits(const char* where) {
  int status = 0;
  struct rusage usage;
  siginfo_t info = {0};
  pid_t pid = child_that_exits(1);
  printf("%s wait %d %d\n", where, wait(&status) == pid, WEXITSTATUS(status));
  pid = child_that_exits(2);
  printf("%s waitpid %d %d\n", where, waitpid(pid, &status, 0) == pid, WEXITSTATUS(status));
  pid = child_that_exits(3);
  printf("%s wait3 %d %d\n", where, wait3(&status, 0, &usage) == pid, WEXITSTATUS(status));
  pid = child_that_exits(4);
  printf("%s wait4 %d %d %d\n", where, wait4(pid, &status, 0, &usage) == pid, WEXITSTATUS(status), usage.ru_maxrss > 0);
  pid = child_that_exits(5);
  printf("%s waitid %d", where, waitid(P_PID, pid, &info, WEXITED | WNOWAIT));
  printf(" %d %d %d", info.si_pid == pid, info.si_status, info.si_code == CLD_EXITED);
  printf(" %d %d\n", waitid(P_ALL, 0, &info, WEXITED), info.si_pid == pid);
  pid = wait(NULL);
  printf("%s nobody %d %d\n", where, pid, errno == ECHILD);
  pid = waitpid(getppid(), NULL, 0);
  printf("%s not mine %d %d\n", where, pid, errno == ECHILD);
  pid = waitpid(-1, NULL, WNOHANG);
  printf("%s no hang %d %d\n", where, pid, errno == ECHILD);
  fflush(stdout);
}

int main(void) {
  setvbuf(stdout, NULL, _IOFBF, 1 << 16);
  waits("home");
  pid_t pid = fork();
  if (pid == 0) {
    waits("remote");
    _exit(0);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  pid = fork();
  if (pid == 0) abort();
  waitpid(pid, &status, 0);
  printf("abort %d\n", WTERMSIG(status));
  return 0;
}
