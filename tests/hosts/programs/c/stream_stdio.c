// forks: 2
// stdio's input functions in a child on another host, on a pipe whose bytes come in odd pieces.
#define _GNU_SOURCE
#include <stdio.h>

#include "pieces.h"

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

// A pipe of one page as standard input. Returns its write end.
static int NewInput(void) {
  int p[2];
  MakePagePipe(p);
  dup2(p[0], 0);
  close(p[0]);
  return p[1];
}

int main(void) {
  int output = NewInput();
  pid_t child = fork();
  if (child == 0) {
    close(output);
    Lines();
    fflush(stdout);
    _exit(0);
  }
  static char filler[25000];
  memset(filler, 'f', sizeof filler);
  write(output, "fir", 3);
  AwaitTaken(output);
  write(output, "st line\n", 8);
  write(output, "Xlong", 5);
  write(output, filler, 9000);
  write(output, "\n", 1);
  AwaitTaken(output);
  write(output, filler, sizeof filler);
  close(output);
  int status;
  waitpid(child, &status, 0);
  printf("status %d\n", status);
  fflush(stdout);

  // A program that is executed there finds its standard input, too.
  output = NewInput();
  child = fork();
  if (child == 0) {
    close(output);
    execlp("sort", "sort", "-r", (char*)NULL);
    _exit(9);
  }
  write(output, "one\ntwo\n", 8);
  AwaitTaken(output);
  write(output, "three\n", 6);
  close(output);
  waitpid(child, &status, 0);
  printf("status %d\n", status);
  return 0;
}
