// forks: 9
// System V message queues and semaphores between processes: order, types, undo, removal under waiters.
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"

#define VALUE(call)                                                                                \
  do {                                                                                             \
    errno = 0;                                                                                     \
    const long shown = (long)(call);                                                               \
    printf("%s = %ld %s\n", #call, shown < 0 ? -1 : shown, shown < 0 ? strerrorname_np(errno) : ""); \
    fflush(stdout);                                                                                \
  } while (0)
#define SHOW(call) VALUE((call) < 0 ? -1 : 0)

struct message {
  long type;
  char text[100];
};

static int queue, set;

static int send(long type, const char *text, int flags) {
  struct message message = {.type = type};
  strcpy(message.text, text);
  return msgsnd(queue, &message, strlen(text) + 1, flags);
}
static void receive(long type, size_t size, int flags) {
  struct message message = {.type = -1};
  errno = 0;
  const ssize_t got = msgrcv(queue, &message, size, type, flags);
  printf("msgrcv(%ld, %zu, %#o) = %zd %s: %ld %.100s\n", type, size, flags, got,
         got < 0 ? strerrorname_np(errno) : "", message.type, got > 0 ? message.text : "");
  fflush(stdout);
}
static int operate(int number, int change, int flags) {
  struct sembuf operation = {(unsigned short)number, (short)change, (short)flags};
  return semop(set, &operation, 1);
}
static void wait_until(int command, int number, int count) {  // somebody waits; nothing else tells
  while (semctl(set, number, command) != count) usleep(1000);
}

static void send_all(void) {
  SHOW(send(3, "three", 0));
  SHOW(send(1, "one", 0));
  SHOW(send(2, "two", 0));
  SHOW(send(3, "three again", 0));
  SHOW(send(0, "no type", 0));
  SHOW(send(-1, "no type", 0));
  SHOW(msgsnd(queue, "12345678", 1UL << 40, 0));
  SHOW(msgsnd(queue, (void *)8, 4, 0));
  SHOW(msgsnd(-1, "12345678", 0, 0));
}
static void receive_all(void) {
  receive(3, 100, 0);
  receive(-2, 100, 0);
  receive(3, 5, 0);
  receive(3, 5, MSG_NOERROR);
  receive(9, 100, IPC_NOWAIT);
  receive(2, 100, IPC_NOWAIT | MSG_EXCEPT);
  receive(0, 100, 0);
  receive(0, 100, IPC_NOWAIT);
  SHOW(msgrcv(queue, (void *)8, 4, 0, IPC_NOWAIT));
  struct msqid_ds status;
  SHOW(msgctl(queue, IPC_STAT, &status));
  printf("there %lu, last from me %d, last by parent's child %d, room %lu\n", status.msg_qnum,
         status.msg_lrpid == getpid(), status.msg_lspid != getpid(), status.msg_qbytes);
  status.msg_qbytes = 50;
  SHOW(msgctl(queue, IPC_SET, &status));
  SHOW(send(1, "as many as fit in fifty bytes, nearly all", IPC_NOWAIT));
  SHOW(send(1, "too many", IPC_NOWAIT));
  receive(0, 100, 0);
}
static void on_signal(int number) { (void)number; }
static void wait_for_message(void) {
  struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
  sigaction(SIGALRM, &action, NULL);
  ualarm(20000, 0);
  receive(5, 100, 0);  // SA_RESTART changes nothing
  operate(0, 1, 0);
  struct message message;
  const ssize_t got = msgrcv(queue, &message, 100, 5, 0);  // until the queue is removed, or after that
  printf("removed %d\n", got < 0 && (errno == EIDRM || errno == EINVAL));
}

static void undo(void) {
  SHOW(operate(1, 5, SEM_UNDO));
  SHOW(operate(2, -1, SEM_UNDO));
  VALUE(semctl(set, 1, GETVAL));
  printf("mine %d\n", semctl(set, 1, GETPID) == getpid());
  fflush(stdout);
  operate(0, 1, 0);
  operate(3, -1, 0);  // for ever: killed
}
static void undo_by_exit(void) {
  SHOW(operate(1, 7, SEM_UNDO));
  fflush(stdout);
  if (fork() == 0) {  // inherits no adjustment
    SHOW(operate(1, 100, SEM_UNDO));
    fflush(stdout);
    _exit(0);
  }
  wait(NULL);
  VALUE(semctl(set, 1, GETVAL));
}
static void wait_for_zero(void) {
  printf("zero %d\n", operate(2, 0, 0));
  operate(2, 4, 0);
}
static void wait_for_removal(void) { SHOW(operate(3, -1, 0)); }
static void calls(void) {
  unsigned short values[5] = {1, 2, 3, 4, 5};
  struct semid_ds status;
  SHOW(semctl(set, 0, SETALL, values));
  memset(values, 0, sizeof values);
  SHOW(semctl(set, 0, GETALL, values));
  printf("%d %d %d %d %d\n", values[0], values[1], values[2], values[3], values[4]);
  SHOW(semctl(set, 0, IPC_STAT, &status));
  printf("%lu semaphores, mode %#o\n", status.sem_nsems, status.sem_perm.mode);
  SHOW(semctl(set, 7, GETVAL));
  SHOW(semctl(set, 0, SETVAL, 40000));
  SHOW(semctl(set, 1, SETVAL, 0));
  SHOW(operate(9, 1, 0));
  SHOW(operate(1, -1, IPC_NOWAIT));
  SHOW(semop(set, NULL, 1));
  SHOW(semop(-1, NULL, 0));
  struct sembuf both[2] = {{0, -1, 0}, {1, -1, IPC_NOWAIT}}, many[600];
  memset(many, 0, sizeof many);
  SHOW(semop(set, both, 2));
  VALUE(semctl(set, 0, GETVAL));
  SHOW(semop(set, many, 600));
  struct timespec little = {0, 20000000}, wrong = {0, -1};
  struct sembuf one = {1, -1, 0};
  SHOW(semtimedop(set, &one, 1, &little));
  SHOW(semtimedop(set, &one, 1, &wrong));
  SHOW(semget(0x5eaf00d, 1, 0));
  const int other = semget(IPC_PRIVATE, 2, 0600);
  SHOW(semctl(other, 0, IPC_RMID));
  SHOW(semctl(other, 0, GETVAL));
}

int main(void) {
  queue = msgget(IPC_PRIVATE, 0600);
  set = semget(IPC_PRIVATE, 5, 0600);
  unsigned short zero[5] = {0, 0, 1, 0, 0};
  semctl(set, 0, SETALL, zero);

  finish(start(send_all));
  finish(start(receive_all));
  pid_t child = start(wait_for_message);
  operate(0, -1, 0);
  msgctl(queue, IPC_RMID, NULL);
  finish(child);

  child = start(undo);
  operate(0, -1, 0);
  wait_until(GETNCNT, 3, 1);
  kill(child, SIGKILL);
  finish(child);
  printf("undone: %d %d, waiting %d\n", semctl(set, 1, GETVAL), semctl(set, 2, GETVAL), semctl(set, 3, GETNCNT));
  finish(start(undo_by_exit));
  VALUE(semctl(set, 1, GETVAL));

  child = start(wait_for_zero);
  wait_until(GETZCNT, 2, 1);
  operate(2, -1, 0);
  operate(2, -4, 0);
  finish(child);

  finish(start(calls));
  semctl(set, 3, SETVAL, 0);
  child = start(wait_for_removal);
  wait_until(GETNCNT, 3, 1);
  semctl(set, 0, IPC_RMID);
  finish(child);
  return 0;
}
