/* forks: 2
 * Who has learned of a post finds it, whatever it knew before: a trywait that fails or a value that was
 * looked at asks nobody the next time. Two children and their parent post, write to a pipe, and the reader
 * tries; and each finds its own posts. */
#include <errno.h>
#include <semaphore.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kRounds = 300, kParties = 3 };

struct shared {
  sem_t tokens[kParties]; /* posted by the one before */
  sem_t own[kParties];
  sem_t both;
};

static int value_of(sem_t* semaphore) {
  int value = -1;
  sem_getvalue(semaphore, &value);
  return value;
}

/* Each party waits for its byte, tries, looks, and passes the byte on behind its post. */
static int run(struct shared* shared, int me, int pipes[][2]) {
  int next = (me + 1) % kParties, wrong = 0;
  for (int i = 0; i < kRounds; ++i) {
    char byte = 'x';
    /* Known to be empty, unless the post of this round is there already. */
    if (me != 0 || i != 0) {
      value_of(&shared->tokens[me]);
      read(pipes[me][0], &byte, 1);
      wrong += value_of(&shared->tokens[me]) != 1;
      wrong += sem_trywait(&shared->tokens[me]) != 0;
    }
    wrong += sem_trywait(&shared->tokens[me]) == 0 || errno != EAGAIN;
    wrong += value_of(&shared->tokens[me]) != 0;

    wrong += sem_trywait(&shared->own[me]) == 0;
    sem_post(&shared->own[me]);
    wrong += value_of(&shared->own[me]) != 1;
    wrong += sem_trywait(&shared->own[me]) != 0;
    wrong += sem_trywait(&shared->own[me]) == 0;

    sem_post(&shared->both);
    sem_post(&shared->tokens[next]);
    write(pipes[next][1], &byte, 1);
  }
  return wrong;
}

int main(void) {
  struct shared* shared =
      mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  int pipes[kParties][2];
  for (int i = 0; i < kParties; ++i) {
    sem_init(&shared->tokens[i], 1, 0);
    sem_init(&shared->own[i], 1, 0);
    pipe(pipes[i]);
  }
  sem_init(&shared->both, 1, 0);
  for (int i = 1; i < kParties; ++i) {
    if (fork() == 0) {
      int wrong = run(shared, i, pipes);
      if (wrong != 0) printf("%d: %d wrong\n", i, wrong);
      return wrong != 0;
    }
  }
  int wrong = run(shared, 0, pipes), status = 0;
  for (int i = 1; i < kParties; ++i) {
    wait(&status);
    wrong += status != 0;
  }
  int posted = 0;
  while (sem_trywait(&shared->both) == 0) ++posted;
  printf("0: %d wrong, %d posted\n", wrong, posted);
  return 0;
}
