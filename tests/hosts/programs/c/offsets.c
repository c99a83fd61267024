/* forks: 6
 * Inherited plain files, also those without a name, share their offset; two descriptors of one open file keep
 * their order. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int wait_for(pid_t child) {
  int status = 0;
  waitpid(child, &status, 0);
  return WEXITSTATUS(status);
}

/* Parent, child, grandchild and another child read a few bytes each; the last one looks where its parent is.
 */
static void take_turns(int reader) {
  char text[8] = "";
  read(reader, text, 3);
  printf("turns: %s", text);
  fflush(stdout);
  if (fork() == 0) {
    read(reader, text, 3);
    printf("|%s", text);
    fflush(stdout);
    if (fork() == 0) {
      read(reader, text, 3);
      printf("|%s", text);
      fflush(stdout);
      _exit(0);
    }
    wait(NULL);
    read(reader, text, 3);
    printf("|%s", text);
    fflush(stdout);
    _exit(0);
  }
  wait(NULL);
  read(reader, text, 3);
  printf("|%s", text);
  fflush(stdout);
  int ask[2], answer[2];
  pipe(ask), pipe(answer);
  if (fork() == 0) {
    read(ask[0], text, 1);
    long at = lseek(reader, 0, SEEK_CUR);
    lseek(reader, 1, SEEK_SET);
    write(answer[1], &at, sizeof at);
    read(ask[0], text, 1);
    at = lseek(reader, 0, SEEK_CUR);
    write(answer[1], &at, sizeof at);
    _exit(0);
  }
  long at = 0;
  lseek(reader, 5, SEEK_SET);
  write(ask[1], "?", 1);
  read(answer[0], &at, sizeof at);
  printf(" it finds %ld, here it is then %ld", at, (long)lseek(reader, 0, SEEK_CUR));
  read(reader, text, 3);
  write(ask[1], "?", 1);
  read(answer[0], &at, sizeof at);
  printf(", and there %ld\n", at);
  wait(NULL);
}

int main(void) {
  char path[] = "/tmp/elsewhere-offsets-XXXXXX";
  int file = mkstemp(path);
  int same = dup(file);
  write(file, "parent ", 7);
  pid_t child = fork();
  if (child == 0) {
    write(file, "child ", 6);
    write(same, "again ", 6);
    _exit(0);
  }
  printf("%d", wait_for(child));
  write(file, "parent\n", 7);
  printf(" offset %ld\n", (long)lseek(file, 0, SEEK_CUR));

  int reader = open(path, O_RDONLY);
  char text[64] = "";
  read(reader, text, 7);
  child = fork();
  if (child == 0) {
    char part[8] = "";
    read(reader, part, 6);
    _exit(strcmp(part, "child ") == 0 ? 11 : 12);
  }
  printf("%d ", wait_for(child));
  memset(text, 0, sizeof text);
  read(reader, text, sizeof text - 1);
  printf("rest: %s", text);

  int only = open(path, O_WRONLY | O_APPEND);
  child = fork();
  if (child == 0) {
    struct stat status;
    fstat(only, &status);
    int size = (int)status.st_size;
    write(only, "appended\n", 9);
    _exit(S_ISREG(status.st_mode) ? size : 99);
  }
  printf("%d ", wait_for(child));
  struct stat status;
  stat(path, &status);
  printf("%ld\n", (long)status.st_size);
  close(file), close(same), close(only), close(reader);
  reader = open(path, O_RDONLY);
  unlink(path);
  take_turns(reader);
  return 0;
}
