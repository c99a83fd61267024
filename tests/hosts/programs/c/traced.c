// forks: 0
// home: its parent traces processes (ptrace)
// A program that traces its children, as strace does: one that waits to be seized, one that asks for it.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t start(int asks) {
  const pid_t child = fork();
  if (child != 0) return child;
  if (asks) ptrace(PTRACE_TRACEME, 0, NULL, NULL);
  raise(SIGSTOP);
  _exit(3);
}

int main(void) {
  for (int asks = 0; asks < 2; ++asks) {
    int status;
    const pid_t child = start(asks);
    if (waitpid(child, &status, WUNTRACED) != child || !WIFSTOPPED(status)) return 1;
    if (asks) {
      printf("continued %ld\n", ptrace(PTRACE_CONT, child, NULL, NULL));
    } else {
      printf("seized %ld\n", ptrace(PTRACE_SEIZE, child, NULL, (void*)PTRACE_O_TRACEEXIT));
      kill(child, SIGCONT);
      while (waitpid(child, &status, 0) == child && WIFSTOPPED(status) && status >> 16 != PTRACE_EVENT_EXIT)
        ptrace(PTRACE_CONT, child, NULL, NULL);
      printf("exits %d\n", status >> 16 == PTRACE_EVENT_EXIT);
      ptrace(PTRACE_CONT, child, NULL, NULL);
    }
    printf("ended %d\n",
           waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 3);
  }
  return 0;
}
