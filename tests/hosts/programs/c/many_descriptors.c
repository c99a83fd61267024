/* forks: 2
 * A remote child takes descriptors until there are no more, among them the numbers that were ours at home, forks, and
 * writes to every one. */
#include <errno.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kLimit = 1200 };

static int pairs[kLimit][2];

static int reads_all(int count) {
  char byte;
  for (int i = 0; i < count; ++i) close(pairs[i][1]);
  for (int i = 0; i < count; ++i) {
    if (read(pairs[i][0], &byte, 1) != 1 || byte != (char)i || read(pairs[i][0], &byte, 1) != 0) return 1;
  }
  return 0;
}

static int writes_all(void) {
  int count = 0, status = 0;
  while (count < kLimit && socketpair(AF_UNIX, SOCK_STREAM, 0, pairs[count]) == 0) ++count;
  pid_t child = fork();
  if (child == 0) _exit(reads_all(count));
  for (int i = 0; i < count; ++i) {
    char byte = (char)i;
    close(pairs[i][0]);
    if (write(pairs[i][1], &byte, 1) != 1) printf("%d of %d: %d, errno %d\n", pairs[i][1], count, i, errno);
    close(pairs[i][1]);
  }
  waitpid(child, &status, 0);
  printf("enough %d, read %d\n", count > 500, status);
  fflush(stdout);
  return 0;
}

int main(void) {
  struct rlimit limit = {kLimit, kLimit};
  int status = 0;
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) return 2;
  if (fork() == 0) _exit(writes_all());
  wait(&status);
  printf("%d\n", status);
  return 0;
}
