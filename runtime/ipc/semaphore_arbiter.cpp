#include "runtime/ipc/semaphore_arbiter.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "shim/wire/semaphore_lease.h"

namespace elsewhere::runtime {

SemaphoreArbiter::SemaphoreArbiter(Agent& agent, Callbacks callbacks)
    : agent_(agent),
      callbacks_(std::move(callbacks)),
      shares_(agent, {.may_take = callbacks_.shares.may_take,
                      .before_return = callbacks_.shares.before_return,
                      .gathered = [this](uint64_t object, uint32_t count) { Gathered(object, count); },
                      .refused =
                          [this](uint64_t object) {
                            if (const auto found = semaphores_.find(object); found != semaphores_.end())
                              found->second.history.Refused();
                          }}),
      news_(agent, [this](uint64_t object, HostId host) { return Look(object, host); }) {
  if (agent.is_home()) {
    agent.OnMessage<wire::SemaphoreRequest>(
        [this](HostId from, wire::SemaphoreRequest&& request) { OnRequest(from, request); });
  } else {
    agent.OnMessage<wire::SemaphoreRequest>(
        [this](HostId, wire::SemaphoreRequest&& order) { OnOrder(order); });
    agent.OnMessage<wire::SemaphoreGrant>([this](HostId, wire::SemaphoreGrant&& grant) {
      unanswered_.erase(RequestOfWait(grant.waiter));
      Learn(grant.now);
      callbacks_.granted(grant.object, grant.waiter);
    });
    agent.OnMessage<wire::SemaphoreAnswer>(
        [this](HostId, wire::SemaphoreAnswer&& answer) { OnAnswer(answer); });
  }
}

void SemaphoreArbiter::Create(uint64_t object, uint32_t count) {
  Ask(Operation::kCreate, object, count, nullptr);
}
void SemaphoreArbiter::Destroy(uint64_t object) {
  Ask(Operation::kDestroy, object, 0, nullptr);
}

void SemaphoreArbiter::Post(uint64_t object, ErrorCallback done) {
  Answer answer;
  if (done) answer = [done = std::move(done)](int error, uint32_t) { done(error); };
  AskToPost(object, 1, std::move(answer));
}

void SemaphoreArbiter::PostTokens(uint64_t object, uint32_t count) {
  if (count > 0) AskToPost(object, count, nullptr);
}

void SemaphoreArbiter::AskToPost(uint64_t object, uint32_t count, Answer answer) {
  if (!agent_.is_home()) {
    posted_[object] += count;
    callbacks_.known(object, 0);
  }
  Ask(Operation::kPost, object, count - 1, std::move(answer));
}

void SemaphoreArbiter::Wait(uint64_t object, uint64_t waiter, Incarnation process, ErrorCallback refused) {
  AskToWait(Operation::kWait, object, waiter, process, std::move(refused));
}

void SemaphoreArbiter::TryWait(uint64_t object, uint64_t waiter, Incarnation process, ErrorCallback refused) {
  AskToWait(Operation::kTryWait, object, waiter, process, std::move(refused));
}

void SemaphoreArbiter::AskToWait(Operation operation, uint64_t object, uint64_t waiter, Incarnation process,
                                 ErrorCallback refused) {
  const wire::SemaphoreRequest asked{RequestOfWait(waiter), operation, object, waiter, process};
  if (agent_.is_home()) {
    if (IsAway(wire::kHome, asked, [this, operation, object, waiter, process, refused] {
          AskToWait(operation, object, waiter, process, refused);
        }))
      return;
    const Outcome outcome = Act(wire::kHome, operation, object, waiter);
    if (outcome.error != 0) refused(outcome.error);
    return Used(wire::kHome, operation, object);
  }
  unanswered_[asked.request] = [refused = std::move(refused)](int error, uint32_t) { refused(error); };
  agent_.Send(wire::kHome, asked);
}

// For a wait that its host tries again, by SemaphoreCalls.
void SemaphoreArbiter::Dismiss(uint64_t waiter) {
  unanswered_.erase(RequestOfWait(waiter));
}

void SemaphoreArbiter::Cancel(uint64_t object, uint64_t waiter, std::function<void(bool removed)> done) {
  Ask(Operation::kCancel, object, waiter, [this, waiter, done = std::move(done)](int, uint32_t removed) {
    if (removed != 0) unanswered_.erase(RequestOfWait(waiter));
    done(removed != 0);
  });
}

void SemaphoreArbiter::GetValue(uint64_t object, std::function<void(int error, int value)> done) {
  Ask(Operation::kGetValue, object, 0,
      [done = std::move(done)](int error, uint32_t value) { done(error, static_cast<int>(value)); });
}

void SemaphoreArbiter::ForgetHost(HostId host) {
  shares_.ForgetHost(host);
  news_.ForgetHost(host);
  std::vector<uint64_t> lost;
  for (auto& [object, semaphore] : semaphores_) {
    std::erase_if(semaphore.waiting, [host](const Waiter& waiter) { return waiter.host == host; });
    std::erase_if(semaphore.held_back, [host](const HeldBack& held) { return held.from == host; });
    if (semaphore.lent && semaphore.lessee == host) lost.push_back(object);
  }
  // It had processes, so the session is ending: nothing is lost but their memory of it.
  for (const uint64_t object : lost) Returned(host, object, 0, true);
}

void SemaphoreArbiter::Ask(Operation operation, uint64_t object, uint64_t argument, Answer answer) {
  if (agent_.is_home()) {
    if (IsAway(wire::kHome, {0, operation, object, argument, 0},
               [this, operation, object, argument, answer] { Ask(operation, object, argument, answer); }))
      return;
    const Outcome outcome = Act(wire::kHome, operation, object, argument);
    if (answer) answer(outcome.error, outcome.value);
    return Used(wire::kHome, operation, object);
  }
  uint64_t request = 0;
  if (answer) {
    request = 2 * ++last_request_;
    unanswered_[request] = std::move(answer);
  }
  agent_.Send(wire::kHome, wire::SemaphoreRequest{request, operation, object, argument, 0});
}

// At home. `from`: the host whose waiter `argument` names.
SemaphoreArbiter::Outcome SemaphoreArbiter::Act(HostId from, Operation operation, uint64_t object,
                                                uint64_t argument, Incarnation process) {
  if (operation == Operation::kCreate) {
    semaphores_[object].count = static_cast<uint32_t>(argument);
    Changed(object);
    return {};
  }
  const auto found = semaphores_.find(object);
  if (found == semaphores_.end()) return {EINVAL, 0};
  Semaphore& semaphore = found->second;
  if (semaphore.shared) return ActOnPart(from, operation, object, argument, process);
  switch (operation) {
    case Operation::kDestroy:
      semaphores_.erase(found);
      news_.Forget(object);
      return {};
    case Operation::kPost: {
      const uint64_t posts = argument + 1;
      if (from != wire::kHome) semaphore.posts[from] += posts;
      const int error = PostAt(object, semaphore, posts);
      Changed(object);
      return {error, 0};
    }
    case Operation::kWait:
    case Operation::kTryWait:
      if (semaphore.count > 0 && !IsDying(process)) {
        --semaphore.count;
        Changed(object);
        Grant({from, argument, process}, object);
      } else if (operation == Operation::kTryWait) {
        return {EAGAIN, 0};
      } else {
        semaphore.waiting.push_back({from, argument, process});
      }
      return {};
    case Operation::kCancel: {
      const auto removed = std::erase_if(semaphore.waiting, [&](const Waiter& waiter) {
        return waiter.host == from && waiter.waiter == argument;
      });
      return {0, static_cast<uint32_t>(removed)};
    }
    case Operation::kGetValue:
      return {0, semaphore.count};
    default:
      return {ENOSYS, 0};
  }
}

int SemaphoreArbiter::PostAt(uint64_t object, Semaphore& semaphore, uint64_t posts) {
  for (; posts > 0; --posts) {
    const auto living = std::find_if(semaphore.waiting.begin(), semaphore.waiting.end(),
                                     [this](const Waiter& waiter) { return !IsDying(waiter.process); });
    if (living == semaphore.waiting.end()) break;
    const Waiter waiter = *living;
    semaphore.waiting.erase(living);
    Grant(waiter, object);
  }
  if (posts > wire::kSemaphoreMaximum - semaphore.count) return EOVERFLOW;
  semaphore.count += static_cast<uint32_t>(posts);
  return 0;
}

// Of a process on a worker. Whoever has reaped it posts knowing that it is dead, and the kernel tells the
// loop so in its own time.
bool SemaphoreArbiter::IsDying(Incarnation process) const {
  const Process* deputy = process != 0 ? agent_.FindProcess(process) : nullptr;
  if (deputy == nullptr) return false;
  pollfd ended{deputy->pidfd, POLLIN, 0};
  return poll(&ended, 1, 0) == 1;
}

void SemaphoreArbiter::Grant(const Waiter& waiter, uint64_t object) {
  if (waiter.host == wire::kHome) return callbacks_.granted(object, waiter.waiter);
  agent_.SendDecided(waiter.host,
                     wire::SemaphoreGrant{object, waiter.waiter, news_.Tell(object, waiter.host)});
}

// ---- What is known of a count

wire::SemaphoreNow SemaphoreArbiter::Look(uint64_t object, HostId host) const {
  const auto found = semaphores_.find(object);
  if (found == semaphores_.end()) return {object, 0, 0};
  const Semaphore& semaphore = found->second;
  const auto posts = semaphore.posts.find(host);
  const bool known = !semaphore.lent && !semaphore.shared && (object & wire::kSemaphoreLarge) == 0;
  return {object, known ? semaphore.count + 1 : 0, posts == semaphore.posts.end() ? 0 : posts->second};
}

void SemaphoreArbiter::Changed(uint64_t object) {
  if ((object & wire::kSemaphoreLarge) != 0) return;
  callbacks_.known(object, Look(object, wire::kHome).known);
  news_.Changed(object);
}

void SemaphoreArbiter::Learn(const wire::SemaphoreNow& now) {
  if (now.object == 0 || (now.object & wire::kSemaphoreLarge) != 0) return;
  const auto posted = posted_.find(now.object);
  const bool counted = (posted == posted_.end() ? 0 : posted->second) == now.posts;
  callbacks_.known(now.object, counted ? now.known : 0);
}

// ---- Large counts

// False: it is to be done now, on home's part, which has what it takes already.
bool SemaphoreArbiter::IsApart(HostId from, const wire::SemaphoreRequest& request,
                               std::function<void()> again) {
  Semaphore& semaphore = semaphores_.at(request.object);
  if (request.operation == Operation::kDestroy) {
    shares_.Forget(request.object);
    semaphore.shared = false;
    return false;
  }
  wire::SemaphoreShare* part = shares_.Part(request.object);
  const bool takes = request.operation == Operation::kWait || request.operation == Operation::kTryWait;
  const bool posts = request.operation == Operation::kPost;
  if (part != nullptr && (!takes || wire::ShareTake(part)) && (!posts || wire::SharePost(part))) return false;
  semaphore.held_back.push_back({from, std::move(again)});
  shares_.Gather(request.object);
  return true;
}

SemaphoreArbiter::Outcome SemaphoreArbiter::ActOnPart(HostId from, Operation operation, uint64_t object,
                                                      uint64_t argument, Incarnation process) {
  int value = 0;
  switch (operation) {
    case Operation::kWait:
    case Operation::kTryWait:
      Grant({from, argument, process}, object);
      return {};
    case Operation::kGetValue:
      wire::ShareGetValue(shares_.Part(object), &value);
      return {0, static_cast<uint32_t>(value)};
    default:
      return {};  // posted; nobody waits to be cancelled
  }
}

void SemaphoreArbiter::ShareOut(HostId from, uint64_t object, Semaphore& semaphore) {
  if (!semaphore.shared) {
    if (!semaphore.waiting.empty()) return;
    if (!shares_.Begin(object, semaphore.count)) return semaphore.history.Refused();
    semaphore.shared = true;
    semaphore.history.Began();
  }
  if (from != wire::kHome && !shares_.Has(object, from) && shares_.Part(object) != nullptr)
    shares_.Give(object, from);
}

void SemaphoreArbiter::Gathered(uint64_t object, uint32_t count) {
  const auto found = semaphores_.find(object);
  if (found == semaphores_.end()) return;
  Semaphore& semaphore = found->second;
  semaphore.shared = false;
  semaphore.count = count;
  semaphore.history.Ended(true);
  ReplayHeldBack(semaphore);
}

// ---- Leases

// True: it is not to be done now. It was made needless, sent after the lease, or is held back until that
// ends.
bool SemaphoreArbiter::IsAway(HostId from, const wire::SemaphoreRequest& request,
                              std::function<void()> again) {
  const auto found = semaphores_.find(request.object);
  if (found == semaphores_.end()) return false;
  if (found->second.shared) return IsApart(from, request, std::move(again));
  if (!found->second.lent) return false;
  Semaphore& semaphore = found->second;
  if (request.operation == Operation::kDestroy) {
    if (semaphore.lessee != wire::kHome) {
      agent_.SendDecided(semaphore.lessee,
                         wire::SemaphoreRequest{0, Operation::kForget, request.object, 0, 0});
    }
    return false;
  }
  if (from == semaphore.lessee && from != wire::kHome && request.operation != Operation::kGetValue) {
    // It has counted them itself.
    if (request.operation == Operation::kPost) semaphore.posts[from] += request.argument + 1;
    const bool answered = request.operation == Operation::kPost || request.operation == Operation::kCancel;
    if (answered && request.request != 0)
      agent_.SendDecided(from, wire::SemaphoreAnswer{request.request, 0, 0, {}});
    return true;
  }
  semaphore.held_back.push_back({from, std::move(again)});
  Recall(request.object, semaphore);
  return true;
}

void SemaphoreArbiter::Recall(uint64_t object, Semaphore& semaphore) {
  if (std::exchange(semaphore.recalled, true)) return;
  if (semaphore.lessee == wire::kHome) return callbacks_.recalled(object);
  agent_.SendDecided(semaphore.lessee, wire::SemaphoreRequest{0, Operation::kRecall, object, 0, 0});
}

void SemaphoreArbiter::Used(HostId from, Operation operation, uint64_t object) {
  const bool counts =
      operation == Operation::kPost || operation == Operation::kWait || operation == Operation::kTryWait;
  const auto found = counts ? semaphores_.find(object) : semaphores_.end();
  if (found == semaphores_.end() || found->second.lent) return;
  Semaphore& semaphore = found->second;
  const bool large = (object & wire::kSemaphoreLarge) != 0;
  if (large) {
    semaphore.history.UsedWithOthers(from);
  } else {
    semaphore.history.Used(from);
  }
  if (!semaphore.history.Deserves(from)) return;
  if (large) return ShareOut(from, object, semaphore);
  if (semaphore.count >= wire::kMostLent) return;
  const bool alone = std::all_of(semaphore.waiting.begin(), semaphore.waiting.end(),
                                 [from](const Waiter& waiter) { return waiter.host == from; });
  if (alone) Lend(from, object, semaphore);
}

void SemaphoreArbiter::Lend(HostId to, uint64_t object, Semaphore& semaphore) {
  semaphore.lent = true;
  semaphore.recalled = false;
  semaphore.lessee = to;
  semaphore.history.Began();
  semaphore.waiting.clear();
  const uint32_t count = std::exchange(semaphore.count, 0);
  Changed(object);
  if (to != wire::kHome) {
    const uint64_t seen = semaphore.posts[to];
    return agent_.SendDecided(to, wire::SemaphoreRequest{0, Operation::kLend, object, count, seen});
  }
  if (!callbacks_.lent(object, count)) Returned(wire::kHome, object, count, true);
}

void SemaphoreArbiter::Return(uint64_t object, uint32_t count) {
  if (agent_.is_home()) return Returned(wire::kHome, object, count, false);
  agent_.Send(wire::kHome, wire::SemaphoreRequest{0, Operation::kReturn, object, count, 0});
}

void SemaphoreArbiter::Returned(HostId from, uint64_t object, uint32_t count, bool refused) {
  const auto found = semaphores_.find(object);
  if (found == semaphores_.end() || !found->second.lent || found->second.lessee != from) return;
  Semaphore& semaphore = found->second;
  semaphore.lent = false;
  semaphore.count = count;
  semaphore.history.Ended(semaphore.recalled);
  if (refused) semaphore.history.Refused();
  Changed(object);
  ReplayHeldBack(semaphore);
}

void SemaphoreArbiter::ReplayHeldBack(Semaphore& semaphore) {
  const std::deque<HeldBack> held_back = std::exchange(semaphore.held_back, {});
  for (const HeldBack& held : held_back) held.again();
}

// What home says about a semaphore that this host has, or had.
void SemaphoreArbiter::OnOrder(const wire::SemaphoreRequest& order) {
  switch (order.operation) {
    case Operation::kLend: {
      // Posts that home had not seen are on their way, and home will leave them to us.
      callbacks_.known(order.object, 0);
      const uint64_t unseen = posted_[order.object] - order.process;
      const auto count = static_cast<uint32_t>(order.argument + unseen);
      if (callbacks_.lent(order.object, count)) return;
      return agent_.Send(wire::kHome, wire::SemaphoreRequest{0, Operation::kReturn, order.object, count, 1});
    }
    case Operation::kRecall:
      return callbacks_.recalled(order.object);
    case Operation::kForget:
      posted_.erase(order.object);
      return callbacks_.forgotten(order.object);
    case Operation::kKnown:
      return Learn({order.object, static_cast<uint32_t>(order.argument), order.process});
    default:
      return agent_.RefuseMessage(wire::kHome, "an order about a semaphore that is none");
  }
}

// ---- Messages

void SemaphoreArbiter::OnRequest(HostId from, const wire::SemaphoreRequest& request) {
  agent_.TakeUnheard();  // what is decided now leaves without them
  if (request.operation == Operation::kReturn) {
    return Returned(from, request.object, static_cast<uint32_t>(request.argument), request.process != 0);
  }
  if (IsAway(from, request, [this, from, request] { OnRequest(from, request); })) return;
  const Outcome outcome = Act(from, request.operation, request.object, request.argument, request.process);
  // A wait that goes well is answered by its grant alone.
  const bool waits = request.operation == Operation::kWait || request.operation == Operation::kTryWait;
  if (request.request != 0 && (!waits || outcome.error != 0)) {
    const bool looked = waits || request.operation == Operation::kGetValue;
    agent_.SendDecided(
        from, wire::SemaphoreAnswer{request.request, outcome.error, outcome.value,
                                    looked ? news_.Tell(request.object, from) : wire::SemaphoreNow{}});
  }
  Used(from, request.operation, request.object);
}

void SemaphoreArbiter::OnAnswer(const wire::SemaphoreAnswer& answer) {
  const auto found = unanswered_.find(answer.request);
  if (found == unanswered_.end()) return;
  const Answer done = std::move(found->second);
  unanswered_.erase(found);
  Learn(answer.now);
  done(answer.error, answer.value);
}

}  // namespace elsewhere::runtime
