/* Processes that use one object are killed at random under load, all on other hosts than the next one.
 *
 * Usage: peers_killed OBJECT KILLS SEED
 * OBJECT: pipe, moved (a pipe that one child and its children alone have), mq, msg, sem, mutex (robust),
 * plain (a mutex, whose waiters are killed), rwlock and spin (likewise), semop (with SEM_UNDO). Ends with
 * status 0 and one line; with status 1 and what is wrong; or never, where somebody hangs.
 *
 * Messages carry who wrote them and a number. Nothing may arrive twice, and of what writers that lived sent
 * nothing may be missing, except what a reader had taken when it was killed: one message for each such
 * reader. Of locks, nobody may be inside with another one, and whoever lives goes on. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kPeers = 4, kBetweenKills = 20, kMostWriters = 4096, kMostMessages = 1 << 23 };

struct message {
  int writer; /* 0: the reader that gets it ends */
  int number;
};
struct word {
  char
      what; /* b: began, s: sent, r: received, w: went through the lock, e: the writer ends, !: a violation */
  struct message message;
};

struct shared {
  pthread_mutex_t mutex;
  sem_t semaphore;
  pthread_rwlock_t rwlock;
  pthread_spinlock_t spin;
  volatile int inside;
};

static const char* object;
static struct shared* shared;
static int told[2], ends[2], queue_id;
static mqd_t queue;
static volatile sig_atomic_t ending;

static long begun, progress, violations, doubled;
static int sent[kMostWriters], ended[kMostWriters];
static unsigned char* received[kMostWriters];

static int Is(const char* name) {
  return strcmp(object, name) == 0;
}
static int IsPipe(void) {
  return Is("pipe") || Is("moved");
}
static int HasMessages(void) {
  return IsPipe() || Is("mq") || Is("msg");
}

static void Tell(char what, struct message message) {
  struct word word = {what, message};
  while (write(told[1], &word, sizeof word) != sizeof word) continue;
}

static void Note(const struct word* word) {
  const int writer = word->message.writer, number = word->message.number;
  begun += word->what == 'b';
  violations += word->what == '!';
  progress += word->what == 'r' || word->what == 'w';
  if (word->what == 's') sent[writer] = number + 1;
  if (word->what == 'e') ended[writer] = 1;
  if (word->what != 'r' || number >= kMostMessages) return;
  if (received[writer] == NULL) received[writer] = calloc(kMostMessages, 1);
  doubled += received[writer][number]++ != 0;
}

/* False at the end. A word is written whole, so it is read whole. */
static int Hear(void) {
  struct word words[64];
  ssize_t size = read(told[0], words, sizeof words);
  if (size < 0 && errno == EINTR) return 1;
  for (ssize_t i = 0; i < size / (ssize_t)sizeof *words; ++i) Note(&words[i]);
  return size > 0;
}

/* Of the object: 0 done, -1 interrupted. */
static int Send(struct message message) {
  if (IsPipe()) return write(ends[1], &message, sizeof message) == sizeof message ? 0 : -1;
  if (Is("mq")) return mq_send(queue, (char*)&message, sizeof message, 0);
  struct {
    long type;
    struct message message;
  } packet = {1, message};
  return msgsnd(queue_id, &packet, sizeof message, 0);
}
static int Receive(struct message* message) {
  if (IsPipe()) return read(ends[0], message, sizeof *message) == sizeof *message ? 0 : -1;
  if (Is("mq")) return mq_receive(queue, (char*)message, sizeof *message, NULL) == sizeof *message ? 0 : -1;
  struct {
    long type;
    struct message message;
  } packet;
  if (msgrcv(queue_id, &packet, sizeof *message, 0, 0) != sizeof *message) return -1;
  *message = packet.message;
  return 0;
}

static void Stop(int signal) {
  (void)signal;
  ending = 1;
}

static void Write(int self) {
  struct message message = {self, 0};
  while (!ending && message.number < kMostMessages) {
    if (Send(message) != 0) continue;
    Tell('s', message);
    ++message.number;
  }
  Tell('e', message);
}

static void Read(void) {
  for (struct message message;;) {
    if (Receive(&message) != 0) continue;
    if (message.writer == 0) return;
    Tell('r', message);
  }
}

static void Semop(int change) {
  struct sembuf operation = {0, (short)change, SEM_UNDO};
  while (semop(queue_id, &operation, 1) != 0) {
    if (errno == EINTR) continue;
    perror("semop");
    _exit(9);
  }
}

/* Whoever was inside is dead: 1. */
static int Lock(void) {
  if (Is("semop")) Semop(-1);
  if (Is("sem"))
    while (sem_wait(&shared->semaphore) != 0) continue;
  if (Is("rwlock")) pthread_rwlock_wrlock(&shared->rwlock);
  if (Is("spin")) pthread_spin_lock(&shared->spin);
  if (!Is("mutex") && !Is("plain")) return 0;
  const int error = pthread_mutex_lock(&shared->mutex);
  if (error == EOWNERDEAD) pthread_mutex_consistent(&shared->mutex);
  if (error != 0 && error != EOWNERDEAD) _exit(8);
  return error == EOWNERDEAD;
}
static void Unlock(void) {
  if (Is("semop")) Semop(1);
  if (Is("sem")) sem_post(&shared->semaphore);
  if (Is("rwlock")) pthread_rwlock_unlock(&shared->rwlock);
  if (Is("spin")) pthread_spin_unlock(&shared->spin);
  if (Is("mutex") || Is("plain")) pthread_mutex_unlock(&shared->mutex);
}

static void LookInside(void) {
  pthread_rwlock_rdlock(&shared->rwlock);
  if (shared->inside != 0) Tell('!', (struct message){0, 0});
  pthread_rwlock_unlock(&shared->rwlock);
}

static void GoThrough(void) {
  const struct message nothing = {0, 0};
  while (!ending) {
    if (Is("rwlock")) LookInside();
    const int recovered = Lock();
    /* What the dead had written arrives with SEM_UNDO, too, but nobody says that it died. */
    if (shared->inside != 0 && !recovered && !Is("semop")) Tell('!', nothing);
    shared->inside = getpid();
    if (shared->inside != getpid()) Tell('!', nothing);
    shared->inside = 0;
    Unlock();
    Tell('w', nothing);
  }
}

static pid_t Start(int reads, int* writers) {
  const long others = begun;
  const int self = ++*writers;
  if (self >= kMostWriters) exit(7);
  const pid_t child = fork();
  if (child != 0) {
    while (begun == others) Hear();
    return child;
  }
  struct sigaction action = {.sa_handler = Stop};
  sigaction(SIGTERM, &action, NULL);
  close(told[0]);
  Tell('b', (struct message){self, 0});
  if (!HasMessages()) {
    GoThrough();
  } else if (reads) {
    Read();
  } else {
    Write(self);
  }
  _exit(0);
}

static void Make(void) {
  pthread_mutexattr_t attributes;
  shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  if (Is("mutex")) pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init(&shared->mutex, &attributes);
  sem_init(&shared->semaphore, 1, 1);
  pthread_rwlockattr_t rwlock;
  pthread_rwlockattr_init(&rwlock);
  pthread_rwlockattr_setpshared(&rwlock, PTHREAD_PROCESS_SHARED);
  pthread_rwlock_init(&shared->rwlock, &rwlock);
  pthread_spin_init(&shared->spin, PTHREAD_PROCESS_SHARED);
  if (pipe(told) != 0) exit(7);
  if (Is("mq")) {
    char name[40];
    struct mq_attr limits = {.mq_maxmsg = 5, .mq_msgsize = sizeof(struct message)};
    snprintf(name, sizeof name, "/peers-killed-%d", (int)getpid());
    queue = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &limits);
    mq_unlink(name);
  }
  if (Is("msg")) queue_id = msgget(IPC_PRIVATE, 0600);
  if (Is("semop")) {
    queue_id = semget(IPC_PRIVATE, 1, 0600);
    semctl(queue_id, 0, SETVAL, 1);
  }
}

static void Remove(void) {
  if (Is("msg")) msgctl(queue_id, IPC_RMID, NULL);
  if (Is("semop")) semctl(queue_id, 0, IPC_RMID);
}

/* Natively a lock whose owner is killed stays locked: its waiters are killed while the parent has it, which
 * nobody else can have then. Of the others that have no owner whose death anybody hears of, likewise. */
static int Kill(pid_t child) {
  int status = 0;
  const int owns = Is("plain") || Is("sem") || Is("rwlock") || Is("spin");
  if (owns) Lock();
  kill(child, SIGKILL);
  waitpid(child, &status, 0);
  if (owns) Unlock();
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

int main(int count, char** arguments) {
  if (count != 4) return 2;
  object = arguments[1];
  const int kills = atoi(arguments[2]);
  srandom((unsigned)atoi(arguments[3]));
  if (pipe(ends) != 0) return 7;
  const pid_t inner = Is("moved") ? fork() : 0;
  if (inner != 0) {
    int status = 0;
    close(ends[0]);
    close(ends[1]);
    waitpid(inner, &status, 0);
    return status != 0;
  }
  Make();
  pid_t children[kPeers];
  int writers = 0, numbers[kPeers], readers_killed = 0, killed_right = 0;
  for (int i = 0; i < kPeers; ++i) {
    numbers[i] = writers + 1;
    children[i] = Start(i % 2, &writers);
  }
  for (int k = 0; k < kills; ++k) {
    for (long until = progress + kBetweenKills; progress < until;) Hear();
    const int victim = (int)(random() % kPeers);
    killed_right += Kill(children[victim]);
    readers_killed += victim % 2;
    numbers[victim] = writers + 1;
    children[victim] = Start(victim % 2, &writers);
  }
  /* The writers end first, then each reader by a message of its own. */
  int ended_right = 0, status;
  for (int i = 0; i < kPeers; ++i) {
    if (HasMessages() && i % 2) continue;
    kill(children[i], SIGTERM);
    while (HasMessages() && !ended[numbers[i]]) Hear();
    if (!HasMessages()) continue;
    ended_right += waitpid(children[i], &status, 0) == children[i] && status == 0;
  }
  for (int i = 1; HasMessages() && i < kPeers; i += 2)
    while (Send((struct message){0, 0}) != 0) continue;
  close(told[1]);
  while (Hear()) continue;
  while (wait(&status) > 0) ended_right += status == 0;
  int lost = 0;
  for (int i = 0; HasMessages() && i < kPeers; i += 2) {
    const int writer = numbers[i];
    for (int n = 0; n < sent[writer]; ++n) lost += received[writer] == NULL || received[writer][n] == 0;
  }
  const int wrong =
      killed_right != kills || ended_right != kPeers || violations || doubled || lost > readers_killed;
  printf("%s\n", wrong ? "wrong" : "right");
  if (wrong)
    printf("killed %d of %d, ended %d of %d, violations %ld, doubled %ld, lost %d, readers killed %d\n",
           killed_right, kills, ended_right, kPeers, violations, doubled, lost, readers_killed);
  Remove();
  return wrong;
}
