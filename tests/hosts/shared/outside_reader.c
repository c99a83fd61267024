/* What a child writes waits for a reader outside of the session, and then it posts. Prints to standard error, 20
 * times, whether the parent could take the token: natively not, since the child is still at its write. Then waits
 * for it. */
#include <errno.h>
#include <poll.h>
#include <semaphore.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kAlone = 400, kWritten = 100 << 10 };

int main(void) {
  sem_t *token = mmap(NULL, sizeof *token, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  sem_init(token, 1, 0);
  if (fork() == 0) {
    static const char block[1024];
    for (int i = 0; i < kAlone; ++i) {  // long enough for it to be lent
      sem_post(token);
      sem_wait(token);
    }
    for (int written = 0; written < kWritten; written += (int)sizeof block)
      write(STDOUT_FILENO, block, sizeof block);
    sem_post(token);
    _exit(0);
  }
  struct pollfd room = {.fd = STDOUT_FILENO, .events = POLLOUT};
  while (poll(&room, 1, 0) != 0) usleep(1000);  // no event tells that a pipe is full
  usleep(300000);  // likely enough for the rest to be on its way, and the post
  for (int i = 0; i < 20; ++i) {
    const int taken = sem_trywait(token);
    fprintf(stderr, "%d %d\n", taken, taken == 0 ? 0 : errno == EAGAIN);
  }
  fprintf(stderr, "read\n");
  sem_wait(token);
  wait(NULL);
  return 0;
}
