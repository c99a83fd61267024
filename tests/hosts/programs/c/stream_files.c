// forks: 3
// Plain files that are inherited open: shared offset, what fstat and lseek say, appending, unlinked ones.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void Show(const char* path) {
  char content[200] = "";
  int file = open(path, O_RDONLY);
  ssize_t size = read(file, content, sizeof content - 1);
  close(file);
  printf("%zd: %s", size, content);
}

static void Run(void (*child_does)(int), int descriptor) {
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    child_does(descriptor);
    fflush(stdout);
    _exit(0);
  }
  int status;
  waitpid(child, &status, 0);
  printf("status %d\n", status);
}

static void Writes(int file) {
  struct stat status;
  write(file, "child\n", 6);
  fstat(file, &status);
  printf("regular %d size %d at %d\n", S_ISREG(status.st_mode), (int)status.st_size, (int)lseek(file, 0, SEEK_CUR));
  lseek(file, 0, SEEK_SET);
  write(file, "PARENT", 6);
  lseek(file, 0, SEEK_END);
}

static void Appends(int file) { write(file, "appended by a child\n", 20); }

static void Reads(int file) {
  char line[7] = "";
  read(file, line, 6);
  printf("child reads %s at %d\n", line, (int)lseek(file, 0, SEEK_CUR));
}

int main(void) {
  char path[] = "/tmp/stream_files_XXXXXX";
  close(mkstemp(path));
  int file = open(path, O_WRONLY);
  write(file, "parent\n", 7);
  Run(Writes, file);
  write(file, "parent again\n", 13);
  close(file);
  Show(path);
  file = open(path, O_WRONLY | O_APPEND);
  Run(Appends, file);
  write(file, "end\n", 4);
  close(file);
  Show(path);
  file = open(path, O_RDONLY);
  lseek(file, 7, SEEK_SET);
  Run(Reads, file);
  char line[7] = "";
  read(file, line, 6);
  printf("parent reads %s\n", line);
  unlink(path);
  return 0;
}
