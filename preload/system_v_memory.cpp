// System V shared memory: until a segment can be shared between hosts, its users' children stay at home, and
// a process that is on a worker already is refused.
#include <errno.h>
#include <sys/shm.h>

#include "preload/agent.h"
#include "preload/hooks.h"
#include "preload/ipc.h"
#include "preload/real.h"
#include "preload/self.h"

namespace elsewhere::preload {
namespace {

// False: the call is refused.
bool IsHere() {
  if (!OnWorker()) {
    StayHome("the program uses System V shared memory");
    return true;
  }
  NoteForSummary("a remote child asked for System V shared memory and was refused (ENOSYS)");
  errno = ENOSYS;
  return false;
}

}  // namespace

namespace hooks {

int shmget(key_t key, size_t size, int flags) {
  return IsHere() ? real::shmget(key, size, flags) : -1;
}
void* shmat(int id, const void* address, int flags) {
  return IsHere() ? real::shmat(id, address, flags) : reinterpret_cast<void*>(-1);
}
int shmctl(int id, int command, struct shmid_ds* buffer) {
  return IsHere() ? real::shmctl(id, command, buffer) : -1;
}

}  // namespace hooks
}  // namespace elsewhere::preload
