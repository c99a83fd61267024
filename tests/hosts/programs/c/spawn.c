/* forks: 0
 * vfork, posix_spawn, system and popen: where they are called, with their statuses. */
#define _GNU_SOURCE
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

extern char** environ;

int main(void) {
  int status = 0;
  pid_t child = vfork();
  if (child == 0) {
    execlp("sh", "sh", "-c", "echo from vfork; exit 3", (char*)NULL);
    _exit(127);
  }
  waitpid(child, &status, 0);
  printf("vfork %d\n", WEXITSTATUS(status));
  fflush(stdout);
  char* arguments[] = {"sh", "-c", "echo from spawn; exit 4", NULL};
  if (posix_spawnp(&child, "sh", NULL, NULL, arguments, environ) != 0) return 1;
  waitpid(child, &status, 0);
  printf("spawn %d\n", WEXITSTATUS(status));
  fflush(stdout);
  printf("system %d\n", WEXITSTATUS(system("echo from system; exit 5")));
  FILE* pipe = popen("echo from popen; exit 6", "r");
  char line[64];
  if (pipe == NULL || fgets(line, sizeof line, pipe) == NULL) return 2;
  printf("%s", line);
  printf("popen %d\n", WEXITSTATUS(pclose(pipe)));
  return 0;
}
