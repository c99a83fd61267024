#include "runtime/ipc/shared_objects.h"

#include <poll.h>

#include <cerrno>
#include <chrono>
#include <utility>

#include "runtime/ipc/deadline.h"
#include "shim/wire/shared_barrier.h"
#include "shim/wire/shared_condition.h"
#include "shim/wire/shared_mutex.h"
#include "shim/wire/shared_read_write_lock.h"
#include "shim/wire/shared_spin_lock.h"

namespace elsewhere::runtime {

using wire::SharedAction;
using wire::SharedKind;

namespace {

constexpr size_t kMostPerObject = 1 << 20;

uint64_t Key(CallId id) {
  return static_cast<uint64_t>(id.slot) << 32 | id.generation;
}

// What others may do behind it, they do knowing everything that the caller wrote before.
bool Releases(SharedAction action) {
  switch (action) {
    case SharedAction::kUnlock:
    case SharedAction::kReadWriteUnlock:
    case SharedAction::kSignal:
    case SharedAction::kBroadcast:
    case SharedAction::kWait:
    case SharedAction::kBarrierWait:
      return true;
    default:
      return false;
  }
}

size_t SizeOf(SharedKind kind) {
  switch (kind) {
    case SharedKind::kMutex:
      return sizeof(wire::Mutex);
    case SharedKind::kCondition:
      return sizeof(wire::Condition);
    case SharedKind::kReadWriteLock:
      return sizeof(wire::ReadWriteLock);
    case SharedKind::kBarrier:
      return sizeof(wire::Barrier);
    case SharedKind::kSpinLock:
      return sizeof(wire::SpinLock);
  }
  return 0;
}

}  // namespace

SharedObjects::SharedObjects(Agent& agent, Segments& segments, const SharedLessee::Processes& processes,
                             std::function<void()> publish)
    : agent_(agent),
      segments_(segments),
      publish_(std::move(publish)),
      watch_(agent.loop(), [this](uint32_t thread) { ThreadDied(thread); }),
      lessee_(agent, processes, [this](const wire::SharedRequest& request) { Ask(request); }) {
  agent.OnCall(abi::Operation::kSharedMake, [this](CallId id, const Call& call) { OnMake(id, call); });
  agent.OnCall(abi::Operation::kSharedAct, [this](CallId id, const Call& call) { OnAct(id, call); });
  if (!agent.is_home()) {
    agent.OnMessage<wire::SharedAnswer>([this](HostId, wire::SharedAnswer&& answer) { OnAnswer(answer); });
    agent.OnMessage<wire::SharedOrder>([this](HostId, wire::SharedOrder&& order) { lessee_.OnOrder(order); });
    return;
  }
  arbiter_ = std::make_unique<SharedObjectArbiter>(
      [this](HostId to, const wire::SharedAnswer& answer) {
        if (to == wire::kHome) return OnAnswer(answer);
        agent_.Send(to, answer);
      },
      [this](Incarnation process) {
        const Process* deputy = agent_.FindProcess(process);
        pollfd ended{deputy != nullptr ? deputy->pidfd : -1, POLLIN, 0};
        return deputy == nullptr || poll(&ended, 1, 0) == 1;
      },
      [this](HostId to, const wire::SharedOrder& order) {
        if (to == wire::kHome) return lessee_.OnOrder(order);
        agent_.Send(to, order);
      });
  agent.OnMessage<wire::SharedRequest>([this](HostId from, wire::SharedRequest&& request) {
    LookForDeaths();
    arbiter_->Act(from, request);
  });
}

// ---- Objects that are made, and promoted ----

void SharedObjects::OnMake(CallId id, const Call& call) {
  const auto& arguments = call.arguments;
  const auto kind = static_cast<SharedKind>(arguments[0]);
  const auto host = static_cast<HostId>(arguments[1]);
  const ObjectKey key{static_cast<uint64_t>(arguments[2]), static_cast<uint64_t>(arguments[3])};
  const auto offset = static_cast<uint64_t>(arguments[4]);
  if (SizeOf(kind) == 0) return agent_.Complete(id, -1, EINVAL);
  // Segments are home's objects; what was mapped anew on a worker, or by its path, is not one.
  if (host == wire::kHome && segments_.Find(key) != nullptr) {
    const uint64_t request = AddPending(id, call);
    pending_[request].asked = true;
    return Ask({request, SharedAction::kMake, 0, 0, 0, static_cast<uint64_t>(arguments[6]),
                static_cast<uint64_t>(kind) << 32 | static_cast<uint32_t>(arguments[5])});
  }
  if (agent_.is_home() && host == wire::kHome) {
    auto& made = made_in_[key];
    if (made.size() >= kMostPerObject) return agent_.Complete(id, -1, EAGAIN);
    made[offset] = kind;
  }
  agent_.Complete(id, 0);
}

Status SharedObjects::Promote(const ObjectKey& key, Segment& segment) {
  const auto found = made_in_.find(key);
  if (found == made_in_.end()) return Ok{};
  agent_.SharedMemoryChanged();
  for (const auto& [offset, kind] : found->second) {
    if (offset + SizeOf(kind) > segment.size()) continue;
    if (!PromoteAt(segment.live() + offset, kind)) return Error{ENOSPC, "too many process-shared spin locks"};
  }
  made_in_.erase(found);
  return Ok{};
}

// False: there is no number for it. Objects that were destroyed, or promoted before, are left alone.
bool SharedObjects::PromoteAt(uint8_t* at, SharedKind kind) {
  wire::SharedObjectState taken;
  const auto promote = [&](auto* object, auto operation) {
    if (!wire::IsOurs(object) || wire::IsPromoted(object)) return true;
    const uint64_t number = arbiter_->Make(kind);
    if (number == 0) return false;
    if (operation(object, number, &taken)) arbiter_->Begin(number, kind, wire::kHome, taken);
    return true;
  };
  switch (kind) {
    case SharedKind::kMutex:
      if (!promote(reinterpret_cast<wire::Mutex*>(at), wire::MutexPromote)) return false;
      if (taken.held && (taken.flags & wire::kMutexRobust) != 0) watch_.Watch(taken.owner);
      return true;
    case SharedKind::kCondition:
      return promote(reinterpret_cast<wire::Condition*>(at), wire::ConditionPromote);
    case SharedKind::kReadWriteLock:
      return promote(reinterpret_cast<wire::ReadWriteLock*>(at), wire::ReadWritePromote);
    case SharedKind::kBarrier:
      return promote(reinterpret_cast<wire::Barrier*>(at), wire::BarrierPromote);
    case SharedKind::kSpinLock:
      return promote(reinterpret_cast<wire::SpinLock*>(at), wire::SpinPromote);
  }
  return true;
}

// ---- Requests ----

void SharedObjects::OnAct(CallId id, const Call& call) {
  if (Releases(static_cast<SharedAction>(call.arguments[1]))) return Release(id, call);
  AskPending(AddPending(id, call), call);
}

void SharedObjects::Release(CallId id, const Call& call) {
  const bool unasked = call.arguments[6] != 0;
  const uint64_t request = unasked ? 0 : AddPending(id, call);
  const auto go_on = [this, id, call, request] {
    if (request != 0) return AskPending(request, call);
    const auto action = static_cast<SharedAction>(call.arguments[1]);
    const auto thread = static_cast<uint32_t>(call.kernel_tid);
    const auto object = static_cast<uint64_t>(call.arguments[0]);
    if (!lessee_.Act(action, object, 0, thread)) Ask({0, action, thread, call.incarnation, object, 0, 0});
    agent_.Complete(id, 0);
  };
  const Process* process = agent_.FindKernelPid(call.kernel_pid);
  if (process != nullptr) return agent_.DrainCaller(id, call, *process, go_on);
  publish_();
  go_on();
}

uint64_t SharedObjects::AddPending(CallId id, const Call& call) {
  const uint64_t request = ++last_request_;
  pending_[request] = Pending{.call = id,
                              .action = static_cast<SharedAction>(call.arguments[1]),
                              .object = static_cast<uint64_t>(call.arguments[0]),
                              .argument = static_cast<uint64_t>(call.arguments[2]),
                              .thread = static_cast<uint32_t>(call.kernel_tid),
                              .process = call.kernel_pid};
  by_call_[Key(id)] = request;
  return request;
}

void SharedObjects::AskPending(uint64_t request, const Call& call) {
  Pending& pending = pending_.at(request);
  pending.asked = true;
  // Whoever died while its data was drained waits for nothing any more; what it released is released.
  if (pending.dead &&
      (pending.action == SharedAction::kWait || pending.action == SharedAction::kBarrierWait)) {
    pending_.erase(request);
    return;
  }
  if (const auto done = lessee_.Act(pending.action, pending.object, pending.argument, pending.thread))
    return OnAnswer({request, *done, 0, false});
  if (arbiter_ != nullptr) LookForDeaths();
  Ask({request, pending.action, pending.thread, call.incarnation, pending.object, pending.argument, 0});
  const auto clock = static_cast<clockid_t>(call.arguments[3]);
  const auto found = pending_.find(request);
  if (clock < 0 || found == pending_.end()) return;
  const auto left = Until(clock, call.arguments[4], call.arguments[5]);
  if (left <= std::chrono::nanoseconds::zero()) return TimeIsOver(request);
  found->second.timer = agent_.loop().After(left, [this, request] {
    pending_.at(request).timer = 0;
    TimeIsOver(request);
  });
}

void SharedObjects::Ask(const wire::SharedRequest& request) {
  if (arbiter_ != nullptr) return arbiter_->Act(wire::kHome, request);
  agent_.Send(wire::kHome, request);
}

void SharedObjects::TimeIsOver(uint64_t request) {
  Ask({0, SharedAction::kCancel, 0, 0, pending_.at(request).object, request, 0});
}

void SharedObjects::OnAnswer(const wire::SharedAnswer& answer) {
  const auto found = pending_.find(answer.request);
  if (found == pending_.end()) return agent_.Fatal("process-shared objects: an answer that nobody asked for");
  const Pending pending = found->second;
  if (pending.timer != 0) agent_.loop().Cancel(pending.timer);
  if (!pending.dead) by_call_.erase(Key(pending.call));
  pending_.erase(found);
  if (pending.dead) return GiveBack(pending, answer.error);
  if (answer.watch) watch_.Watch(pending.thread);
  agent_.Complete(pending.call, answer.error == 0 ? static_cast<int64_t>(answer.value) : -1, answer.error);
  if (agent_.FindKernelPid(pending.process) != nullptr) NoteGiven(pending, answer.error);
}

// ---- Deaths ----

// A parent that has reaped an owner knows that it is dead, and must find the agents knowing it too: home
// looks before it decides, a worker before it says that a process has ended.
void SharedObjects::LookForDeaths() {
  watch_.Look();
}

// A thread asks for one thing at a time: what it has found leaves the list by its next answer.
void SharedObjects::NoteGiven(const Pending& pending, int error) {
  auto& given = given_[pending.process];
  std::erase_if(given, [this](const Given& each) { return !IsUntaken(each); });
  given.push_back({pending, error});
}

bool SharedObjects::IsUntaken(const Given& given) const {
  const abi::Slot& slot = agent_.table().slots[given.pending.call.slot];
  return slot.state.load(std::memory_order_acquire) == static_cast<uint32_t>(abi::SlotState::kDone) &&
         slot.owner == given.pending.process && slot.thread == static_cast<int32_t>(given.pending.thread) &&
         static_cast<abi::Operation>(slot.operation) == abi::Operation::kSharedAct &&
         static_cast<uint64_t>(slot.arguments[0]) == given.pending.object &&
         slot.arguments[1] == static_cast<int64_t>(given.pending.action);
}

void SharedObjects::ProcessGone(int32_t kernel_pid) {
  lessee_.WakeAll();
  const auto found = given_.extract(kernel_pid);
  if (found.empty()) return;
  for (const Given& given : found.mapped()) {
    if (IsUntaken(given)) GiveBack(given.pending, given.error);
  }
}

// Deferred: the arbiter may be in the middle of something.
void SharedObjects::GiveBack(const Pending& pending, int error) {
  uint64_t object = 0;
  switch (pending.action) {
    case SharedAction::kLock:
    case SharedAction::kTryLock:
      if (error == 0 || error == EOWNERDEAD) object = pending.object;
      break;
    case SharedAction::kWait:
      if (error == 0 || error == EOWNERDEAD || error == ETIMEDOUT) object = pending.argument;
      break;
    case SharedAction::kReadLock:
    case SharedAction::kTryReadLock:
    case SharedAction::kWriteLock:
    case SharedAction::kTryWriteLock:
      if (error == 0) object = pending.object;
      break;
    default:
      break;
  }
  if (object == 0) return;
  agent_.loop().Defer([this, object, thread = pending.thread] {
    if (!lessee_.Act(SharedAction::kUnlock, object, 0, thread))
      Ask({0, SharedAction::kReturn, thread, 0, object, 0, 0});
  });
}

void SharedObjects::CallDropped(CallId id) {
  const auto found = by_call_.find(Key(id));
  if (found == by_call_.end()) return;
  const uint64_t request = found->second;
  by_call_.erase(found);
  Pending& pending = pending_.at(request);
  pending.dead = true;
  // Who arrived at a barrier has arrived.
  if (!pending.asked || pending.action == SharedAction::kBarrierWait) return;
  Ask({0, SharedAction::kAbandon, pending.thread, 0, pending.object, request,
       pending.action == SharedAction::kWait ? pending.argument : 0});
}

void SharedObjects::ThreadDied(uint32_t thread) {
  agent_.TakeCalls();  // an unlock that it still asked for
  Ask({0, SharedAction::kOwnerDied, thread, 0, 0, 0, 0});
}

void SharedObjects::HostGone(HostId host) {
  if (arbiter_ != nullptr) arbiter_->HostGone(host);
}

void SharedObjects::Close() {
  watch_.Clear();
}

}  // namespace elsewhere::runtime
