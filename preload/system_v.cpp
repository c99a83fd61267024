// System V message queues and semaphores of processes on a worker: made by the deputy, a process of home with
// home's pid and user, so that undo, GETPID, order among waiters and removal are the kernel's own.
//
// A blocked semop, msgsnd or msgrcv fails with EINTR after any handler, SA_RESTART or not (man 7 signal).
#include "preload/system_v.h"

#include <errno.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <time.h>

#include "preload/hooks.h"
#include "preload/kernel_call.h"
#include "preload/self.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {
namespace {

constexpr size_t kMostOperations = 32000;  // SEMOPM's maximum
constexpr size_t kMostMessage = 16 << 20;
constexpr size_t kType = sizeof(long);  // in front of a message's text
constexpr ControlStructures kSemaphoreSets{SEM_STAT,         SEM_STAT_ANY,    SEM_INFO,
                                           sizeof(semid_ds), sizeof(seminfo), sizeof(seminfo)};
constexpr ControlStructures kMessageQueues{MSG_STAT,         MSG_STAT_ANY,    MSG_INFO,
                                           sizeof(msqid_ds), sizeof(msginfo), sizeof(msginfo)};

int64_t SemaphoreCount(int id) {
  struct semid_ds status {};
  const int64_t result =
      KernelCall(SYS_semctl).Number(id).Number(0).Number(IPC_STAT).Out(&status, sizeof status).Make();
  return result < 0 ? result : static_cast<int64_t>(status.sem_nsems);
}

}  // namespace

namespace hooks {

int semget(key_t key, int count, int flags) {
  return static_cast<int>(KernelCall(SYS_semget).Number(key).Number(count).Number(flags).Make());
}

int semtimedop(int id, struct sembuf* operations, size_t count, const struct timespec* limit) {
  return static_cast<int>(
      KernelCall(SYS_semtimedop)
          .Number(id)
          .In(operations, (count < kMostOperations ? count : kMostOperations) * sizeof *operations)
          .Number(static_cast<int64_t>(count))
          .In(limit, sizeof *limit)
          .Make(Interruption::kTimed));
}

int semop(int id, struct sembuf* operations, size_t count) {
  return hooks::semtimedop(id, operations, count, nullptr);
}

int semctl(int id, int number, int command, void* argument) {
  KernelCall call(SYS_semctl);
  call.Number(id).Number(number).Number(command);
  if (AddStructure(kSemaphoreSets, command, argument, &call)) return static_cast<int>(call.Make());
  if (command == GETALL || command == SETALL) {
    const int64_t count = SemaphoreCount(id);
    if (count < 0) return -1;
    const size_t size = static_cast<size_t>(count) * sizeof(unsigned short);
    if (command == GETALL) call.Out(argument, size);
    if (command == SETALL) call.In(argument, size);
  } else {
    call.Number(reinterpret_cast<intptr_t>(argument));
  }
  return static_cast<int>(call.Make());
}

int msgget(key_t key, int flags) {
  return static_cast<int>(KernelCall(SYS_msgget).Number(key).Number(flags).Make());
}

int msgsnd(int id, const void* message, size_t size, int flags) {
  return static_cast<int>(KernelCall(SYS_msgsnd)
                              .Number(id)
                              .In(message, size > kMostMessage ? kType : size + kType)
                              .Number(static_cast<int64_t>(size))
                              .Number(flags)
                              .Make(Interruption::kTimed));
}

ssize_t msgrcv(int id, void* message, size_t size, long type, int flags) {
  return static_cast<ssize_t>(KernelCall(SYS_msgrcv)
                                  .Number(id)
                                  .Message(message, size > kMostMessage ? kMostMessage : size + kType, kType)
                                  .Number(static_cast<int64_t>(size))
                                  .Number(type)
                                  .Number(flags)
                                  .Make(Interruption::kTimed));
}

int msgctl(int id, int command, struct msqid_ds* buffer) {
  KernelCall call(SYS_msgctl);
  call.Number(id).Number(command);
  AddStructure(kMessageQueues, command, buffer, &call);
  return static_cast<int>(call.Make());
}

}  // namespace hooks
}  // namespace elsewhere::preload
