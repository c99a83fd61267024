// forks: 6
// A file without a name that parent and children read and write: one file with one offset, whatever a child
// does with it, also by stdio, and what a process locks in it is free when it ends or closes it.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static int Wait(pid_t child) {
  int status;
  waitpid(child, &status, 0);
  return status;
}

static int Lock(int fd, int command, short type, off_t start, off_t size) {
  struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = size};
  const int result = fcntl(fd, command, &lock);
  return command == F_GETLK && result == 0 ? lock.l_type : result;
}

static void ReadAndWrite(int fd) {
  char text[3000], more[3000];
  memset(text, 0, sizeof text);
  write(fd, "child ", 6);
  printf("at %ld\n", (long)lseek(fd, 0, SEEK_CUR));
  lseek(fd, 0, SEEK_SET);
  printf("read %zd: %.20s\n", read(fd, text, 13), text);
  printf("pread %zd of the end\n", pread(fd, text, 100, 1 << 20));
  struct iovec parts[2] = {{text, 4}, {more, sizeof more}};
  const ssize_t size = readv(fd, parts, 2);
  printf("readv %zd\n", size);
  memset(text, 'x', sizeof text);
  printf("pwrite %zd\n", pwrite(fd, text, sizeof text, 100));
  const ssize_t again = pread(fd, more, sizeof more, 100);
  printf("pread %zd %d\n", again, memcmp(text, more, sizeof more));
  struct stat status;
  fstat(fd, &status);
  printf("%ld bytes, %ld names, flags %d\n", (long)status.st_size, (long)status.st_nlink,
         fcntl(fd, F_GETFL) & O_ACCMODE);
  const char* mapped = mmap(NULL, 3100, PROT_READ, MAP_PRIVATE, fd, 0);
  printf("mapped %.6s %c\n", mapped, mapped[3099]);
  FILE* file = fdopen(dup(fd), "r+");
  fseek(file, 0, SEEK_SET);
  printf("fgets %.6s\n", fgets(more, 7, file));
  fseek(file, 0, SEEK_END);
  fprintf(file, "by stdio\n");
  fclose(file);
  lseek(fd, 3100, SEEK_SET);
}

int main(void) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  FILE* made = tmpfile();
  const int fd = fileno(made);
  write(fd, "parent ", 7);
  if (fork() == 0) {
    ReadAndWrite(fd);
    _exit(0);
  }
  wait(NULL);
  char text[100] = "";
  printf("parent reads %zd %s", read(fd, text, sizeof text), text);

  // A program that is executed has it as its own input and output.
  ftruncate(fd, 0);
  lseek(fd, 0, SEEK_SET);
  pid_t child = fork();
  if (child == 0) {
    dup2(fd, STDERR_FILENO);
    execlp("sh", "sh", "-c", "echo to the file >&2; exit 3", (char*)NULL);
  }
  printf("status %d\n", WEXITSTATUS(Wait(child)));
  lseek(fd, 0, SEEK_SET);
  child = fork();
  if (child == 0) {
    dup2(fd, STDIN_FILENO);
    execlp("sh", "sh", "-c", "read line; echo \"$line\"; exit 4", (char*)NULL);
  }
  printf("status %d\n", WEXITSTATUS(Wait(child)));

  // Locks.
  int to[2], from[2];
  char byte;
  pipe(to);
  pipe(from);
  child = fork();
  if (child == 0) {
    printf("child locks %d\n", Lock(fd, F_SETLK, F_WRLCK, 0, 10));
    write(from[1], "l", 1);
    read(to[0], &byte, 1);
    close(dup(fd));  // ends them, as natively
    write(from[1], "c", 1);
    read(to[0], &byte, 1);
    printf("child locks again %d\n", Lock(fd, F_SETLK, F_WRLCK, 20, 10));
    write(from[1], "l", 1);
    pause();
  }
  read(from[0], &byte, 1);
  printf("locked for the parent %d, elsewhere in it %d\n", Lock(fd, F_SETLK, F_WRLCK, 5, 1),
         Lock(fd, F_SETLK, F_WRLCK, 10, 1));
  const pid_t other = fork();
  if (other == 0) {
    printf("locked for another child %d, %d\n", Lock(fd, F_SETLK, F_RDLCK, 9, 1),
           Lock(fd, F_GETLK, F_RDLCK, 10, 1) == F_WRLCK);
    _exit(0);
  }
  Wait(other);
  write(to[1], "c", 1);
  read(from[0], &byte, 1);
  printf("closed %d\n", Lock(fd, F_SETLK, F_WRLCK, 5, 1));
  write(to[1], "l", 1);
  read(from[0], &byte, 1);
  printf("locked %d\n", Lock(fd, F_SETLK, F_WRLCK, 20, 1));
  kill(child, SIGKILL);
  Wait(child);
  printf("killed %d\n", Lock(fd, F_SETLK, F_WRLCK, 20, 1));
  child = fork();
  if (child == 0) {
    printf("waits %d\n", Lock(fd, F_SETLKW, F_WRLCK, 20, 1));
    _exit(0);
  }
  usleep(20000);
  Lock(fd, F_SETLK, F_UNLCK, 0, 0);
  printf("status %d\n", Wait(child));
  return 0;
}
