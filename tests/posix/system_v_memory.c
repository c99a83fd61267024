// forks: 9
// System V shared memory between processes: attached before and after a fork, ordered by semaphores, removed.
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"

static int segment, set;
static char *shared;

static const char *error_of(int failed) { return failed ? strerrorname_np(errno) : "fine"; }
#define SHOW(call)                             \
  do {                                         \
    errno = 0;                                 \
    const int failed = (long)(call) == -1;     \
    printf("%s: %s\n", #call, error_of(failed)); \
    fflush(stdout);                            \
  } while (0)

static void operate(int number, int change) {
  struct sembuf operation = {(unsigned short)number, (short)change, 0};
  semop(set, &operation, 1);
}
static long attachments(int id) {
  struct shmid_ds status;
  return shmctl(id, IPC_STAT, &status) == 0 ? (long)status.shm_nattch : -errno;
}
static void sees_and_writes(void) {
  printf("%s, attached by %ld\n", shared, attachments(segment));
  strcpy(shared + 5000, "from the child");
}
static void ping(void) {
  for (int i = 0; i < 100; ++i) {
    operate(0, -1);
    ++*(long *)(shared + 8192);
    operate(1, 1);
  }
}
static void attaches(void) {
  const int id = shmget(ftok("/", 'e'), 0, 0);
  printf("found %d\n", id == segment);
  char *again = shmat(id, NULL, 0);
  printf("%s, %ld\n", again + 5000, attachments(id));
  const char *constant = shmat(id, NULL, SHM_RDONLY);
  printf("%s, %ld\n", constant + 5000, attachments(id));
  strcpy(shared, "written through one of three");
  printf("%s; %s\n", again, constant);
  SHOW(shmdt(again));
  SHOW(shmdt(again));
  SHOW(shmdt(constant + 1));
  SHOW(shmdt(shared));
  printf("attached by %ld\n", attachments(id));
  SHOW(shmat(id, (void *)17, 0));
  SHOW(shmat(-1, NULL, 0));
  SHOW(shmget(ftok("/", 'e'), 0, IPC_CREAT | IPC_EXCL));
  SHOW(shmget(ftok("/", 'e'), 1 << 20, 0));
  SHOW(shmget(IPC_PRIVATE, 0, 0600));
  struct shmid_ds status;
  SHOW(shmctl(id, IPC_STAT, &status));
  printf("%zu bytes, mode %#o, made by parent %d\n", status.shm_segsz, status.shm_perm.mode,
         status.shm_cpid == getppid());
}
// Its own segment, which its child on the same worker and its parent at home see.
static void makes(void) {
  const int id = shmget(ftok("/", 'f'), 5000, IPC_CREAT | IPC_EXCL | 0600);
  char *mine = shmat(id, NULL, 0);
  strcpy(mine, "made elsewhere");
  fflush(stdout);
  if (fork() == 0) {
    printf("%s, attached by %ld\n", mine, attachments(id));
    fflush(stdout);
    strcpy(mine + 100, "by the grandchild");
    _exit(0);
  }
  wait(NULL);
  printf("%s, attached by %ld\n", mine + 100, attachments(id));
  strcpy(mine + 200, "in the end");
}
static void waits(void) {
  operate(0, 1);
  operate(1, -1);
}
static void executes(void) {
  operate(0, 1);
  execlp("sh", "sh", "-c", "read line", NULL);
}

int main(void) {
  shmctl(shmget(ftok("/", 'e'), 0, 0), IPC_RMID, NULL);  // of an earlier run that was killed
  shmctl(shmget(ftok("/", 'f'), 0, 0), IPC_RMID, NULL);
  segment = shmget(ftok("/", 'e'), 20000, IPC_CREAT | 0600);
  set = semget(IPC_PRIVATE, 2, 0600);
  unsigned short zero[2] = {0, 0};
  semctl(set, 0, SETALL, zero);
  shared = shmat(segment, NULL, 0);
  strcpy(shared, "from the parent");
  finish(start(sees_and_writes));
  printf("%s, attached by %ld\n", shared + 5000, attachments(segment));

  pid_t child = start(ping);
  int wrong = 0;
  for (long i = 0; i < 100; ++i) {
    operate(0, 1);
    operate(1, -1);
    if (*(long *)(shared + 8192) != i + 1) ++wrong;
  }
  finish(child);
  printf("wrong %d\n", wrong);

  finish(start(attaches));
  printf("%s, attached by %ld\n", shared, attachments(segment));

  finish(start(makes));
  const int other = shmget(ftok("/", 'f'), 0, 0);
  char *theirs = shmat(other, NULL, 0);
  printf("%s, %s, %s, attached by %ld\n", theirs, theirs + 100, theirs + 200, attachments(other));
  shmctl(other, IPC_RMID, NULL);
  printf("still there: %ld\n", attachments(other));
  shmdt(theirs);
  printf("gone: %ld\n", attachments(other));

  // A killed process and one that execs have it attached no more.
  child = start(waits);
  operate(0, -1);
  printf("attached by %ld\n", attachments(segment));
  kill(child, SIGKILL);
  finish(child);
  printf("attached by %ld\n", attachments(segment));
  int ends[2];
  pipe(ends);
  dup2(ends[0], 0);
  child = start(executes);
  operate(0, -1);
  while (attachments(segment) != 1) usleep(1000);
  close(ends[1]);
  close(ends[0]);
  kill(child, SIGKILL);
  finish(child);

  // Marked for removal while it is used: the children go on with it.
  shmctl(segment, IPC_RMID, NULL);
  strcpy(shared, "after its removal");
  finish(start(sees_and_writes));
  child = start(waits);
  operate(0, -1);
  shmdt(shared);
  printf("attached by %ld\n", attachments(segment));
  operate(1, 1);
  finish(child);
  while (attachments(segment) >= 0) usleep(1000);
  printf("gone: %ld\n", attachments(segment));
  semctl(set, 0, IPC_RMID);
  return 0;
}
