/* forks: 80
 * Readers of one pipe that agree on nothing: what one was told of another may have taken. Each takes one
 * message and ends; as many messages as readers are enough for all. */
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kRounds = 10, kReaders = 8, kSize = 12 };

int main(void) {
  int messages[2], ready[2], ended = 0;
  char byte, message[kSize];
  if (pipe(messages) != 0 || pipe(ready) != 0) return 1;
  for (int round = 0; round < kRounds; ++round) {
    for (int i = 0; i < kReaders; ++i) {
      if (fork() != 0) continue;
      if (write(ready[1], "r", 1) != 1) _exit(1);
      _exit(read(messages[0], message, sizeof message) == kSize ? 0 : 1);
    }
    for (int i = 0; i < kReaders; ++i) {
      if (read(ready[0], &byte, 1) != 1) return 1;
    }
    for (int i = 0; i < kReaders; ++i) {
      if (write(messages[1], "twelve bytes", kSize) != kSize) return 1;
    }
    int status;
    while (wait(&status) > 0) ended += status == 0;
  }
  printf("%d readers\n", ended);
  return 0;
}
