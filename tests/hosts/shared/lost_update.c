/* Two processes increment one counter of shared memory without any order between them. */
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void) {
  volatile long* counter = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  pid_t child = fork();
  for (int i = 0; i < 2000; ++i) {
    __atomic_fetch_add(counter, 1, __ATOMIC_SEQ_CST);
    usleep(500);
  }
  if (child == 0) _exit(0);
  wait(NULL);
  printf("counter %ld\n", *counter);
  return 0;
}
