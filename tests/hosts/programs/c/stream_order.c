// forks: 20
// What a child printed is there before what it sent over a pipe afterwards is acted upon.
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void) {
  for (int i = 0; i < 20; ++i) {
    int p[2];
    char byte;
    pipe(p);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
      printf("child %d\n", i);
      fflush(stdout);
      write(p[1], "x", 1);
      pause();
    }
    read(p[0], &byte, 1);
    printf("parent %d\n", i);
    fflush(stdout);
    kill(child, 9);
    waitpid(child, 0, 0);
    close(p[0]);
    close(p[1]);
  }
  return 0;
}
