#include "preload/lent_queue.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/msg.h>

#include <atomic>

#include "preload/agent.h"
#include "preload/kernel_call.h"
#include "preload/proxy/thread.h"
#include "preload/self.h"
#include "preload/stream.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {
namespace {

constexpr int kRemembered = 1024;  // a descriptor above asks each time
constexpr uint32_t kOnStack = 9216;
constexpr uint64_t kNoted = 1;

// id: 32 bits, room: 17, flags: access mode 2 and O_NONBLOCK 1, known: 1
constinit std::atomic<uint64_t> remembered[kRemembered] = {};
constinit thread_local uint64_t interrupted = 0;

bool IsRemembered(int fd) {
  return fd >= 0 && fd < kRemembered;
}

// Room for a message as the kernel takes it: on the stack, or mapped for this call.
class Buffer {
 public:
  Buffer(void* stack, uint32_t room) : size_(sizeof(int64_t) + abi::LentMessageBytes(room)) {
    memory_ = stack;
    if (size_ <= kOnStack) return;
    const long mapped = raw::Syscall(SYS_mmap, 0, raw::Word(size_), PROT_READ | PROT_WRITE,
                                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memory_ = raw::Failed(mapped) ? nullptr : reinterpret_cast<void*>(mapped);
  }
  ~Buffer() {
    if (size_ > kOnStack && memory_ != nullptr)
      raw::Syscall(SYS_munmap, raw::Address(memory_), raw::Word(size_));
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  abi::LentMessage* get() const { return static_cast<abi::LentMessage*>(memory_); }

 private:
  const uint64_t size_;
  void* memory_;
};

int Fail(int error) {
  errno = error;
  return -1;
}

class Limit {
 public:
  explicit Limit(const timespec* given) : given_(given != nullptr) {
    if (given_ &&
        !CopyProgramMemory(SYS_process_vm_readv, &time_, const_cast<timespec*>(given), sizeof time_))
      wrong_ = EFAULT;
    if (wrong_ == 0 && (time_.tv_sec < 0 || time_.tv_nsec < 0 || time_.tv_nsec >= 1'000'000'000))
      wrong_ = EINVAL;
  }
  bool is_given() const { return given_; }
  int wrong() const { return wrong_; }
  bool IsPast() const {
    timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec != time_.tv_sec ? now.tv_sec > time_.tv_sec : now.tv_nsec >= time_.tv_nsec;
  }

 private:
  const bool given_;
  timespec time_{};
  int wrong_ = 0;
};

// The kernel's result. What can be done at once is not interrupted, and a handler with SA_RESTART lets a
// queue's wait go on, as it does not a System V queue's.
long Move(long number, const abi::LentQueue& queue, abi::LentMessage* message, bool waits) {
  const bool receives = number == SYS_msgrcv;
  int64_t arguments[6] = {
      queue.id, raw::Address(message), abi::LentMessageBytes(queue.room), abi::kAnyLentType, 0, 0};
  int64_t& flags = arguments[receives ? 4 : 3];
  flags = 0;
  while (waits) {
    const long result = proxy::CallUnless(&interrupted, kNoted, number, arguments);
    if (result != -EINTR) return result;
    if (QueueWait::Interrupted()) break;
  }
  flags = IPC_NOWAIT;
  const int64_t* a = arguments;
  const long result = raw::Syscall(number, a[0], a[1], a[2], a[3], a[4]);
  return waits && (result == -EAGAIN || result == -ENOMSG) ? -EINTR : result;
}

// What a call that did nothing means for a queue.
Lent Refused(const abi::LentQueue& queue, long error, const Limit& limit, int* result) {
  if (error == -EIDRM || error == -EINVAL) return Lent::kGone;
  const bool would_wait = error == -EAGAIN || error == -ENOMSG;
  const bool limited = would_wait && (queue.flags & O_NONBLOCK) == 0;
  if (limited && !limit.IsPast()) return Lent::kWaits;
  *result = Fail(limited ? ETIMEDOUT : would_wait ? EAGAIN : static_cast<int>(-error));
  return Lent::kDone;
}

void SendOutput() {
  const int before = errno;
  SessionPid();  // the agent must know whose it is
  CallAgent(abi::Operation::kFence, {});
  errno = before;
}

Lent Done(int* result, int error) {
  *result = Fail(error);
  return Lent::kDone;
}

}  // namespace

bool FindLentQueue(int fd, abi::LentQueue* queue) {
  const uint64_t known = IsRemembered(fd) ? remembered[fd].load(std::memory_order_relaxed) : 0;
  if (known == 0) return false;
  queue->id = static_cast<int32_t>(known);
  queue->room = static_cast<uint32_t>(known >> 32) & 0x1ffff;
  queue->flags = static_cast<int32_t>(known >> 49 & O_ACCMODE) | ((known >> 51 & 1) != 0 ? O_NONBLOCK : 0);
  return true;
}

void RememberLentQueue(int fd, const abi::LentQueue& queue) {
  if (!IsRemembered(fd)) return;
  const uint64_t nonblocking = (queue.flags & O_NONBLOCK) != 0 ? 1 : 0;
  remembered[fd].store(static_cast<uint32_t>(queue.id) | uint64_t{queue.room} << 32 |
                           static_cast<uint64_t>(queue.flags & O_ACCMODE) << 49 | nonblocking << 51 |
                           uint64_t{1} << 52,
                       std::memory_order_relaxed);
}

void ForgetLentQueue(int fd) {
  if (IsRemembered(fd)) remembered[fd].store(0, std::memory_order_relaxed);
}

void ForgetLentQueues() {
  for (auto& entry : remembered) {
    if (entry.load(std::memory_order_relaxed) != 0) entry.store(0, std::memory_order_relaxed);
  }
}

bool QueueWait::Interrupted() {
  return __atomic_load_n(&interrupted, __ATOMIC_RELAXED) == kNoted;
}

// What a handler does in between is its own.
QueueWait::QueueWait() : outer_(interrupted) {
  __atomic_store_n(&interrupted, 0, __ATOMIC_RELAXED);
}
QueueWait::~QueueWait() {
  __atomic_store_n(&interrupted, outer_, __ATOMIC_RELAXED);
}

void InterruptQueueWait(void* context) {
  __atomic_store_n(&interrupted, kNoted, __ATOMIC_RELAXED);
  proxy::Interrupt(context);
}

Lent SendToLent(const abi::LentQueue& queue, const char* message, size_t size, unsigned priority,
                const timespec* given, int* result) {
  const Limit limit(given);
  if (limit.wrong() != 0) return Done(result, limit.wrong());
  if (priority >= abi::kLentPriorities) return Done(result, EINVAL);
  if ((queue.flags & O_ACCMODE) == O_RDONLY) return Done(result, EBADF);
  if (size > queue.room) return Done(result, EMSGSIZE);
  alignas(8) uint8_t stack[kOnStack];
  const Buffer buffer(stack, queue.room);
  if (buffer.get() == nullptr) return Done(result, ENOMEM);
  buffer.get()->size = static_cast<uint32_t>(size);
  if (!CopyProgramMemory(SYS_process_vm_readv, buffer.get()->bytes, const_cast<char*>(message), size))
    return Done(result, EFAULT);
  // A message releases whoever gets it: what this process wrote before is seen first.
  if (MayHaveUnsentOutput()) SendOutput();
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  const auto nanoseconds =
      static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
  buffer.get()->type = abi::LentType(priority, abi::LentTime(nanoseconds));
  const bool waits = !limit.is_given() && (queue.flags & O_NONBLOCK) == 0;
  const long sent = Move(SYS_msgsnd, queue, buffer.get(), waits);
  if (raw::Failed(sent)) return Refused(queue, sent, limit, result);
  *result = 0;
  return Lent::kDone;
}

Lent ReceiveFromLent(const abi::LentQueue& queue, char* message, size_t size, unsigned* priority,
                     const timespec* given, ssize_t* result) {
  const Limit limit(given);
  int failed = 0;
  const auto done = [&](Lent how) {
    *result = failed;
    return how;
  };
  if (limit.wrong() != 0) return done(Done(&failed, limit.wrong()));
  if ((queue.flags & O_ACCMODE) == O_WRONLY) return done(Done(&failed, EBADF));
  if (size < queue.room) return done(Done(&failed, EMSGSIZE));
  alignas(8) uint8_t stack[kOnStack];
  const Buffer buffer(stack, queue.room);
  if (buffer.get() == nullptr) return done(Done(&failed, ENOMEM));
  buffer.get()->type = abi::kAnyLentType;
  const bool waits = !limit.is_given() && (queue.flags & O_NONBLOCK) == 0;
  const long got = Move(SYS_msgrcv, queue, buffer.get(), waits);
  if (raw::Failed(got)) return done(Refused(queue, got, limit, &failed));
  unsigned came = abi::LentPriority(buffer.get()->type);
  if (!CopyProgramMemory(SYS_process_vm_writev, buffer.get()->bytes, message, buffer.get()->size) ||
      (priority != nullptr && !CopyProgramMemory(SYS_process_vm_writev, &came, priority, sizeof came)))
    return done(Done(&failed, EFAULT));
  *result = static_cast<ssize_t>(buffer.get()->size);
  return Lent::kDone;
}

Lent LookAtLent(const abi::LentQueue& queue, struct mq_attr* attributes, int* result) {
  msqid_ds state{};
  const long looked = raw::Syscall(SYS_msgctl, queue.id, IPC_STAT, raw::Address(&state));
  if (raw::Failed(looked)) return Lent::kGone;
  struct mq_attr found {};
  found.mq_flags = queue.flags & O_NONBLOCK;
  found.mq_maxmsg = static_cast<long>(state.msg_qbytes / abi::LentMessageBytes(queue.room));
  found.mq_msgsize = static_cast<long>(queue.room);
  found.mq_curmsgs = static_cast<long>(state.msg_qnum);
  if (state.msg_qbytes == 0) return Lent::kGone;  // it is about to go
  *result = CopyProgramMemory(SYS_process_vm_writev, &found, attributes, sizeof found) ? 0 : -1;
  return Lent::kDone;
}

}  // namespace elsewhere::preload
