/* forks: 9
 * A remote process keeps pid and session through every exec, whatever environment it is given. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char** environ;
static char self[] = "/proc/self/exe";

/* The program after the exec: is it who it was, and did the variable arrive? */
static int after(char** argv) {
  const int same = getpid() == atoi(argv[2]) && getppid() == atoi(argv[3]);
  const char* given = getenv("GIVEN");
  printf("%s same %d given %s\n", argv[4], same, given ? given : "-");
  return same ? 0 : 1;
}

int main(int argc, char** argv) {
  if (argc > 1 && strcmp(argv[1], "after") == 0) return after(argv);
  char path[256] = "", variable[300], me[16], parent[16];
  if (readlink(self, path, sizeof path - 1) < 0) return 1;
  char* slash = strrchr(path, '/');
  snprintf(variable, sizeof variable, "%.*s", (int)(slash - path), path);
  char* environment[] = {"GIVEN=yes", NULL};
  for (int i = 0; i < 9; ++i) {
    pid_t pid = fork();
    if (pid == 0) {
      const char* names[] = {"execve", "execv", "execvp", "execvpe", "execl", "execlp", "execle", "fexecve", "execveat"};
      char name[16];
      snprintf(name, sizeof name, "%s", names[i]);
      snprintf(me, sizeof me, "%d", getpid());
      snprintf(parent, sizeof parent, "%d", getppid());
      char* arguments[] = {slash + 1, "after", me, parent, name, NULL};
      clearenv();
      setenv("PATH", variable, 1);
      const int fd = open(path, O_RDONLY | O_CLOEXEC);
      switch (i) {
        case 0: execve(path, arguments, environment); break;
        case 1: execv(path, arguments); break;
        case 2: execvp(slash + 1, arguments); break;
        case 3: execvpe(slash + 1, arguments, environment); break;
        case 4: execl(path, slash + 1, "after", me, parent, name, (char*)NULL); break;
        case 5: execlp(slash + 1, slash + 1, "after", me, parent, name, (char*)NULL); break;
        case 6: execle(path, slash + 1, "after", me, parent, name, (char*)NULL, environment); break;
        case 7: fexecve(fd, arguments, environment); break;
        case 8: execveat(fd, "", arguments, environment, AT_EMPTY_PATH); break;
      }
      _exit(99);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    printf("%d status %d\n", i, WEXITSTATUS(status));
    fflush(stdout);
  }
  return 0;
}
