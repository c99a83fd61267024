// forks: 18
// Messages of two small writes each stay whole in a pipe that is full, where workers and a thread at home write to it
// in turn, whatever gives the turn: nobody has it before what the last one wrote is in.
#define _GNU_SOURCE
#include <fcntl.h>
#include <mqueue.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/sem.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kChildren = 3, kMessages = 100, kBytes = 2000 };

static struct Shared {
  pthread_mutex_t mutex;
  sem_t semaphore;
} *shared;
static int semaphores, file = -1, ends[2];
static mqd_t queue;
static char name[64];

static void LockMutex(int number) { (void)number, pthread_mutex_lock(&shared->mutex); }
static void UnlockMutex(void) { pthread_mutex_unlock(&shared->mutex); }
static void Wait(int number) { (void)number, sem_wait(&shared->semaphore); }
static void Post(void) { sem_post(&shared->semaphore); }
static void Operate(int by) {
  struct sembuf operation = {0, (short)by, 0};
  semop(semaphores, &operation, 1);
}
static void WaitOld(int number) { (void)number, Operate(-1); }
static void PostOld(void) { Operate(1); }
static void LockFile(int number) { (void)number, flock(file, LOCK_EX); }
static void UnlockFile(void) { flock(file, LOCK_UN); }
static void Record(short type) {
  struct flock lock = {.l_type = type, .l_whence = SEEK_SET};
  fcntl(file, F_SETLKW, &lock);
}
static void LockRecord(int number) { (void)number, Record(F_WRLCK); }
static void UnlockRecord(void) { Record(F_UNLCK); }
static void Receive(int number) {
  char byte[8];
  (void)number;
  mq_receive(queue, byte, sizeof byte, NULL);
}
static void Send(void) { mq_send(queue, "x", 1, 0); }

static const struct Turn {
  const char *name;
  void (*lock)(int number);
  void (*unlock)(void);
} kTurns[] = {{"mutex", LockMutex, UnlockMutex},       {"semaphore", Wait, Post},
              {"System V semaphore", WaitOld, PostOld}, {"flock", LockFile, UnlockFile},
              {"record lock", LockRecord, UnlockRecord}, {"message", Receive, Send}};
static const struct Turn *turn;

static void *Write(void *argument) {
  const int number = (int)(long)argument;
  char bytes[kBytes];
  memset(bytes, number, sizeof bytes);
  for (int i = 0; i < kMessages; ++i) {
    turn->lock(number);
    write(ends[1], bytes, 1);
    write(ends[1], bytes, sizeof bytes);
    turn->unlock();
  }
  return NULL;
}

static int ReadWhole(void) {
  int whole = 0;
  for (int i = 0; i < (kChildren + 1) * kMessages; ++i) {
    char bytes[1 + kBytes];
    for (size_t got = 0; got < sizeof bytes;) {
      const ssize_t more = read(ends[0], bytes + got, sizeof bytes - got);
      if (more <= 0) return -1;
      got += (size_t)more;
    }
    int same = 1;
    for (size_t at = 1; at < sizeof bytes; ++at) same &= bytes[at] == bytes[0];
    whole += same;
    if (i % 10 == 0) usleep(5000);
  }
  return whole;
}

int main(void) {
  shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_mutex_init(&shared->mutex, &attributes);
  sem_init(&shared->semaphore, 1, 1);
  semaphores = semget(IPC_PRIVATE, 1, 0600);
  Operate(1);
  snprintf(name, sizeof name, "/lock_small.%d", getpid());
  struct mq_attr attr = {.mq_maxmsg = 1, .mq_msgsize = 8};
  queue = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attr);
  mq_unlink(name);
  mq_send(queue, "x", 1, 0);
  char path[] = "/tmp/lock_small.XXXXXX";
  close(mkstemp(path));

  for (size_t i = 0; i < sizeof kTurns / sizeof *kTurns; ++i) {
    turn = &kTurns[i];
    pipe(ends);
    for (long number = 1; number <= kChildren; ++number) {
      if (fork() != 0) continue;
      file = open(path, O_RDWR);
      Write((void *)number);
      _exit(0);
    }
    file = open(path, O_RDWR);
    pthread_t thread;
    pthread_create(&thread, NULL, Write, (void *)9L);
    printf("%s: %d\n", turn->name, ReadWhole());
    fflush(stdout);
    pthread_join(thread, NULL);
    while (wait(NULL) > 0) {
    }
    close(file), close(ends[0]), close(ends[1]);
  }
  semctl(semaphores, 0, IPC_RMID);
  unlink(path);
  return 0;
}
