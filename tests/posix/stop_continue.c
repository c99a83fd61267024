/* forks: 1
 * A remote child is stopped and continued by its parent. It leads a group of its own: in an orphaned one, which the
 * test's may be, the kernel throws SIGTSTP away. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void) {
  int ready[2];
  if (pipe(ready) != 0) return 1;
  pid_t pid = fork();
  if (pid == 0) {
    if (setpgid(0, 0) != 0) _exit(2);
    if (write(ready[1], "x", 1) != 1) _exit(1);
    for (;;) pause();
  }
  char byte;
  if (read(ready[0], &byte, 1) != 1) return 1;
  int status = 0;
  printf("kill %d\n", kill(pid, SIGTSTP));
  printf("wait %d stopped %d\n", waitpid(pid, &status, WUNTRACED) == pid, WIFSTOPPED(status));
  printf("kill %d\n", kill(pid, SIGCONT));
  printf("wait %d continued %d\n", waitpid(pid, &status, WCONTINUED) == pid, WIFCONTINUED(status));
  printf("kill %d\n", kill(pid, SIGTERM));
  printf("wait %d by %d\n", waitpid(pid, &status, 0) == pid, WTERMSIG(status));
  return 0;
}
