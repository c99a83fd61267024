/* One file, open for reading and writing, that parent and children write to at the same time, in every way in which libc
   can; nothing is lost and nothing is torn.
   forks: 13 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kRecord = 16, kRecords = 150 };

static void Fail(const char* what) {
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  _exit(1);
}
static int Create(const char* directory, const char* name) {
  char path[256];
  snprintf(path, sizeof path, "%s/%s", directory, name);
  const int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) Fail("open");
  return fd;
}

/* ---- The ways */

static const char* record;
static int source, pipe_ends[2];
static FILE* stream;

static ssize_t ByWrite(int fd) { return write(fd, record, kRecord); }
static ssize_t ByWritev(int fd) {
  struct iovec parts[2] = {{(char*)record, 5}, {(char*)record + 5, kRecord - 5}};
  return writev(fd, parts, 2);
}
static ssize_t ByPwritev2(int fd) {
  struct iovec part = {(char*)record, kRecord};
  return pwritev2(fd, &part, 1, -1, 0);
}
static ssize_t ByStream(int fd) {
  if (stream == NULL) stream = fdopen(dup(fd), "r+");
  return fputs(record, stream) >= 0 && fflush(stream) == 0 ? kRecord : -1;
}
static ssize_t ByDprintf(int fd) { return dprintf(fd, "%s", record); }
static ssize_t BySendfile(int fd) {
  off_t from = 0;
  return pwrite(source, record, kRecord, 0) == kRecord ? sendfile(fd, source, &from, kRecord) : -1;
}
static ssize_t BySplice(int fd) {
  return write(pipe_ends[1], record, kRecord) == kRecord ? splice(pipe_ends[0], NULL, fd, NULL, 1 << 20, 0) : -1;
}
static ssize_t ByCopy(int fd) {
  off_t from = 0;
  return pwrite(source, record, kRecord, 0) == kRecord ? copy_file_range(source, &from, fd, NULL, kRecord, 0) : -1;
}
static ssize_t ByNumber(int fd) { return syscall(SYS_write, fd, record, kRecord); }

/* The kernel itself has no order for the last three of two processes at once. */
static ssize_t (*const kWays[])(int) = {ByWrite,  ByWritev,   ByPwritev2, ByStream, ByDprintf,
                                        ByNumber, BySendfile, BySplice,   ByCopy};
enum { kAll = sizeof kWays / sizeof *kWays, kWriters = kAll - 3 };

static void Write(int writer, int fd) {
  for (int i = 0; i < kRecords; ++i) {
    char text[kRecord + 1];
    snprintf(text, sizeof text, "writer %d %06d\n", writer, i);
    record = text;
    if (kWays[writer](fd) != kRecord) Fail("write");
  }
}

static void Check(const char* what, int fd, int writers, int records) {
  int next[kAll] = {0};
  char text[kRecord];
  int count = 0, writer, number, wrong = 0;
  for (; pread(fd, text, kRecord, (off_t)count * kRecord) == kRecord; ++count) {
    if (sscanf(text, "writer %d %d\n", &writer, &number) != 2 || writer >= kAll || next[writer]++ != number) ++wrong;
  }
  printf("%s: %d records of %d, %d wrong, size %ld, offset %ld\n", what, count, writers * records, wrong,
         (long)lseek(fd, 0, SEEK_END), (long)lseek(fd, 0, SEEK_CUR));
}

static pid_t Fork(void) {
  fflush(stdout);
  const pid_t child = fork();
  if (child < 0) Fail("fork");
  return child;
}
static void Join(pid_t child) {
  int status;
  if (waitpid(child, &status, 0) != child || status != 0) printf("a child ended with %x\n", status);
}

static pid_t Writer(int writer, int fd) {
  const pid_t child = Fork();
  if (child != 0) return child;
  Write(writer, fd);
  _exit(0);
}
static void AllAtOnce(const char* directory) {
  const int fd = Create(directory, "written");
  pid_t children[kWriters];
  for (int i = 1; i < kWriters; ++i) children[i] = Writer(i, fd);
  Write(0, fd);
  for (int i = 1; i < kWriters; ++i) Join(children[i]);
  for (int i = kWriters; i < kAll; ++i) Join(Writer(i, fd));
  printf("offset %ld, ", (long)lseek(fd, 0, SEEK_CUR));
  Check("written", fd, kAll, kRecords);
  close(fd);
}

/* A child's file, which its own child writes to, too. */
static void ChildsOwn(const char* directory) {
  const pid_t child = Fork();
  if (child == 0) {
    const int fd = Create(directory, "own");
    const pid_t other = Fork();
    Write(other == 0, fd);
    if (other == 0) _exit(0);
    Join(other);
    Check("own", fd, 2, kRecords);
    fflush(stdout);
    _exit(0);
  }
  Join(child);
}

/* Less than was asked for is written, and nothing: the next follows at once. */
static void WritesLess(const char* directory) {
  const int fd = Create(directory, "less");
  if (write(fd, "home.", 5) != 5) Fail("write");
  const pid_t child = Fork();
  if (child == 0) {
    void* volatile nowhere = (void*)1;
    const struct rlimit limit = {10, 10};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit);
    printf("%zd of 8\n", write(fd, "12345678", 8));
    errno = 0;
    const ssize_t none = write(fd, "12345678", 8);
    printf("%zd, %s\n", none, strerror(errno));
    errno = 0;
    const ssize_t bad = write(fd, nowhere, 8);
    printf("%zd, %s, offset %ld\n", bad, strerror(errno), (long)lseek(fd, 0, SEEK_CUR));
    errno = 0;
    const ssize_t from_nowhere = sendfile(fd, source, nowhere, 8);
    printf("%zd, %s\n", from_nowhere, strerror(errno));
    fflush(stdout);
    _exit(0);
  }
  Join(child);
  printf("offset %ld\n", (long)lseek(fd, 0, SEEK_CUR));
  if (write(fd, "home", 4) != 4) Fail("write");
  char text[32] = {0};
  const ssize_t size = pread(fd, text, sizeof text - 1, 0);
  printf("%zd: %s\n", size, text);
  close(fd);
}

/* One after the other: what is read, written and where the offset is set to is seen by the next, an executed program too. */
static void InTurn(const char* directory) {
  const int fd = Create(directory, "turns");
  char text[64] = {0};
  dprintf(fd, "first line\nsecond line\n");
  lseek(fd, 0, SEEK_SET);
  pid_t child = Fork();
  if (child == 0) {
    if (read(fd, text, 11) != 11) Fail("read");
    if (write(fd, "SECOND", 6) != 6) Fail("write");
    printf("at %ld: ", (long)lseek(fd, 0, SEEK_CUR));
    printf("%zd, %.5s\n", read(fd, text, 5), text);
    fflush(stdout);
    _exit(0);
  }
  Join(child);
  printf("offset %ld\n", (long)lseek(fd, 0, SEEK_CUR));
  lseek(fd, 0, SEEK_END);
  child = Fork();
  if (child == 0) {
    dup2(fd, 7);
    execl("/bin/sh", "sh", "-c", "echo by a shell >&7; echo and again >&7", NULL);
    _exit(1);
  }
  Join(child);
  if (write(fd, "end\n", 4) != 4) Fail("write");
  const ssize_t size = pread(fd, text, sizeof text - 1, 0);
  printf("%zd:\n%.*s", size, (int)size, text);
  close(fd);
}

int main(void) {
  char directory[] = "/tmp/shared_writes.XXXXXX", command[64];
  if (mkdtemp(directory) == NULL) Fail("mkdtemp");
  source = Create(directory, "source");
  if (pipe(pipe_ends) != 0) Fail("pipe");
  AllAtOnce(directory);
  WritesLess(directory);
  InTurn(directory);
  ChildsOwn(directory);
  snprintf(command, sizeof command, "rm -r %s", directory);
  return system(command);
}
