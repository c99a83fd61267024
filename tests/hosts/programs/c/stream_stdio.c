// forks: 2
// stdio's input functions in a child on another host, on a pipe whose bytes come in odd pieces.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void Lines(void) {
  char line[64];
  printf("fgets %s", fgets(line, sizeof line, stdin));
  printf("getc %c\n", getc(stdin));
  char* long_line = NULL;
  size_t room = 0;
  ssize_t length = getline(&long_line, &room, stdin);
  printf("getline %zd\n", length);
  free(long_line);
  static char block[20000];
  printf("fread %zu\n", fread(block, 1, sizeof block, stdin));
  printf("rest %zu", fread(block, 1, sizeof block, stdin));
  printf(" eof %d error %d\n", feof(stdin) != 0, ferror(stdin) != 0);
  printf("getchar %d\n", getchar());
}

int main(void) {
  int p[2];
  pipe(p);
  dup2(p[0], 0);
  close(p[0]);
  pid_t child = fork();
  if (child == 0) {
    close(p[1]);
    Lines();
    fflush(stdout);
    _exit(0);
  }
  static char filler[25000];
  memset(filler, 'f', sizeof filler);
  write(p[1], "fir", 3);
  usleep(50000);
  write(p[1], "st line\n", 8);
  write(p[1], "Xlong", 5);
  write(p[1], filler, 9000);
  write(p[1], "\n", 1);
  usleep(50000);
  write(p[1], filler, sizeof filler);
  close(p[1]);
  int status;
  waitpid(child, &status, 0);
  printf("status %d\n", status);
  fflush(stdout);

  // A program that is executed there finds its standard input, too.
  pipe(p);
  dup2(p[0], 0);
  close(p[0]);
  child = fork();
  if (child == 0) {
    close(p[1]);
    execlp("sort", "sort", "-r", (char*)NULL);
    _exit(9);
  }
  write(p[1], "one\ntwo\n", 8);
  usleep(50000);
  write(p[1], "three\n", 6);
  close(p[1]);
  waitpid(child, &status, 0);
  printf("status %d\n", status);
  return 0;
}
