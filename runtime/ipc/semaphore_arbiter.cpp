#include "runtime/ipc/semaphore_arbiter.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "shim/wire/semaphore.h"

namespace elsewhere::runtime {

SemaphoreArbiter::SemaphoreArbiter(Agent& agent, GrantCallback granted)
    : agent_(agent), granted_(std::move(granted)) {
  if (agent.is_home()) {
    agent.OnMessage<wire::SemaphoreRequest>(
        [this](HostId from, wire::SemaphoreRequest&& request) { OnRequest(from, request); });
  } else {
    agent.OnMessage<wire::SemaphoreGrant>([this](HostId, wire::SemaphoreGrant&& grant) {
      unanswered_.erase(RequestOfWait(grant.waiter));
      granted_(grant.object, grant.waiter);
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
  Ask(Operation::kPost, object, 0, std::move(answer));
}

void SemaphoreArbiter::Wait(uint64_t object, uint64_t waiter, Incarnation process, ErrorCallback refused) {
  AskToWait(Operation::kWait, object, waiter, process, std::move(refused));
}

void SemaphoreArbiter::TryWait(uint64_t object, uint64_t waiter, Incarnation process, ErrorCallback refused) {
  AskToWait(Operation::kTryWait, object, waiter, process, std::move(refused));
}

void SemaphoreArbiter::AskToWait(Operation operation, uint64_t object, uint64_t waiter, Incarnation process,
                                 ErrorCallback refused) {
  if (agent_.is_home()) {
    const Outcome outcome = Act(wire::kHome, operation, object, waiter);
    if (outcome.error != 0) refused(outcome.error);
    return;
  }
  const uint64_t request = RequestOfWait(waiter);
  unanswered_[request] = [refused = std::move(refused)](int error, uint32_t) { refused(error); };
  agent_.Send(wire::kHome, wire::SemaphoreRequest{request, operation, object, waiter, process});
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
  for (auto& [object, semaphore] : semaphores_) {
    std::erase_if(semaphore.waiting, [host](const Waiter& waiter) { return waiter.host == host; });
  }
}

void SemaphoreArbiter::Ask(Operation operation, uint64_t object, uint64_t argument, Answer answer) {
  if (agent_.is_home()) {
    const Outcome outcome = Act(wire::kHome, operation, object, argument);
    if (answer) answer(outcome.error, outcome.value);
    return;
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
    return {};
  }
  const auto found = semaphores_.find(object);
  if (found == semaphores_.end()) return {EINVAL, 0};
  Semaphore& semaphore = found->second;
  switch (operation) {
    case Operation::kDestroy:
      semaphores_.erase(found);
      return {};
    case Operation::kPost:
      return {PostAt(object, semaphore), 0};
    case Operation::kWait:
    case Operation::kTryWait:
      if (semaphore.count > 0 && !IsDying(process)) {
        --semaphore.count;
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

int SemaphoreArbiter::PostAt(uint64_t object, Semaphore& semaphore) {
  const auto living = std::find_if(semaphore.waiting.begin(), semaphore.waiting.end(),
                                   [this](const Waiter& waiter) { return !IsDying(waiter.process); });
  if (living != semaphore.waiting.end()) {
    const Waiter waiter = *living;
    semaphore.waiting.erase(living);
    Grant(waiter, object);
    return 0;
  }
  if (semaphore.count == wire::kSemaphoreMaximum) return EOVERFLOW;
  ++semaphore.count;
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
  if (waiter.host == wire::kHome) return granted_(object, waiter.waiter);
  agent_.Send(waiter.host, wire::SemaphoreGrant{object, waiter.waiter});
}

void SemaphoreArbiter::OnRequest(HostId from, const wire::SemaphoreRequest& request) {
  const Outcome outcome = Act(from, request.operation, request.object, request.argument, request.process);
  // A wait that goes well is answered by its grant alone.
  const bool waits = request.operation == Operation::kWait || request.operation == Operation::kTryWait;
  if (request.request == 0 || (waits && outcome.error == 0)) return;
  agent_.Send(from, wire::SemaphoreAnswer{request.request, outcome.error, outcome.value});
}

void SemaphoreArbiter::OnAnswer(const wire::SemaphoreAnswer& answer) {
  const auto found = unanswered_.find(answer.request);
  if (found == unanswered_.end()) return;
  const Answer done = std::move(found->second);
  unanswered_.erase(found);
  done(answer.error, answer.value);
}

}  // namespace elsewhere::runtime
