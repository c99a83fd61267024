#include "runtime/ipc/sending_right.h"

#include <mqueue.h>
#include <sys/syscall.h>

namespace elsewhere::runtime {
namespace {

// Arguments of mq_timedsend.
constexpr int kDescriptor = 0, kMessage = 1, kSize = 2, kPriority = 3, kLimit = 4;
constexpr uint64_t kPriorities = 32768;  // MQ_PRIO_MAX of Linux

bool Points(const abi::KernelCall& call, int argument) {
  return (call.pointers >> argument & 1) != 0;
}

// Nothing of it is for the kernel to refuse, of which the queue's limits are not known here.
bool IsPlain(const abi::KernelCall& call, std::span<const uint8_t> data) {
  const auto size = static_cast<uint64_t>(call.arguments[kSize]);
  const auto at = static_cast<uint64_t>(call.arguments[kMessage]);
  return call.number == SYS_mq_timedsend && call.waits == 0 && Points(call, kMessage) &&
         size <= data.size() && at <= data.size() - size &&
         static_cast<uint64_t>(call.arguments[kPriority]) < kPriorities && !Points(call, kLimit) &&
         call.arguments[kLimit] == 0;
}

}  // namespace

void SendingRights::Learn(const std::vector<wire::QueueRoom>& rooms) {
  for (const wire::QueueRoom& room : rooms) {
    Right& right = rights_[room.right];
    right.allowed = room.allowed;
    right.bytes = room.bytes;
  }
}

void SendingRights::Learn(Incarnation process, int32_t descriptor, uint64_t right) {
  if (right != 0) descriptors_[{process, descriptor}] = right;
}

std::optional<wire::QueueSend> SendingRights::Use(Incarnation process, const abi::KernelCall& call,
                                                  std::span<const uint8_t> data) {
  if (!IsPlain(call, data)) return std::nullopt;
  const auto found = descriptors_.find({process, static_cast<int32_t>(call.arguments[kDescriptor])});
  const auto right = found == descriptors_.end() ? rights_.end() : rights_.find(found->second);
  if (right == rights_.end()) return std::nullopt;
  const auto size = static_cast<uint64_t>(call.arguments[kSize]);
  if (right->second.sent >= right->second.allowed || size > right->second.bytes) return std::nullopt;
  ++right->second.sent;
  const auto message = data.subspan(static_cast<uint64_t>(call.arguments[kMessage]), size);
  return wire::QueueSend{
      right->first, {static_cast<uint32_t>(call.arguments[kPriority]), {message.begin(), message.end()}}};
}

void SendingRights::Forget(Incarnation process) {
  std::erase_if(descriptors_, [process](const auto& item) { return item.first.first == process; });
}

}  // namespace elsewhere::runtime
