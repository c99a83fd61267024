#include "preload/pthread_shared.h"

#include <errno.h>

#include "preload/ipc.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {

constinit thread_local uint32_t this_thread = 0;

namespace {

int64_t Call(uint64_t object, wire::SharedAction action, uint64_t argument,
             const wire::SharedDeadline& deadline, bool unheard) {
  // What this process wrote goes first, so the agent must know whose request it is.
  if (OnWorker()) SessionPid();
  const timespec* time = deadline.time;
  return CallAgent(abi::Operation::kSharedAct,
                   {static_cast<int64_t>(object), static_cast<int64_t>(action),
                    static_cast<int64_t>(argument), time != nullptr ? deadline.clock : -1,
                    time != nullptr ? time->tv_sec : 0, time != nullptr ? time->tv_nsec : 0, unheard});
}

}  // namespace

uint32_t LookUpThisThread() {
  return this_thread = static_cast<uint32_t>(raw::Syscall(SYS_gettid));
}

void ForgetThisThread() {
  this_thread = 0;
}

void LookAtForeign(const void* object, const char* reason) {
  SharedPlace place;
  if (ReasonToStayHome() == nullptr && FindSharedPlace(object, &place)) StayHome(reason);
}

bool FindShared(const void* object, wire::SharedKind kind, SharedPlace* place) {
  const size_t alignment = kind == wire::SharedKind::kSpinLock ? 4 : 8;
  return reinterpret_cast<uintptr_t>(object) % alignment == 0 && FindSharedPlace(object, place);
}

int64_t MakeShared(wire::SharedKind kind, const SharedPlace& place, uint32_t flags, uint32_t count) {
  const int before = errno;
  if (OnWorker()) SessionPid();
  const int64_t object = CallAgent(
      abi::Operation::kSharedMake,
      {static_cast<int64_t>(kind), static_cast<int64_t>(place.host), static_cast<int64_t>(place.device),
       static_cast<int64_t>(place.inode), static_cast<int64_t>(place.offset), flags, count});
  // No agent: there is no other host.
  const int error = object < 0 && errno != ENOTCONN ? errno : 0;
  errno = before;
  return object >= 0 ? object : -error;
}

int Act(uint64_t object, wire::SharedAction action, uint64_t argument, const wire::SharedDeadline& deadline,
        uint64_t* value) {
  const int before = errno;
  const int64_t result = Call(object, action, argument, deadline, false);
  const int error = result == -1 ? errno : 0;
  errno = before;
  if (value != nullptr && error == 0) *value = static_cast<uint64_t>(result);
  return error;
}

int ActUnheard(uint64_t object, wire::SharedAction action) {
  const int before = errno;
  const int error = Call(object, action, 0, {}, true) == -1 ? errno : 0;
  errno = before;
  return error;
}

int ActOnLock(uint64_t object, wire::SharedAction action, wire::SharedAction try_action,
              wire::Blocking blocking, const wire::SharedDeadline& deadline) {
  if (blocking == wire::Blocking::kTry) return Act(object, try_action);
  if (deadline.IsValid()) return Act(object, action, 0, deadline);
  const int error = Act(object, try_action);
  return error == EBUSY ? EINVAL : error;
}

int DestroyPromoted(uint64_t object) {
  for (;;) {
    const int result = Act(object, wire::SharedAction::kDestroy);
    if (result != wire::kNotDone) return result;
  }
}

}  // namespace elsewhere::preload
