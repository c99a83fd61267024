#include "runtime/ipc/semaphore_calls.h"

#include <cerrno>
#include <chrono>
#include <utility>

#include "runtime/ipc/deadline.h"
#include "shim/wire/stream_message.h"

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
      semaphores_(agent, {.granted = [this](uint64_t object, uint64_t waiter) { OnGrant(object, waiter); },
                          .lent = [this](uint64_t object, uint32_t count) { return OnLent(object, count); },
                          .recalled = [this](uint64_t object) { EndLease(object); },
                          .forgotten = [this](uint64_t object) { OnForgotten(object); },
                          .known = [this](uint64_t object, uint32_t known) { Know(object, known); },
                          .shares = {.may_take = [this] { return !processes_.empty(); },
                                     .before_return = [this] { DrainAll(); },
                                     .gathered = {},
                                     .refused = {}}}) {
  agent.OnCall(abi::Operation::kSemPost, [this](CallId id, const Call& call) { Post(id, call); });
  agent.OnCall(abi::Operation::kSemWait, [this](CallId id, const Call& call) { Wait(id, call); });
  agent.OnCall(abi::Operation::kSemTryWait,
               [this](CallId id, const Call& call) { TryWait(id, call, EAGAIN); });
  agent.OnCall(abi::Operation::kSemGetValue,
               [this](CallId id, const Call& call) { GetValue(id, ObjectOf(call)); });
  agent.OnCall(abi::Operation::kSemSettle, [this](CallId id, const Call& call) { Settle(id, call); });
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
  OnForgotten(object);
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
  const auto post = [this, id, call, object = ObjectOf(call)] {
    if (IsLeaving(object, call, [this, id, call] { Post(id, call); })) return;
    if (call.arguments[1] != 0) ++done_[object];
    if (PostLent(id, object)) return;
    if (CanOverflow(object) || IsFarAhead()) {
      semaphores_.Post(object, [this, id](int error) { agent_.Complete(id, error == 0 ? 0 : -1, error); });
    } else {
      semaphores_.Post(object, nullptr);
      agent_.Complete(id, 0);
    }
  };
  const Process* poster = agent_.FindKernelPid(call.kernel_pid);
  if (poster != nullptr) return agent_.DrainCaller(id, call, *poster, post);
  publish_();
  post();
}

void SemaphoreCalls::Wait(CallId id, const Call& call) {
  if (IsLeaving(ObjectOf(call), call, [this, id, call] { Wait(id, call); })) return;
  if (Lent(ObjectOf(call)) != nullptr || HasTokens(ObjectOf(call)))
    return agent_.Complete(id, wire::kTryAgain);
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
  if (IsLeaving(ObjectOf(call), call, [this, id, call, busy_error] { TryWait(id, call, busy_error); }))
    return;
  if (Lent(ObjectOf(call)) != nullptr || HasTokens(ObjectOf(call)))
    return agent_.Complete(id, wire::kTryAgain);
  const uint64_t waiter = AddWaiter(id, call);
  semaphores_.TryWait(ObjectOf(call), waiter, call.incarnation, [this, waiter, busy_error](int error) {
    Refuse(waiter, error == EAGAIN ? busy_error : error);
  });
}

void SemaphoreCalls::GetValue(CallId id, uint64_t object) {
  int count = 0;
  const wire::Semaphore* lent = Lent(object);
  if (lent != nullptr && wire::SemaphoreGetValue(lent, &count)) return agent_.Complete(id, count);
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
  if (waited.dead) return PostAgain(object);
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

// ---- Leases

wire::Semaphore* SemaphoreCalls::Lent(uint64_t object) {
  return lent_.contains(object) ? wire::LeaseCell<wire::Semaphore>(&agent_.table(), object) : nullptr;
}

// By a caller that found it not lent, or with so many posts that overflow is near: that is home's to say.
bool SemaphoreCalls::PostLent(CallId id, uint64_t object) {
  if (wire::SemaphoreShare* part = semaphores_.Part(object); part != nullptr && wire::SharePost(part)) {
    agent_.Complete(id, 0);
    return true;
  }
  wire::Semaphore* lent = Lent(object);
  int count = 0;
  if (lent == nullptr || !wire::SemaphoreGetValue(lent, &count)) return false;
  if (static_cast<uint32_t>(count) >= wire::kMostLent) {
    EndLease(object);
    return false;
  }
  wire::SemaphorePost(lent);
  agent_.Complete(id, 0);
  return true;
}

bool SemaphoreCalls::OnLent(uint64_t object, uint32_t count) {
  wire::Semaphore* cell = wire::LeaseCell<wire::Semaphore>(&agent_.table(), object);
  // On a worker without processes nobody would be there to give it back for.
  const bool taken = (agent_.is_home() || !processes_.empty()) && wire::TakeLease(cell, object, count);
  if (taken) lent_.insert(object);
  std::vector<uint64_t> waiting;
  for (const auto& [waiter, what] : waiters_) {
    if (what.object == object) waiting.push_back(waiter);
  }
  for (const uint64_t waiter : waiting) {
    const Waiter waited = waiters_.at(waiter);
    Forget(waiter);
    semaphores_.Dismiss(waiter);
    if (!waited.dead) agent_.Complete(waited.call, wire::kTryAgain);
  }
  return taken;
}

void SemaphoreCalls::EndLease(uint64_t object) {
  if (lent_.erase(object) == 0) return;  // it is on its way home
  wire::Semaphore* cell = wire::LeaseCell<wire::Semaphore>(&agent_.table(), object);
  const uint32_t count = wire::EndLease(cell);
  DrainAll();
  const int32_t poster = wire::UnsentBy(wire::UnsentOf(cell)->exchange(0));
  const uint64_t wrote = wire::WroteOf(cell)->exchange(0);
  std::set<wire::StreamId>& ahead = ahead_[object];
  const Process* process = poster != 0 ? agent_.FindKernelPid(poster) : nullptr;
  ++leaving_[object].leases;
  const auto await = [this, object, count] { AwaitAhead(object, count); };
  if (process == nullptr) return await();
  agent_.Drain(*process, {.wrote = wrote, .ahead = &ahead}, await);
}

// Whoever asks for it elsewhere may not want to wait (sem_trywait), and be the one that would read: Python
// tries with its interpreter's lock held. Where no room can be made, natively the posters would still be at
// their writes: so the lease ends without their tokens, which follow.
void SemaphoreCalls::AwaitAhead(uint64_t object, uint32_t count) {
  agent_.AwaitIn(ahead_[object], wire::Patience::kRoom, [this, object, count](bool in) {
    semaphores_.Return(object, in ? count : 0);
    if (in) return Left(object);
    agent_.AwaitIn(ahead_[object], wire::Patience::kLong, [this, object, count](bool) {
      if (!leaving_.at(object).forgotten) PostTokens(object, count);
      Left(object);
    });
  });
}

void SemaphoreCalls::Left(uint64_t object) {
  const auto found = leaving_.find(object);
  if (--found->second.leases > 0) return;
  const auto left = leaving_.extract(found);
  if (!lent_.contains(object)) ahead_.erase(object);
  for (const auto& again : left.mapped().asked) again();
  if (!leaving_.empty()) return;
  for (const auto& done : std::exchange(when_left_, {})) done();
}

// The dead ask for nothing, but what they posted is posted.
bool SemaphoreCalls::IsLeaving(uint64_t object, const Call& call, std::function<void()> again) {
  const auto found = leaving_.find(object);
  if (found == leaving_.end()) return false;
  found->second.asked.push_back([this, call, again = std::move(again)] {
    if (call.operation == abi::Operation::kSemPost || agent_.FindKernelPid(call.kernel_pid) != nullptr)
      again();
  });
  return true;
}

// Somebody has got a token. Posts that come meanwhile change the word.
void SemaphoreCalls::Settle(CallId id, const Call& call) {
  if (IsLeaving(ObjectOf(call), call, [this, id] { agent_.Complete(id, 0); })) return;
  wire::Semaphore* lent = Lent(ObjectOf(call));
  if (lent == nullptr) return agent_.Complete(id, 0);
  const uint64_t unsent = wire::UnsentOf(lent)->load();
  const uint64_t wrote = wire::WroteOf(lent)->load();
  const Process* process = agent_.FindKernelPid(wire::UnsentBy(unsent));
  const auto settled = [this, id, lent, unsent, wrote] {
    wire::SettleUnsent(lent, unsent, wrote);
    agent_.Complete(id, 0);
  };
  if (process == nullptr) return settled();
  agent_.Drain(*process, {.wrote = wrote, .ahead = &ahead_[ObjectOf(call)]}, settled);
}

// Its bytes are sent with its end, but need not be in when somebody elsewhere gets what it has posted.
void SemaphoreCalls::ProcessEnding(const Process& process) {
  for (const uint64_t object : lent_) {
    wire::Semaphore* cell = wire::LeaseCell<wire::Semaphore>(&agent_.table(), object);
    if (wire::UnsentBy(wire::UnsentOf(cell)->load()) != process.kernel_pid) continue;
    agent_.Drain(process, {.wrote = wire::WroteOf(cell)->load(), .ahead = &ahead_[object]}, [] {});
  }
}

void SemaphoreCalls::DrainAll() {
  for (const int32_t pid : processes_) {
    if (const Process* process = agent_.FindKernelPid(pid)) agent_.Drain(*process, {}, [] {});
  }
}

// Of a large count.
bool SemaphoreCalls::HasTokens(uint64_t object) {
  const wire::SemaphoreShare* part = semaphores_.Part(object);
  return part != nullptr && wire::ShareLook(part).count > 0;
}

void SemaphoreCalls::PostAgain(uint64_t object) {
  if (const auto found = leaving_.find(object); found != leaving_.end())
    return found->second.asked.push_back([this, object] { PostAgain(object); });
  PostTokens(object, 1);
}

void SemaphoreCalls::PostTokens(uint64_t object, uint32_t count) {
  wire::Semaphore* lent = Lent(object);
  if (lent == nullptr) return semaphores_.PostTokens(object, count);
  for (; count > 0; --count) wire::SemaphorePost(lent);
}

// Posts that are counted in the cell have all been made where the cell says so (semaphore_lease.h).
void SemaphoreCalls::Know(uint64_t object, uint32_t known) {
  if (lent_.contains(object) || leaving_.contains(object)) return;
  wire::Semaphore* cell = wire::LeaseCell<wire::Semaphore>(&agent_.table(), object);
  const auto done = done_.find(object);
  if (wire::ClaimCell(cell, object)) wire::Know(cell, known, done == done_.end() ? 0 : done->second);
}

void SemaphoreCalls::OnForgotten(uint64_t object) {
  if ((object & wire::kSemaphoreLarge) != 0) return;  // SemaphoreShares'
  if (const auto found = leaving_.find(object); found != leaving_.end()) found->second.forgotten = true;
  done_.erase(object);
  wire::Semaphore* cell = wire::LeaseCell<wire::Semaphore>(&agent_.table(), object);
  if (cell->object.load() != object) return;
  lent_.erase(object);
  ahead_.erase(object);
  wire::EndLease(cell);
  cell->object.store(0);
}

// What it may have lent must not be this worker's when nobody of the session is here.
void SemaphoreCalls::ProcessEnded(int32_t kernel_pid, std::function<void()> done) {
  if (processes_.erase(kernel_pid) == 0 || !processes_.empty()) return done();
  const std::vector<uint64_t> objects(lent_.begin(), lent_.end());
  for (const uint64_t object : objects) EndLease(object);
  semaphores_.ReturnParts();
  if (leaving_.empty()) return done();
  when_left_.push_back(std::move(done));
}

void SemaphoreCalls::ProcessGone(int32_t kernel_pid) {
  ProcessEnded(kernel_pid, [] {});
  // It may have died between being woken and taking what it was woken for.
  for (const uint64_t object : lent_)
    wire::SemaphoreWakeAll(wire::LeaseCell<wire::Semaphore>(&agent_.table(), object));
  const auto found = given_.find(kernel_pid);
  if (found == given_.end()) return;
  for (const Given& given : found->second) {
    if (IsUntaken(kernel_pid, given)) PostAgain(given.object);
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
