// Calls of home's kernel with memory, made by deputies. Rules in deputies.h; why deputies:
// preload/proxy/README.md.
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <vector>

#include "runtime/deputies.h"
#include "runtime/ipc/queue_try.h"

namespace elsewhere::runtime {
namespace {

// The block of memory of a call, with the bytes that are given.
Result<store::UniqueFd> MakeMemory(const abi::KernelCall& call, std::span<const uint8_t> data) {
  store::UniqueFd memory(memfd_create("elsewhere-call", MFD_CLOEXEC));
  if (!memory || ftruncate(memory.get(), call.memory) != 0) return Error{ENOMEM, "memory of a kernel call"};
  if (pwrite(memory.get(), data.data(), data.size(), 0) != static_cast<ssize_t>(data.size())) {
    return Error{ENOMEM, "memory of a kernel call"};
  }
  return memory;
}

// How many have a segment attached, without the agent that shares it with other hosts. Asked anew: since the
// deputy asked, the agent may have attached it, or let it go.
void CountWithoutAgent(const abi::TableHeader& header, const abi::KernelCall& call,
                       std::vector<uint8_t>& answer) {
  const auto id = static_cast<int>(call.arguments[0]);
  shmid_ds now{};
  if (call.arguments[1] != IPC_STAT || answer.size() != sizeof now || shmctl(id, IPC_STAT, &now) != 0) return;
  const bool listed = std::any_of(std::begin(header.attached_segments), std::end(header.attached_segments),
                                  [id](const auto& entry) { return entry.load() == id + 1; });
  if (listed) now.shm_nattch -= 1;
  std::memcpy(answer.data(), &now, sizeof now);
}

abi::ObjectKind KindOf(const abi::KernelCall& call) {
  switch (call.number) {
    case SYS_mq_timedsend:
    case SYS_mq_timedreceive:
      return abi::ObjectKind::kMessageQueue;
    case SYS_msgsnd:
    case SYS_msgrcv:
      return abi::ObjectKind::kSystemVQueue;
    case SYS_semtimedop:
      return abi::ObjectKind::kSystemVSemaphores;
    default:
      return abi::ObjectKind::kOther;
  }
}

// A queue is named by the deputy's descriptor of it, a System V object by its number.
std::string ObjectOf(const abi::KernelCall& call, int32_t deputy) {
  std::string number = std::to_string(call.arguments[0]);
  if (KindOf(call) != abi::ObjectKind::kMessageQueue) return number;
  std::error_code error;
  const auto name = std::filesystem::read_symlink("/proc/" + std::to_string(deputy) + "/fd/" + number, error);
  return error ? number : name.string();
}

}  // namespace

void Deputies::OnKernelCall(HostId from, const wire::KernelCall& message) {
  Deputy* deputy = Find(message.incarnation);
  const auto call = wire::CheckKernelCall(message.call);
  if (!call) return core_.Fatal("host " + std::to_string(from) + ": " + call.error().message);
  if (deputy == nullptr || deputy->host != from || deputy->state != State::kRunning) {
    return core_.Send(from, wire::KernelResult{message.incarnation, message.id, -ESRCH, {}, 0, {}});
  }
  const uint64_t id = ++last_home_call_;
  abi::LentQueue there{};
  switch (queue_leases_.Ask(from, deputy->pid, id, message, *call, &there)) {
    case QueueLeases::Where::kHere:
      break;
    case QueueLeases::Where::kHeld:
      return;
    case QueueLeases::Where::kThere: {
      const auto* bytes = reinterpret_cast<const uint8_t*>(&there);
      return core_.Send(
          from, wire::KernelResult{
                    message.incarnation, message.id, abi::kQueueLent, {bytes, bytes + sizeof there}, 0, {}});
    }
  }
  PendingKernelCall pending{from, message.incarnation, message.id, *call, {}, {}, {}};
  if (core_.object_counts() != nullptr && KindOf(*call) != abi::ObjectKind::kOther) {
    pending.began = std::chrono::steady_clock::now();
    pending.object = ObjectOf(*call, deputy->pid);
  }
  const std::span<const uint8_t> data(message.call.data() + sizeof(abi::KernelCall), call->data);
  const bool large = call->memory > abi::kInlineKernelMemory;
  if (!large && MakeNow(id, pending, data)) return;
  if (large) {
    auto memory = MakeMemory(*call, data);
    if (!memory) {
      queue_leases_.Ended(id, -ENOMEM);
      return core_.Send(from, wire::KernelResult{message.incarnation, message.id, -ENOMEM, {}, 0, {}});
    }
    pending.memory = std::move(*memory);
  }
  const int given[] = {pending.memory.get()};
  core_.connections().SendWithBytes(deputy->connection, abi::KernelPacket{{}, id, *call},
                                    abi::Packet::kKernelCall, large ? std::span<const uint8_t>() : data,
                                    large ? std::span<const int>(given) : std::span<const int>());
  kernel_calls_[id] = std::move(pending);
}

// A send or receive that need not wait. A message that somebody is told of must be its deputy's.
bool Deputies::MakeNow(uint64_t id, const PendingKernelCall& pending, std::span<const uint8_t> data) {
  const Process* process = core_.FindProcess(pending.incarnation);
  if (process == nullptr || KindOf(pending.call) != abi::ObjectKind::kMessageQueue) return false;
  if (pending.call.number == SYS_mq_timedsend && queue_leases_.MayNotify(id)) return false;
  auto answer = TryQueueCall(*process, pending.call, data);
  if (!answer) return false;
  Count(pending);
  wire::KernelResult result{pending.incarnation, pending.id, answer->result, std::move(answer->bytes), 0, {}};
  if (pending.call.number == SYS_mq_timedsend && result.result == 0) result.right = queue_leases_.RightOf(id);
  queue_leases_.Ended(id, answer->result);
  result.rooms = queue_leases_.RoomsOf(pending.host);
  core_.Send(pending.host, result);
  return true;
}

// There is a moment in which nobody can tell whether the deputy has answered already: it finds the call or
// not.
void Deputies::OnKernelCancel(HostId from, const wire::KernelCancel& cancel) {
  const Deputy* deputy = Find(cancel.incarnation);
  if (deputy == nullptr || deputy->host != from) return;
  const auto found = std::find_if(kernel_calls_.begin(), kernel_calls_.end(), [&](const auto& item) {
    return item.second.host == from && item.second.id == cancel.id;
  });
  if (found == kernel_calls_.end()) {
    if (queue_leases_.Withdraw(from, cancel.id))
      core_.Send(from, wire::KernelResult{cancel.incarnation, cancel.id, -EINTR, {}, 0, {}});
    return;
  }
  queue_leases_.Interrupted(found->first);
  CallOff(found->first);
}

void Deputies::Count(const PendingKernelCall& call) {
  if (call.object.empty()) return;
  core_.object_counts()->Add(KindOf(call.call), call.object, 1,
                             std::chrono::steady_clock::now() - call.began);
}

void Deputies::CountUnheard(int queue) {
  if (core_.object_counts() == nullptr) return;
  std::error_code error;
  const auto name = std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(queue), error);
  if (!error)
    core_.object_counts()->Add(abi::ObjectKind::kMessageQueue, name.string(), 1, std::chrono::nanoseconds(0));
}

void Deputies::CallOff(uint64_t call) {
  const auto found = kernel_calls_.find(call);
  const Deputy* deputy = found == kernel_calls_.end() ? nullptr : Find(found->second.incarnation);
  if (deputy == nullptr) return;
  core_.connections().Send(deputy->connection, abi::KernelCancel{{}, call}, abi::Packet::kKernelCancel);
}

void Deputies::OnKernelAnswer(const Connections::Packet& packet) {
  abi::KernelAnswer head{};
  if (packet.bytes.size() < sizeof head) return;
  std::copy_n(packet.bytes.data(), sizeof head, reinterpret_cast<uint8_t*>(&head));
  const auto found = kernel_calls_.find(head.id);
  if (found == kernel_calls_.end()) return;
  const PendingKernelCall call = std::move(found->second);
  kernel_calls_.erase(found);
  if (core_.ending()) return;
  if (queue_leases_.Ended(head.id, head.result))
    return core_.Send(call.host, wire::KernelResult{call.incarnation, call.id, abi::kQueueAgain, {}, 0, {}});
  Count(call);
  wire::KernelResult result{call.incarnation, call.id, head.result, {}, 0, queue_leases_.RoomsOf(call.host)};
  if (call.memory.get() < 0) {
    result.answer.assign(packet.bytes.begin() + sizeof head, packet.bytes.end());
  } else if (head.result >= 0) {
    const uint64_t more = call.call.grows != 0 ? static_cast<uint64_t>(head.result) : 0;
    result.answer.resize(std::min<uint64_t>(call.call.answer + more, call.call.memory));
    const ssize_t got = pread(call.memory.get(), result.answer.data(), result.answer.size(), 0);
    result.answer.resize(static_cast<size_t>(std::max<ssize_t>(got, 0)));
  }
  const bool removes = call.call.number == SYS_shmctl && call.call.arguments[1] == IPC_RMID;
  if (removes || call.call.number == SYS_shmdt) {
    for (const auto& component : core_.components()) component->SegmentsChanged();
  }
  if (call.call.number == static_cast<int64_t>(abi::DeputyCall::kClose)) queue_leases_.LookForAbandoned();
  if (call.call.number == SYS_shmctl) CountWithoutAgent(core_.table().header, call.call, result.answer);
  core_.Send(call.host, result);
}

void Deputies::OnKernelEvent(const Deputy& deputy, const abi::KernelEvent& event) {
  if (deputy.state != State::kRunning) return;
  core_.Send(deputy.host, wire::KernelEvent{deputy.incarnation, event.descriptor, event.state});
}

void Deputies::ForgetKernelCalls(Incarnation incarnation) {
  std::vector<uint64_t> calls;
  for (const auto& [id, call] : kernel_calls_) {
    if (call.incarnation == incarnation) calls.push_back(id);
  }
  queue_leases_.ProcessGone(incarnation);
  for (const uint64_t id : calls) {
    kernel_calls_.erase(id);
    queue_leases_.Ended(id, 0);
  }
}

}  // namespace elsewhere::runtime
