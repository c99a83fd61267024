// forks: 30
// Who has waited for a process finds its descriptors closed: the other ends say so at once, without waiting.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static int wrong;

static void Expect(int round, const char* what, long result, int expected_error) {
  const int error = result < 0 ? errno : 0;
  if (result <= 0 && error == expected_error) return;
  printf("round %d: %s gives %ld, %s\n", round, what, result, strerror(error));
  ++wrong;
}

int main(void) {
  signal(SIGPIPE, SIG_IGN);
  char byte;
  for (int round = 0; round < 30; ++round) {
    int in[2], out[2], stream[2], datagrams[2];
    pipe2(in, O_NONBLOCK);
    pipe(out);
    socketpair(AF_UNIX, SOCK_STREAM, 0, stream);
    socketpair(AF_UNIX, SOCK_DGRAM, 0, datagrams);
    const pid_t child = fork();
    if (child == 0) {
      close(in[0]);
      close(out[1]);
      close(stream[0]);
      close(datagrams[0]);
      if (round % 3 == 1) raise(SIGKILL);
      if (round % 3 == 2) write(in[1], "x", 1), write(stream[1], "x", 1);
      _exit(0);
    }
    close(in[1]);
    close(out[0]);
    close(stream[1]);
    close(datagrams[1]);
    waitpid(child, NULL, 0);
    if (round % 3 == 2) {
      if (read(in[0], &byte, 1) != 1 || recv(stream[0], &byte, 1, MSG_DONTWAIT) != 1)
        printf("a byte is missing\n");
    }
    Expect(round, "reading a pipe", read(in[0], &byte, 1), 0);
    Expect(round, "reading a socket", recv(stream[0], &byte, 1, MSG_DONTWAIT), 0);
    Expect(round, "writing to a pipe", write(out[1], "x", 1), EPIPE);
    Expect(round, "writing to a socket", write(stream[0], "x", 1), EPIPE);
    Expect(round, "sending a datagram", write(datagrams[0], "x", 1), ECONNREFUSED);
    close(in[0]);
    close(out[1]);
    close(stream[0]);
    close(datagrams[0]);
  }
  printf("%d wrong\n", wrong);
  return wrong != 0;
}
