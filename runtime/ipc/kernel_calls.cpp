// A call is sent once, by the agent, when all its pieces are here; its result ends it. A signal asks home to
// end the wait; the result is waited for all the same, so what was done is never reported as not done. What
// could release another process (a message, a semaphore operation) leaves behind what its caller wrote
// before: streams are drained first, shared memory goes before every message of the agent.
#include "runtime/ipc/kernel_calls.h"

#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <unordered_map>
#include <utility>

#include "runtime/ipc/lent_queues.h"
#include "runtime/ipc/queue_stand_ins.h"
#include "runtime/ipc/sending_right.h"
#include "shim/wire/kernel_message.h"

namespace elsewhere::runtime {
namespace {

// Of one process, by the caller's own number.
using CallKey = std::pair<int32_t, int64_t>;

bool Releases(int64_t number) {
  return number == SYS_mq_timedsend || number == SYS_msgsnd || number == SYS_semtimedop;
}

class KernelCalls final : public Component {
 public:
  explicit KernelCalls(Agent& agent) : agent_(agent), lent_(agent) {
    if (agent.is_home()) return;
    QueueStandIns::RaiseLimits();
    agent.OnCall(abi::Operation::kKernelData, [this](CallId id, const Call& call) { OnData(id, call); });
    agent.OnCall(abi::Operation::kKernelCall, [this](CallId id, const Call& call) { OnCall(id, call); });
    agent.OnCall(abi::Operation::kKernelFetch, [this](CallId id, const Call& call) { OnFetch(id, call); });
    agent.OnMessage<wire::KernelResult>(
        [this](HostId, wire::KernelResult&& result) { OnResult(std::move(result)); });
    agent.OnMessage<wire::QueueRightEnd>([this](HostId, wire::QueueRightEnd&& order) {
      rights_.End(order.right);
      agent_.Send(wire::kHome, order);
    });
    agent.OnMessage<wire::KernelEvent>([this](HostId, wire::KernelEvent&& event) {
      if (event.state == abi::kQueueNotified) return queues_.Notified(event.incarnation, event.descriptor);
      queues_.Changed(event.incarnation, event.descriptor, event.state);
    });
  }

  void CallCancelled(CallId id) override;
  void CallDropped(CallId id) override;
  void ProcessStarted(const Process& process, const Process* /*parent*/) override {
    lent_.ProcessStarted(process.incarnation);
  }
  void Drain(const Process& process, DrainReason reason, std::function<void()> done) override {
    if (reason.ended && !agent_.is_home()) lent_.ProcessEnded(process.incarnation);
    done();
  }
  void ProcessGone(const Process& process) override;
  void SessionEnding() override {
    pending_.clear();
    queues_.Clear();
    lent_.Clear();
    rights_.Clear();
  }

 private:
  struct Pending {
    CallId call;
    Incarnation incarnation = 0;
    CallKey key;
    int64_t bulk = -1;
    int64_t number = 0;
    int32_t descriptor = -1;
    bool sent = false;
  };

  // The piece that a call brings; false: it is answered with an error.
  bool Append(CallId id, const Call& call, std::vector<uint8_t>& to);
  void OnData(CallId id, const Call& call);
  void OnCall(CallId id, const Call& call);
  void OnFetch(CallId id, const Call& call);
  bool SendUnheard(uint64_t request, std::span<const uint8_t> bytes);
  void OnResult(wire::KernelResult&& result);
  void SayWhereItIs(wire::KernelResult& result) const;
  void Answer(const Pending& pending, int64_t result, std::vector<uint8_t>&& answer);
  std::unordered_map<uint64_t, Pending>::iterator FindCall(CallId id) {
    return std::find_if(pending_.begin(), pending_.end(),
                        [id](const auto& item) { return item.second.call == id; });
  }
  void Erase(std::unordered_map<uint64_t, Pending>::iterator pending) {
    if (pending->second.sent && pending->second.number == SYS_mq_timedsend) --sends_;
    pending_.erase(pending);
  }
  bool OwnsBulk(int32_t pid, int64_t bulk) const {
    return bulk >= 0 && bulk < abi::kBulkCount && agent_.table().bulks[bulk].owner.load() == pid;
  }

  Agent& agent_;
  QueueStandIns queues_;
  LentQueues lent_;
  SendingRights rights_;
  int sends_ = 0;  // to queues, that are on their way and take up room that a right does not know of
  std::map<CallKey, std::vector<uint8_t>> given_;    // calls of which pieces are here
  std::map<CallKey, std::vector<uint8_t>> answers_;  // that are being fetched
  std::unordered_map<uint64_t, Pending> pending_;
  uint64_t last_id_ = 0;
};

bool KernelCalls::Append(CallId id, const Call& call, std::vector<uint8_t>& to) {
  const auto size = static_cast<uint64_t>(call.arguments[1]);
  const uint8_t* bytes = call.payload.data();
  uint64_t room = call.payload.size();
  if (call.arguments[0] >= 0) {
    if (!OwnsBulk(call.kernel_pid, call.arguments[0])) return agent_.Complete(id, -1, EPROTO), false;
    bytes = agent_.table().bulks[call.arguments[0]].bytes;
    room = abi::kBulkBytes;
  }
  if (size > room || to.size() + size > sizeof(abi::KernelCall) + abi::kMostKernelMemory) {
    return agent_.Complete(id, -1, EPROTO), false;
  }
  to.insert(to.end(), bytes, bytes + size);
  return true;
}

void KernelCalls::OnData(CallId id, const Call& call) {
  if (Append(id, call, given_[{call.kernel_pid, call.arguments[2]}])) agent_.Complete(id, 0);
}

void KernelCalls::OnCall(CallId id, const Call& call) {
  const CallKey key{call.kernel_pid, call.arguments[2]};
  std::vector<uint8_t> bytes;
  if (const auto given = given_.find(key); given != given_.end()) {
    bytes = std::move(given->second);
    given_.erase(given);
  }
  if (!Append(id, call, bytes)) return;
  const auto head = wire::CheckKernelCall(bytes);
  if (!head) return agent_.Complete(id, -1, EPROTO);
  const Process* process = agent_.FindKernelPid(call.kernel_pid);
  if (process == nullptr || process->incarnation == 0) return agent_.Complete(id, -1, ESRCH);

  Pending pending;
  pending.call = id;
  pending.incarnation = process->incarnation;
  pending.key = key;
  pending.bulk = call.arguments[0];
  pending.number = head->number;
  pending.descriptor = static_cast<int32_t>(head->arguments[0]);
  const uint64_t request = ++last_id_;
  pending_[request] = pending;
  auto send = [this, request, incarnation = process->incarnation, bytes = std::move(bytes)]() mutable {
    const auto found = pending_.find(request);
    if (found == pending_.end()) return;  // called off meanwhile
    if (SendUnheard(request, bytes)) return;
    found->second.sent = true;
    if (found->second.number == SYS_mq_timedsend) ++sends_;
    agent_.Send(wire::kHome, wire::KernelCall{incarnation, request, std::move(bytes)});
  };
  // What opens, closes and copies descriptors.
  if (head->number >= static_cast<int64_t>(abi::DeputyCall::kOpenQueue)) rights_.Forget(process->incarnation);
  if (Releases(head->number)) return agent_.DrainCaller(id, call, *process, std::move(send));
  send();
}

// True: it needs no answer of home's, and is done.
bool KernelCalls::SendUnheard(uint64_t request, std::span<const uint8_t> bytes) {
  const Pending pending = pending_.at(request);
  if (pending.number != SYS_mq_timedsend || sends_ > 0) return false;
  abi::KernelCall call;
  std::memcpy(&call, bytes.data(), sizeof call);
  const auto message = rights_.Use(pending.incarnation, call, bytes.subspan(sizeof call));
  if (!message) return false;
  pending_.erase(request);
  agent_.Send(wire::kHome, *message);
  Answer(pending, 0, {});
  return true;
}

void KernelCalls::OnResult(wire::KernelResult&& result) {
  rights_.Learn(result.rooms);
  const auto found = pending_.find(result.id);
  if (found == pending_.end()) return;
  const Pending pending = found->second;
  Erase(found);
  rights_.Learn(pending.incarnation, pending.descriptor, result.right);
  const Process* process = agent_.FindProcess(pending.incarnation);
  if (result.result == abi::kQueueLent) SayWhereItIs(result);
  if (process != nullptr && result.result >= 0) {
    if (pending.number == static_cast<int64_t>(abi::DeputyCall::kWatchQueue))
      queues_.Watch(*process, pending.descriptor, static_cast<uint32_t>(result.result));
    if (pending.number == static_cast<int64_t>(abi::DeputyCall::kClose))
      queues_.Closed(pending.incarnation, pending.descriptor);
  }
  Answer(pending, result.result, std::move(result.answer));
}

// A queue that is lent to this host, if it has not gone home meanwhile.
void KernelCalls::SayWhereItIs(wire::KernelResult& result) const {
  abi::LentQueue queue{};
  if (result.answer.size() == sizeof queue) std::memcpy(&queue, result.answer.data(), sizeof queue);
  if (!lent_.Find(queue.lease, &queue)) result.result = abi::kQueueAgain;
  std::memcpy(result.answer.data(), &queue, result.answer.size() == sizeof queue ? sizeof queue : 0);
}

void KernelCalls::Answer(const Pending& pending, int64_t result, std::vector<uint8_t>&& answer) {
  if (result < 0 && result > -4096) return agent_.Complete(pending.call, -1, static_cast<int>(-result));
  const auto size = static_cast<uint32_t>(answer.size());
  std::vector<uint8_t> payload(sizeof size);
  std::memcpy(payload.data(), &size, sizeof size);
  uint32_t sent = 0;
  if (OwnsBulk(pending.key.first, pending.bulk)) {
    sent = std::min(size, abi::kBulkBytes);
    std::copy_n(answer.begin(), sent, agent_.table().bulks[pending.bulk].bytes);
  } else {
    sent = std::min<uint32_t>(size, abi::kSlotPayload - sizeof size);
    payload.insert(payload.end(), answer.begin(), answer.begin() + sent);
  }
  if (sent < size) answers_[pending.key] = std::move(answer);
  agent_.Complete(pending.call, result, 0, payload);
}

void KernelCalls::OnFetch(CallId id, const Call& call) {
  const auto found = answers_.find({call.kernel_pid, call.arguments[2]});
  const auto at = static_cast<uint64_t>(call.arguments[1]);
  if (found == answers_.end() || at > found->second.size()) return agent_.Complete(id, -1, EPROTO);
  const std::span<const uint8_t> rest = std::span<const uint8_t>(found->second).subspan(at);
  const bool bulk = OwnsBulk(call.kernel_pid, call.arguments[0]);
  const std::span<const uint8_t> piece =
      rest.first(std::min<size_t>(rest.size(), bulk ? abi::kBulkBytes : abi::kSlotPayload));
  if (bulk) std::copy(piece.begin(), piece.end(), agent_.table().bulks[call.arguments[0]].bytes);
  agent_.Complete(id, static_cast<int64_t>(piece.size()), 0, bulk ? std::span<const uint8_t>() : piece);
  if (piece.size() == rest.size()) answers_.erase(found);
}

void KernelCalls::CallCancelled(CallId id) {
  const auto found = FindCall(id);
  if (found == pending_.end()) return;
  if (found->second.sent) {
    return agent_.Send(wire::kHome, wire::KernelCancel{found->second.incarnation, found->first});
  }
  pending_.erase(found);
  agent_.Complete(id, -1, EINTR);
}

void KernelCalls::CallDropped(CallId id) {
  const auto found = FindCall(id);
  if (found != pending_.end()) Erase(found);
}

void KernelCalls::ProcessGone(const Process& process) {
  const auto of_process = [&process](const auto& item) { return item.first.first == process.kernel_pid; };
  std::erase_if(given_, of_process);
  std::erase_if(answers_, of_process);
  queues_.ProcessGone(process.incarnation);
  rights_.Forget(process.incarnation);
  for (abi::Bulk& bulk : agent_.table().bulks) {
    int32_t owner = process.kernel_pid;
    bulk.owner.compare_exchange_strong(owner, 0);
  }
}

}  // namespace

std::unique_ptr<Component> MakeKernelCalls(Agent& agent) {
  return std::make_unique<KernelCalls>(agent);
}

}  // namespace elsewhere::runtime
