// Message queues and System V objects: names in the kernel of one host.
//
// A worker has an IPC namespace of its own, where a name would silently mean another object. So a program
// that uses such objects keeps its children at home, and a process that is on a worker already is refused.
#include <errno.h>

#include "preload/agent.h"
#include "preload/hooks.h"
#include "preload/ipc.h"
#include "preload/real.h"
#include "preload/self.h"

namespace elsewhere::preload {
namespace {

constexpr char kQueues[] = "the program uses POSIX message queues";
constexpr char kSystemV[] = "the program uses System V objects";

// False: the call is refused.
bool IsHere(const char* what) {
  if (!OnWorker()) {
    StayHome(what);
    return true;
  }
  NoteForSummary("a remote child asked for a message queue or a System V object and was refused (ENOSYS)");
  errno = ENOSYS;
  return false;
}

}  // namespace

namespace hooks {

mqd_t mq_open(const char* name, int flags, mode_t mode, struct mq_attr* attributes) {
  return IsHere(kQueues) ? real::mq_open(name, flags, mode, attributes) : -1;
}
mqd_t __mq_open_2(const char* name, int flags) {
  return IsHere(kQueues) ? real::__mq_open_2(name, flags) : -1;
}
int mq_unlink(const char* name) {
  return IsHere(kQueues) ? real::mq_unlink(name) : -1;
}
int shmget(key_t key, size_t size, int flags) {
  return IsHere(kSystemV) ? real::shmget(key, size, flags) : -1;
}
void* shmat(int id, const void* address, int flags) {
  return IsHere(kSystemV) ? real::shmat(id, address, flags) : reinterpret_cast<void*>(-1);
}
int shmctl(int id, int command, struct shmid_ds* buffer) {
  return IsHere(kSystemV) ? real::shmctl(id, command, buffer) : -1;
}
int semget(key_t key, int count, int flags) {
  return IsHere(kSystemV) ? real::semget(key, count, flags) : -1;
}
int semop(int id, struct sembuf* operations, size_t count) {
  return IsHere(kSystemV) ? real::semop(id, operations, count) : -1;
}
int semtimedop(int id, struct sembuf* operations, size_t count, const struct timespec* timeout) {
  return IsHere(kSystemV) ? real::semtimedop(id, operations, count, timeout) : -1;
}
int semctl(int id, int number, int command, void* argument) {
  return IsHere(kSystemV) ? real::semctl(id, number, command, argument) : -1;
}
int msgget(key_t key, int flags) {
  return IsHere(kSystemV) ? real::msgget(key, flags) : -1;
}
int msgsnd(int id, const void* message, size_t size, int flags) {
  return IsHere(kSystemV) ? real::msgsnd(id, message, size, flags) : -1;
}
ssize_t msgrcv(int id, void* message, size_t size, long type, int flags) {
  return IsHere(kSystemV) ? real::msgrcv(id, message, size, type, flags) : -1;
}
int msgctl(int id, int command, struct msqid_ds* buffer) {
  return IsHere(kSystemV) ? real::msgctl(id, command, buffer) : -1;
}

}  // namespace hooks
}  // namespace elsewhere::preload
