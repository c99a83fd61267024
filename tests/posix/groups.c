/* forks: 5
 * Process groups and sessions are home's, wherever a process runs. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static int finish(pid_t pid) {
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

int main(void) {
  const pid_t group = getpgrp(), session = getsid(0);
  pid_t pid = fork();
  if (pid == 0) _exit(getpgrp() == group && getsid(0) == session && getpgid(getppid()) == group);
  printf("inherited %d\n", finish(pid));

  pid = fork();
  if (pid == 0) {
    int good = setpgid(0, 0) == 0 && getpgrp() == getpid() && getpgid(0) == getpid();
    good += setsid() == -1 && errno == EPERM;
    _exit(good);
  }
  printf("own group %d\n", finish(pid));

  pid = fork();
  if (pid == 0) _exit(setsid() == getpid() && getsid(0) == getpid() && getpgrp() == getpid());
  printf("own session %d\n", finish(pid));

  int ready[2];
  if (pipe(ready) != 0) return 1;
  pid_t members[2];
  for (int i = 0; i < 2; ++i) {
    members[i] = fork();
    if (members[i] == 0) {
      setpgid(0, i == 0 ? 0 : members[0]);
      if (write(ready[1], "x", 1) != 1) _exit(1);
      for (;;) pause();
    }
    char byte;
    if (read(ready[0], &byte, 1) != 1) return 1;
  }
  printf("same group %d\n", getpgid(members[1]) == members[0]);
  printf("kill group %d\n", kill(-members[0], SIGTERM));
  printf("%d %d\n", finish(members[0]), finish(members[1]));
  return 0;
}
