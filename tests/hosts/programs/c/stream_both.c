// forks: 1
// Input that is there is reported at once, also by calls that need not wait because something else is ready.
#define _GNU_SOURCE
#include <poll.h>
#include <stdio.h>
#include <sys/select.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void) {
  int input[2], empty[2], output[2];
  pipe(input);
  pipe(empty);
  pipe(output);
  write(input[1], "there", 5);
  if (fork() == 0) {
    fd_set readable, writable;
    FD_ZERO(&readable);
    FD_ZERO(&writable);
    FD_SET(input[0], &readable);
    FD_SET(empty[0], &readable);
    FD_SET(output[1], &writable);
    printf("select %d:", select(FD_SETSIZE, &readable, &writable, NULL, NULL));
    printf(" %d %d %d\n", FD_ISSET(input[0], &readable) != 0, FD_ISSET(empty[0], &readable) != 0,
           FD_ISSET(output[1], &writable) != 0);
    struct pollfd all[] = {{output[1], POLLOUT, 0}, {empty[0], POLLIN, 0}, {input[0], POLLIN, 0}};
    printf("poll %d:", poll(all, 3, -1));
    printf(" %d %d %d\n", all[0].revents == POLLOUT, all[1].revents, all[2].revents == POLLIN);
    const struct timespec long_time = {100, 0};
    printf("ppoll %d\n", ppoll(all, 3, &long_time, NULL));
    fflush(stdout);
    _exit(0);
  }
  int status;
  wait(&status);
  printf("status %d\n", status);
  return 0;
}
