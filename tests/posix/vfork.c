/* forks: 5
 * vfork and what is built on it, in a remote process: the child execs, its status arrives. */
#define _GNU_SOURCE
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char** environ;

static int remote(void) {
  int status = 0;
  pid_t pid = vfork();
  if (pid == 0) {
    execl("/bin/sh", "sh", "-c", "exit 5", (char*)NULL);
    _exit(99);
  }
  printf("vfork %d", waitpid(pid, &status, 0) == pid);
  printf(" %d\n", WEXITSTATUS(status));
  char* arguments[] = {"sh", "-c", "exit 6", NULL};
  printf("spawn %d", posix_spawn(&pid, "/bin/sh", NULL, NULL, arguments, environ));
  printf(" %d", waitpid(pid, &status, 0) == pid);
  printf(" %d\n", WEXITSTATUS(status));
  printf("spawnp %d\n", posix_spawnp(&pid, "no such program", NULL, NULL, arguments, environ));
  printf("system %d\n", WEXITSTATUS(system("exit 7")));
  fflush(stdout);
  FILE* stream = popen("echo $$; exit 8", "r");
  char line[64] = "";
  if (fgets(line, sizeof line, stream) == NULL) puts("nothing read");
  printf("popen %d", atoi(line) > 1);
  printf(" %d\n", WEXITSTATUS(pclose(stream)));
  fflush(stdout);
  return 0;
}

int main(void) {
  for (int i = 0; i < 1; ++i) {
    pid_t pid = fork();
    if (pid == 0) _exit(remote());
    int status = 0;
    waitpid(pid, &status, 0);
    printf("status %d\n", WEXITSTATUS(status));
  }
  return 0;
}
