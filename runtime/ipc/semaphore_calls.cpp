#include "runtime/ipc/semaphore_calls.h"

#include <cerrno>
#include <chrono>
#include <utility>

#include "runtime/ipc/deadline.h"

namespace elsewhere::runtime {
namespace {

uint64_t Key(CallId id) {
  return static_cast<uint64_t>(id.slot) << 32 | id.generation;
}
uint64_t ObjectOf(const Call& call) {
  return static_cast<uint64_t>(call.arguments[0]);
}

}  // namespace

SemaphoreCalls::SemaphoreCalls(Agent& agent, std::function<void()> publish)
    : agent_(agent),
      publish_(std::move(publish)),
      semaphores_(agent, [this](uint64_t object, uint64_t waiter) { OnGrant(object, waiter); }) {
  agent.OnCall(abi::Operation::kSemPost, [this](CallId id, const Call& call) { Post(id, call); });
  agent.OnCall(abi::Operation::kSemWait, [this](CallId id, const Call& call) { Wait(id, call); });
  agent.OnCall(abi::Operation::kSemTryWait,
               [this](CallId id, const Call& call) { TryWait(id, call, EAGAIN); });
  agent.OnCall(abi::Operation::kSemGetValue,
               [this](CallId id, const Call& call) { GetValue(id, ObjectOf(call)); });
  agent.OnCall(abi::Operation::kSemDestroy, [this](CallId id, const Call& call) {
    Destroy(ObjectOf(call));
    agent_.Complete(id, 0);
  });
}

void SemaphoreCalls::Create(uint64_t object, uint32_t count) {
  semaphores_.Create(object, count);
}

void SemaphoreCalls::Destroy(uint64_t object) {
  posts_.erase(object);
  semaphores_.Destroy(object);
}

bool SemaphoreCalls::CanOverflow(uint64_t object) {
  if ((object & wire::kSemaphoreLarge) != 0) return true;
  const uint32_t posts = ++posts_[object];
  // Posts that nobody waits for may be on their way, one for each slot at most.
  if (posts > kPostsUnasked / 2) agent_.table().header.hear_posts.store(1, std::memory_order_relaxed);
  return posts > kPostsUnasked;
}

bool SemaphoreCalls::IsFarAhead() {
  return !agent_.is_home() && ++unasked_ % kPostsAhead == 0;
}

void SemaphoreCalls::Post(CallId id, const Call& call) {
  const auto post = [this, id, object = ObjectOf(call)] {
    if (CanOverflow(object) || IsFarAhead()) {
      semaphores_.Post(object, [this, id](int error) { agent_.Complete(id, error == 0 ? 0 : -1, error); });
    } else {
      semaphores_.Post(object, nullptr);
      agent_.Complete(id, 0);
    }
  };
  const Process* poster = agent_.FindKernelPid(call.kernel_pid);
  if (poster != nullptr) return agent_.Drain(*poster, {}, post);
  publish_();
  post();
}

void SemaphoreCalls::Wait(CallId id, const Call& call) {
  const int64_t clock = call.arguments[1];
  const auto left = clock < 0 ? std::chrono::nanoseconds::max()
                              : Until(static_cast<clockid_t>(clock), call.arguments[2], call.arguments[3]);
  if (left <= std::chrono::nanoseconds::zero()) return TryWait(id, call, ETIMEDOUT);
  const uint64_t waiter = AddWaiter(id, call);
  semaphores_.Wait(ObjectOf(call), waiter, call.incarnation,
                   [this, waiter](int error) { Refuse(waiter, error); });
  if (clock >= 0 && waiters_.contains(waiter)) {
    waiters_[waiter].timer = agent_.loop().After(left, [this, waiter] {
      if (const auto found = waiters_.find(waiter); found != waiters_.end()) found->second.timer = 0;
      Cancel(waiter, ETIMEDOUT);
    });
  }
}

void SemaphoreCalls::TryWait(CallId id, const Call& call, int busy_error) {
  const uint64_t waiter = AddWaiter(id, call);
  semaphores_.TryWait(ObjectOf(call), waiter, call.incarnation, [this, waiter, busy_error](int error) {
    Refuse(waiter, error == EAGAIN ? busy_error : error);
  });
}

void SemaphoreCalls::GetValue(CallId id, uint64_t object) {
  semaphores_.GetValue(
      object, [this, id](int error, int value) { agent_.Complete(id, error == 0 ? value : -1, error); });
}

uint64_t SemaphoreCalls::AddWaiter(CallId id, const Call& call) {
  const uint64_t waiter = ++last_waiter_;
  waiters_[waiter] = Waiter{.call = id, .process = call.kernel_pid, .object = ObjectOf(call)};
  by_call_[Key(id)] = waiter;
  return waiter;
}

void SemaphoreCalls::Refuse(uint64_t waiter, int error) {
  const auto found = waiters_.find(waiter);
  if (found == waiters_.end()) return;
  const CallId call = found->second.call;
  const bool dead = found->second.dead;
  Forget(waiter);
  if (!dead) agent_.Complete(call, -1, error);
}

void SemaphoreCalls::Cancel(uint64_t waiter, int error) {
  const auto found = waiters_.find(waiter);
  if (found == waiters_.end() || found->second.cancelled) return;
  found->second.cancelled = true;
  semaphores_.Cancel(found->second.object, waiter, [this, waiter, error](bool removed) {
    if (removed) Refuse(waiter, error);
  });
}

void SemaphoreCalls::Forget(uint64_t waiter) {
  const auto found = waiters_.find(waiter);
  if (found->second.timer != 0) agent_.loop().Cancel(found->second.timer);
  by_call_.erase(Key(found->second.call));
  waiters_.erase(found);
}

void SemaphoreCalls::OnGrant(uint64_t object, uint64_t waiter) {
  const auto found = waiters_.find(waiter);
  if (found == waiters_.end()) return agent_.Fatal("semaphores: a grant for a waiter that does not exist");
  const Waiter waited = found->second;
  Forget(waiter);
  if (waited.dead) return semaphores_.Post(object, nullptr);
  agent_.Complete(waited.call, 0);
  if (agent_.FindKernelPid(waited.process) == nullptr) return;
  // One thread waits for one semaphore at a time: what it has found leaves the list by its next wait.
  auto& given = given_[waited.process];
  std::erase_if(given, [&](const Given& each) { return !IsUntaken(waited.process, each); });
  given.push_back({waited.call.slot, object});
}

bool SemaphoreCalls::IsUntaken(int32_t process, const Given& given) const {
  const abi::Slot& slot = agent_.table().slots[given.slot];
  const auto operation = static_cast<abi::Operation>(slot.operation);
  return slot.state.load(std::memory_order_acquire) == static_cast<uint32_t>(abi::SlotState::kDone) &&
         slot.owner == process && slot.result == 0 &&
         static_cast<uint64_t>(slot.arguments[0]) == given.object &&
         (operation == abi::Operation::kSemWait || operation == abi::Operation::kSemTryWait);
}

void SemaphoreCalls::ProcessGone(int32_t kernel_pid) {
  const auto found = given_.find(kernel_pid);
  if (found == given_.end()) return;
  for (const Given& given : found->second) {
    if (IsUntaken(kernel_pid, given)) semaphores_.Post(given.object, nullptr);
  }
  given_.erase(found);
}

void SemaphoreCalls::CallDropped(CallId id) {
  const auto found = by_call_.find(Key(id));
  if (found == by_call_.end()) return;
  const uint64_t waiter = found->second;
  waiters_[waiter].dead = true;
  Cancel(waiter, ECANCELED);
}

void SemaphoreCalls::CallCancelled(CallId id) {
  if (const auto found = by_call_.find(Key(id)); found != by_call_.end()) Cancel(found->second, EINTR);
}

void SemaphoreCalls::HostGone(HostId host) {
  if (agent_.is_home()) semaphores_.ForgetHost(host);
}

}  // namespace elsewhere::runtime
