#include "runtime/ipc/queue_try.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>

#include "shim/store/unique_fd.h"

namespace elsewhere::runtime {
namespace {

// Arguments of both calls; of a receive the priority is a pointer.
constexpr int kMessage = 1, kSize = 2, kPriority = 3, kLimit = 4;

// The argument is an offset of so many bytes in the call's memory.
bool IsWithin(const abi::KernelCall& call, int argument, uint64_t bytes) {
  const bool points = (call.pointers >> argument & 1) != 0;
  const auto offset = static_cast<uint64_t>(call.arguments[argument]);
  return points && bytes <= call.memory && offset <= call.memory - bytes;
}
bool IsWithinOrNone(const abi::KernelCall& call, int argument, uint64_t bytes) {
  const bool points = (call.pointers >> argument & 1) != 0;
  return points ? IsWithin(call, argument, bytes) : call.arguments[argument] == 0;
}

bool Fits(const abi::KernelCall& call) {
  const bool receives = call.number == SYS_mq_timedreceive;
  return IsWithin(call, kMessage, static_cast<uint64_t>(call.arguments[kSize])) &&
         IsWithinOrNone(call, kLimit, sizeof(timespec)) &&
         (!receives || IsWithinOrNone(call, kPriority, sizeof(unsigned)));
}

bool IsTime(const void* at) {
  timespec time;
  std::memcpy(&time, at, sizeof time);
  return time.tv_sec >= 0 && time.tv_nsec >= 0 && time.tv_nsec < 1'000'000'000;
}

}  // namespace

std::optional<QueueAnswer> TryQueueCall(const Process& deputy, const abi::KernelCall& call,
                                        std::span<const uint8_t> data) {
  if (!Fits(call)) return std::nullopt;
  const store::UniqueFd queue(static_cast<int>(syscall(SYS_pidfd_getfd, deputy.pidfd, call.arguments[0], 0)));
  if (!queue) return std::nullopt;
  QueueAnswer answer;
  answer.bytes.assign(data.begin(), data.end());
  answer.bytes.resize(call.memory);
  const auto at = [&](int argument) -> uint8_t* {
    const bool points = (call.pointers >> argument & 1) != 0;
    return points ? answer.bytes.data() + call.arguments[argument] : nullptr;
  };
  // A limit that is no time is the kernel's to refuse.
  const timespec past{};
  const void* limit = at(kLimit);
  if (limit == nullptr || IsTime(limit)) limit = &past;
  const bool receives = call.number == SYS_mq_timedreceive;
  const long result = receives ? syscall(SYS_mq_timedreceive, queue.get(), at(kMessage),
                                         call.arguments[kSize], at(kPriority), limit)
                               : syscall(SYS_mq_timedsend, queue.get(), at(kMessage), call.arguments[kSize],
                                         call.arguments[kPriority], limit);
  answer.result = result < 0 ? -errno : result;
  if (answer.result == -ETIMEDOUT || answer.result == -EINTR) return std::nullopt;
  const uint64_t more = call.grows != 0 && result > 0 ? static_cast<uint64_t>(result) : 0;
  answer.bytes.resize(result < 0 ? 0 : std::min<uint64_t>(call.answer + more, call.memory));
  return answer;
}

}  // namespace elsewhere::runtime
