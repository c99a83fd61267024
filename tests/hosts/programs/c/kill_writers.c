/* forks: 8
 * Writers of a pipe that nobody reads are killed. What they were told to be written is read afterwards, all
 * of it. */
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { kWriters = 4 };

struct word {
  uint32_t writer, number;
};

static void round_of_kills(int file, size_t size, int last_killed_first) {
  int words[2], began[2];
  char begin;
  pid_t writers[kWriters];
  uint32_t read_last[kWriters] = {0}, none[kWriters] = {0};
  struct word* word = calloc(1, size);
  pipe(words);
  pipe(began);
  pwrite(file, none, sizeof none, 0);
  for (uint32_t i = 0; i < kWriters; ++i) {
    writers[i] = fork();
    if (writers[i] != 0) continue;
    write(began[1], "b", 1);
    for (word->writer = i, word->number = 1;; ++word->number) {
      if (write(words[1], word, size) != (ssize_t)size) _exit(1);
      pwrite(file, &word->number, sizeof word->number, i * sizeof word->number);
    }
  }
  for (int i = 0; i < kWriters; ++i) read(began[0], &begin, 1);
  nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL); /* the pipe is full by then */
  for (int i = 0; i < kWriters; ++i) {
    int status = 0;
    const pid_t writer = writers[last_killed_first ? kWriters - 1 - i : i];
    kill(writer, SIGKILL);
    waitpid(writer, &status, 0);
    printf("%d ", WTERMSIG(status));
  }
  close(words[1]);
  int in_order = 1;
  while (read(words[0], word, size) == (ssize_t)size) in_order &= word->number == ++read_last[word->writer];
  for (int i = 0; i < kWriters; ++i) {
    uint32_t written = 0;
    pread(file, &written, sizeof written, (off_t)(i * sizeof written));
    if (read_last[i] < written) printf("writer %d: %u written, %u read ", i, written, read_last[i]);
  }
  printf("%s\n", in_order ? "in order" : "in another order");
  close(words[0]);
  close(began[0]);
  close(began[1]);
  free(word);
}

int main(void) {
  char name[] = "/tmp/kill-writers-XXXXXX";
  const int file = mkstemp(name);
  round_of_kills(file, sizeof(struct word), 0);
  round_of_kills(file, 1000, 1);
  unlink(name);
  return 0;
}
