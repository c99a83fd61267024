#include "runtime/ipc/shared_lessee.h"

#include <utility>
#include <vector>

#include "shim/wire/shared_lease.h"

namespace elsewhere::runtime {

using wire::SharedAction;
using wire::SharedKind;
using wire::SharedOrder;

SharedLessee::SharedLessee(Agent& agent, const Processes& processes, AskCallback ask)
    : agent_(agent), processes_(processes), ask_(std::move(ask)) {}

template <class Object>
Object* SharedLessee::Cell(uint64_t object) {
  return wire::LeaseCell<Object>(&agent_.table(), object | wire::kSharedName);
}

void SharedLessee::OnOrder(const SharedOrder& order) {
  switch (order.what) {
    case SharedOrder::What::kLend:
      return Lend(order);
    case SharedOrder::What::kRecall:
      return Return(order.object);
    case SharedOrder::What::kForget:
      return Forget(order.object);
  }
  agent_.RefuseMessage(wire::kHome, "an order about a process-shared object that is none");
}

std::optional<int> SharedLessee::Act(SharedAction action, uint64_t object, uint64_t argument,
                                     uint32_t thread) {
  if (lent_.contains(object)) {
    switch (action) {
      case SharedAction::kUnlock:
        return wire::MutexUnlock(Cell<wire::Mutex>(object), {agent_.host(), thread});
      case SharedAction::kSignal:
      case SharedAction::kBroadcast:
        return wire::ConditionSignal(Cell<wire::Condition>(object), action == SharedAction::kBroadcast);
      case SharedAction::kDestroy:
        Return(object);
        return std::nullopt;
      default:
        return wire::kNotDone;
    }
  }
  if (action == SharedAction::kWait && lent_.contains(argument)) return wire::kNotDone;
  return std::nullopt;
}

bool SharedLessee::Take(const SharedOrder& order) {
  // On a worker without processes nobody would be there to give it back for.
  if (!agent_.is_home() && processes_.empty()) return false;
  wire::SharedObjectState state;
  state.flags = order.flags;
  state.count = order.count;
  state.owner = order.holder;
  state.held = order.holder != 0;
  if (order.kind == static_cast<uint32_t>(SharedKind::kMutex))
    return wire::TakeLease(Cell<wire::Mutex>(order.object), order.object, state, agent_.host());
  return wire::TakeLease(Cell<wire::Condition>(order.object), order.object, state, agent_.host());
}

void SharedLessee::Lend(const SharedOrder& order) {
  if (Take(order)) {
    lent_[order.object] = static_cast<SharedKind>(order.kind);
    return;
  }
  // Deferred at home, whose arbiter is in the middle of it; a worker's next request must come behind it.
  wire::SharedObjectState state;
  state.owner = order.holder;
  state.held = order.holder != 0;
  state.count = order.count;
  const auto refuse = [this, object = order.object, state] { Say(object, state, wire::kReturnedUntaken); };
  if (agent_.is_home()) {
    agent_.loop().Defer(refuse);
  } else {
    refuse();
  }
}

void SharedLessee::Say(uint64_t object, const wire::SharedObjectState& state, uint64_t more) {
  ask_({0, SharedAction::kReturnLease, state.owner, 0, object, state.count,
        (state.held ? wire::kReturnedHeld : 0) | more});
}

void SharedLessee::Return(uint64_t object) {
  const auto found = lent_.extract(object);
  if (found.empty()) return;  // it is on its way home
  wire::SharedObjectState state;
  if (found.mapped() == SharedKind::kMutex) {
    wire::EndLease(Cell<wire::Mutex>(object), &state);
  } else {
    wire::EndLease(Cell<wire::Condition>(object), &state);
  }
  Say(object, state, 0);
}

void SharedLessee::Forget(uint64_t object) {
  auto* cell = Cell<wire::Mutex>(object);  // the name is where every kind has it
  if (cell->object.load() == (object | wire::kSharedName)) cell->object.store(0);
}

void SharedLessee::ReturnAll() {
  std::vector<uint64_t> objects;
  for (const auto& [object, kind] : lent_) objects.push_back(object);
  for (const uint64_t object : objects) Return(object);
}

void SharedLessee::WakeAll() {
  for (const auto& [object, kind] : lent_) {
    if (kind == SharedKind::kMutex)
      wire::shared_detail::FutexWake(&Cell<wire::Mutex>(object)->state, wire::shared_detail::kEverybody);
  }
}

}  // namespace elsewhere::runtime
