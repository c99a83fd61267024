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

// Of a kind that is lent.
template <class Use>
auto SharedLessee::WithCell(SharedKind kind, uint64_t object, const Use& use) {
  abi::Table* table = &agent_.table();
  const uint64_t name = object | wire::kSharedName;
  switch (kind) {
    case SharedKind::kCondition:
      return use(wire::LeaseCell<wire::Condition>(table, name));
    case SharedKind::kReadWriteLock:
      return use(wire::LeaseCell<wire::ReadWriteLock>(table, name));
    case SharedKind::kSpinLock:
      return use(wire::LeaseCell<wire::LentSpinLock>(table, name));
    default:
      return use(wire::LeaseCell<wire::Mutex>(table, name));
  }
}

namespace {

struct Unlock {
  wire::SharedThread thread;
  int operator()(wire::Mutex* mutex) const { return wire::MutexUnlock(mutex, thread); }
  int operator()(wire::ReadWriteLock* lock) const { return wire::ReadWriteUnlock(lock); }
  int operator()(wire::LentSpinLock* spin) const { return wire::SpinUnlock(&spin->lock); }
  int operator()(wire::Condition*) const { return EINVAL; }
};

// What waits in a lock's own word.
struct WakeWaiters {
  static void Wake(const std::atomic<uint64_t>& state) {
    wire::shared_detail::FutexWake(&state, wire::shared_detail::kEverybody);
  }
  void operator()(wire::Mutex* mutex) const { Wake(mutex->state); }
  void operator()(wire::ReadWriteLock* lock) const { Wake(lock->state); }
  void operator()(auto*) const {}
};

struct Signal {
  bool everybody;
  int operator()(wire::Condition* condition) const { return wire::ConditionSignal(condition, everybody); }
  int operator()(auto*) const { return EINVAL; }
};

}  // namespace

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
  if (const auto found = lent_.find(object); found != lent_.end()) {
    switch (action) {
      case SharedAction::kUnlock:
      case SharedAction::kReadWriteUnlock:
        return WithCell(found->second, object, Unlock{{agent_.host(), thread}});
      case SharedAction::kSignal:
      case SharedAction::kBroadcast:
        return WithCell(found->second, object, Signal{action == SharedAction::kBroadcast});
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
  return WithCell(static_cast<SharedKind>(order.kind), order.object,
                  [&](auto* cell) { return wire::TakeLease(cell, order.object, state, agent_.host()); });
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
  WithCell(found.mapped(), object, [&](auto* cell) { wire::EndLease(cell, &state); });
  Say(object, state, 0);
}

void SharedLessee::Forget(uint64_t object) {
  const uint64_t name = object | wire::kSharedName;
  auto* cell = wire::LeaseCell<wire::Mutex>(&agent_.table(), name);  // the name is where every kind has it
  if (cell->object.load() == name) cell->object.store(0);
}

void SharedLessee::ReturnAll() {
  std::vector<uint64_t> objects;
  for (const auto& [object, kind] : lent_) objects.push_back(object);
  for (const uint64_t object : objects) Return(object);
}

void SharedLessee::WakeAll() {
  for (const auto& [object, kind] : lent_) WithCell(kind, object, WakeWaiters{});
}

}  // namespace elsewhere::runtime
