/* One file, open for reading, that children on several hosts read at the same time, in every way in which libc can: each
   record is read once, whoever ends, seeks or is killed meanwhile.
   forks: 18 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kRecord = 16, kRecords = 2000, kChildren = 4 };

static int file, results[2];
static FILE *stream;
static sem_t *turn, *ready;

/* ---- The ways */

static char record[kRecord + 1];

static ssize_t ByRead(void) { return read(file, record, kRecord); }
static ssize_t ByReadv(void) {
  struct iovec parts[2] = {{record, 5}, {record + 5, kRecord - 5}};
  return readv(file, parts, 2);
}
static ssize_t ByPreadv2(void) {
  struct iovec part = {record, kRecord};
  return preadv2(file, &part, 1, -1, 0);
}
static ssize_t BySyscall(void) { return syscall(SYS_read, file, record, kRecord); }
static ssize_t ByStream(void) {
  static char buffer[kRecord];
  if (stream == NULL) setvbuf(stream = fdopen(dup(file), "r"), buffer, _IOFBF, sizeof buffer);
  return fgets(record, sizeof record, stream) != NULL ? kRecord : 0;
}
static ssize_t (*const ways[])(void) = {ByRead, ByReadv, ByPreadv2, BySyscall};

/* ---- All at once */

static void Report(void) {
  const int number = atoi(record);
  if (write(results[1], &number, sizeof number) != sizeof number) _exit(1);
}

static void ReadAll(int child) {
  for (int i = 0;; ++i) {
    const ssize_t got = child == 3 ? ByStream() : ways[i / 40 % 4]();
    if (got == 0) break;
    if (got != kRecord) _exit(2);
    Report();
    if (i % 10 == 9) usleep(300);
    if (child == 1 && i == 120) _exit(0);
    if (child == 2 && i == 150) raise(SIGKILL);
  }
  _exit(0);
}

static int Count(char *seen) {
  int twice = 0, number;
  while (read(results[0], &number, sizeof number) == sizeof number) twice += seen[number]++ != 0;
  return twice;
}

/* ---- In turns, where each finds what the last one left */

static void ReadInTurns(int child) {
  for (int i = 0; i < 60; ++i) {
    sem_wait(turn);
    const off_t at = lseek(file, 0, SEEK_CUR);
    if (ByRead() != kRecord || atoi(record) != at / kRecord) printf("at %ld: %s", (long)at, record);
    if (lseek(file, -kRecord, SEEK_CUR) != at || ByRead() != kRecord || atoi(record) != at / kRecord)
      printf("again at %ld: %s", (long)at, record);
    const int other = (child * 331 + i * 7) % kRecords;
    if (i % 3 == 0 && (lseek(file, other * kRecord, SEEK_SET) != other * kRecord || ByRead() != kRecord ||
                       atoi(record) != other))
      printf("%d: %s", other, record);
    if (lseek(file, 0, SEEK_END) != kRecords * kRecord || ByRead() != 0) puts("the end");
    lseek(file, i % 3 == 0 ? other * kRecord : at + kRecord, SEEK_SET);
    fflush(stdout);
    sem_post(turn);
  }
  _exit(0);
}

static void Start(void (*work)(int)) {
  for (int child = 0; child < kChildren; ++child) {
    if (fork() == 0) work(child);
  }
}

static void Cat(int child) {
  usleep(1000);
  dup2(file, 0);
  dup2(results[1], 1);
  if (child % 2 != 0) execlp("dd", "dd", "bs=16", "status=none", NULL);
  execlp("cat", "cat", NULL);
}

static int Ended(void) {
  int count = 0;
  while (wait(NULL) > 0) ++count;
  return count;
}

int main(void) {
  char path[] = "/tmp/shared_reads.XXXXXX", line[kRecord + 1];
  const int made = mkstemp(path);
  for (int i = 0; i < kRecords; ++i) {
    snprintf(line, sizeof line, "%015d\n", i);
    if (write(made, line, kRecord) != kRecord) return 1;
  }
  close(made);
  turn = mmap(NULL, 2 * sizeof *turn, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ready = turn + 1;
  sem_init(turn, 1, 1);
  sem_init(ready, 1, 0);

  static char seen[kRecords];
  file = open(path, O_RDONLY);
  if (pipe(results) != 0) return 1;
  Start(ReadAll);
  close(results[1]);
  int twice = Count(seen), once = 0;
  for (int i = 0; i < kRecords; ++i) once += seen[i] != 0;
  printf("children %d, once %d, twice %d, offset %ld\n", Ended(), once, twice, (long)lseek(file, 0, SEEK_CUR));

  fflush(stdout);
  lseek(file, 0, SEEK_SET);
  Start(ReadInTurns);
  printf("children %d\n", Ended());

  fflush(stdout);
  lseek(file, 0, SEEK_SET);
  if (pipe(results) != 0) return 1;
  Start(Cat);
  close(results[1]);
  long bytes = 0, sum = 0;
  unsigned char some[4096];
  for (ssize_t got; (got = read(results[0], some, sizeof some)) > 0; bytes += got) {
    for (ssize_t i = 0; i < got; ++i) sum += some[i];
  }
  printf("children %d, bytes %ld, sum %ld, offset %ld\n", Ended(), bytes, sum, (long)lseek(file, 0, SEEK_CUR));

  /* One that reads nothing, or has closed it, or has been stopped, keeps nobody from it. */
  lseek(file, 0, SEEK_SET);
  pid_t children[kChildren];
  for (int child = 0; child < kChildren; ++child) {
    fflush(stdout);
    if ((children[child] = fork()) != 0) continue;
    if (child == 0) close(file);
    if (child == 2) ByRead();
    if (child < 3) sem_post(ready), child == 2 ? raise(SIGSTOP) : pause();
    for (int others = 0; others < 3; ++others) sem_wait(ready);
    for (once = 0; ByRead() == kRecord; ++once) {
    }
    printf("read by one: %d\n", once);
    exit(0);
  }
  waitpid(children[3], NULL, 0);
  for (int child = 0; child < 3; ++child) kill(children[child], SIGKILL);
  printf("children %d, offset %ld\n", Ended(), (long)lseek(file, 0, SEEK_CUR));
  unlink(path);

  /* A device has no place. */
  for (int way = O_RDONLY; way <= O_RDWR; way += O_RDWR) {
    file = open("/dev/null", way);
    fflush(stdout);
    if (fork() == 0) {
      printf("null at %ld, %ld\n", (long)lseek(file, 100, SEEK_SET), (long)lseek(file, 5, SEEK_CUR));
      exit(0);
    }
    wait(NULL);
  }
  return 0;
}
