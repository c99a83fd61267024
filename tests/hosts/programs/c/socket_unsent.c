// forks: 1
// TIOCOUTQ of a socket elsewhere tells what its peer has not read yet, not what its agent has not taken.
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

int main(void) {
  int ends[2], told[2], read_all[2];
  char bytes[1000] = {0}, byte;
  socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
  pipe(told);
  pipe(read_all);
  if (fork() == 0) {
    int unsent = -1, right = 0;
    for (int round = 0; round < 50; ++round) {
      write(ends[1], bytes, sizeof bytes);
      write(told[1], "w", 1);
      right += ioctl(ends[1], TIOCOUTQ, &unsent) == 0 && unsent >= (int)sizeof bytes;
      write(told[1], "t", 1);
      read(read_all[0], &byte, 1);
      right += ioctl(ends[1], TIOCOUTQ, &unsent) == 0 && unsent == 0;
    }
    printf("%d times right\n", right);
    fflush(stdout);
    _exit(0);
  }
  for (int round = 0; round < 50; ++round) {
    read(told[0], &byte, 1);
    read(told[0], &byte, 1);
    recv(ends[0], bytes, sizeof bytes, MSG_WAITALL);
    write(read_all[1], "r", 1);
  }
  wait(NULL);
  return 0;
}
