/* forks: 2
 * daemon in a remote process, whose own fork libc would hide from us; handlers that signal() reports there. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

typedef void (*simple_handler)(int);

static void told(int signal, siginfo_t* info, void* context) {
  (void)signal, (void)info, (void)context;
}

static int handlers(void) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = told;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGUSR1, &action, NULL);
  const int same = signal(SIGUSR1, SIG_IGN) == (simple_handler)(void*)told;
  return same + (signal(SIGUSR1, SIG_DFL) == SIG_IGN);
}

int main(void) {
  int report[2], status = 0;
  if (pipe(report) != 0) return 1;
  pid_t pid = fork();
  if (pid == 0) {
    const pid_t before = getpid();
    const int reported = handlers();
    if (daemon(0, 0) != 0) _exit(1);
    char line[96], directory[16] = "";
    const int length = snprintf(line, sizeof line, "other pid %d leads %d in %s handlers %d\n",
                                getpid() != before, getsid(0) == getpid(), getcwd(directory, sizeof directory),
                                reported);
    if (write(report[1], line, (size_t)length) != length) _exit(1);
    _exit(0);
  }
  waitpid(pid, &status, 0);
  close(report[1]);
  char line[96] = "";
  if (read(report[0], line, sizeof line - 1) > 0) printf("%s", line);
  printf("parent of the daemon %d, handlers %d\n", WEXITSTATUS(status), handlers());
  return 0;
}
