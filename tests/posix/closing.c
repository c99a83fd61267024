/* forks: 6
 * A process that closes all descriptors, at home or elsewhere, forks and waits as before. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int code(pid_t pid) {
  int status = 0;
  return waitpid(pid, &status, 0) == pid ? WEXITSTATUS(status) : -1;
}

static int forks_after(int way) {
  if (way == 0) closefrom(3);
  if (way == 1 && close_range(3, ~0U, 0) != 0) return 50;
  if (way == 2) for (int fd = 3; fd < 4096; ++fd) close(fd);
  pid_t pid = fork();
  if (pid == 0) _exit(getppid() > 0 ? 7 : 8);
  return code(pid);
}

int main(void) {
  for (int way = 0; way < 3; ++way) {
    pid_t pid = fork();
    if (pid == 0) _exit(forks_after(way));
    printf("elsewhere %d\n", code(pid));
  }
  struct stat status;
  for (int fd = 3; fd < 4096; ++fd) {
    if (fstat(fd, &status) == 0) printf("%d is shown\n", fd);
    if (close(fd) == 0) printf("%d was open\n", fd);
  }
  printf("closed %d %d\n", close(1000), errno == EBADF);
  return 0;
}
