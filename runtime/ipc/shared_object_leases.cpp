// Leases of promoted process-shared pthread objects: rules in shared_object_arbiter.h.
#include <algorithm>
#include <utility>
#include <vector>

#include "runtime/ipc/shared_object_arbiter.h"
#include "shim/wire/shared_lease.h"

namespace elsewhere::runtime {

using wire::SharedAction;
using wire::SharedKind;
using wire::SharedOrder;

// True: it is not to be done now.
bool SharedObjectArbiter::IsAway(Object& object, const Waiter& waiter, const Request& request) {
  if (!object.lent) return false;
  const HostId from = waiter.who.host;
  if (from == object.lessee && from != wire::kHome) {
    if (request.action != SharedAction::kCancel && request.action != SharedAction::kAbandon)
      Reply(waiter, wire::kNotDone);
    return true;
  }
  object.held_back.push_back({from, request});
  Recall(object);
  return true;
}

// `granted` holds it.
bool SharedObjectArbiter::MayBeLent(const Object& lock, const Waiter& granted) const {
  const HostId host = granted.who.host;
  const bool robust = lock.kind == SharedKind::kMutex && (lock.flags & wire::kMutexRobust) != 0;
  return !robust && (lock.held || lock.count == 1) && granted.action != SharedAction::kWait &&
         lock.history.Deserves(host) &&
         std::all_of(lock.waiting.begin(), lock.waiting.end(), [host](const Waiter& waiter) {
           return waiter.action != SharedAction::kWait && waiter.who.host == host;
         });
}

// A lock is held by `to`, a condition variable has no waiters.
void SharedObjectArbiter::Lend(Object& object, const Waiter& to) {
  object.lent = true;
  object.recalled = false;
  object.lessee = to.who.host;
  object.lessees.insert(to.who.host);
  object.history.Began();
  order_(object.lessee,
         SharedOrder{SharedOrder::What::kLend, object.number, static_cast<uint32_t>(object.kind),
                     object.flags, object.count, object.held ? to.who.thread : 0});
  for (const Waiter& waiter : std::exchange(object.waiting, {})) Reply(waiter, wire::kNotDone);
}

void SharedObjectArbiter::Recall(Object& object) {
  if (std::exchange(object.recalled, true)) return;
  order_(object.lessee, SharedOrder{SharedOrder::What::kRecall, object.number, 0, 0, 0, 0});
}

void SharedObjectArbiter::Returned(HostId from, const Request& request) {
  const auto found = objects_.find(request.object);
  if (found == objects_.end() || !found->second.lent || found->second.lessee != from) return;
  Object& object = found->second;
  object.lent = false;
  object.held = (request.flags & wire::kReturnedHeld) != 0;
  object.owner = {from, request.thread};
  object.owner_process = 0;
  object.count = static_cast<uint32_t>(request.argument);
  object.history.Ended(object.recalled);
  if ((request.flags & wire::kReturnedUntaken) != 0) object.history.Refused();
  for (const HeldBack& held : std::exchange(object.held_back, {})) Act(held.from, held.request);
}

void SharedObjectArbiter::ForgetLeases(const Object& object) {
  for (const HostId host : object.lessees)
    order_(host, SharedOrder{SharedOrder::What::kForget, object.number, 0, 0, 0, 0});
}

// The session is ending with it, and nobody can tell what its threads held.
void SharedObjectArbiter::LesseeGone(HostId host) {
  std::vector<HeldBack> held_back;
  for (auto& [number, object] : objects_) {
    object.lessees.erase(host);
    std::erase_if(object.held_back, [host](const HeldBack& held) { return held.from == host; });
    if (!object.lent || object.lessee != host) continue;
    object.lent = false;
    for (const HeldBack& held : std::exchange(object.held_back, {})) held_back.push_back(held);
  }
  for (const HeldBack& held : held_back) Act(held.from, held.request);
}

}  // namespace elsewhere::runtime
