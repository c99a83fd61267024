#include "preload/kernel_call.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#include <atomic>

#include "preload/readable.h"
#include "preload/self.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {
namespace {

constinit std::atomic<int64_t> last_number{0};
constinit std::atomic<bool> has_kernel_objects{false};

// The last ones; who was waited for long before them has ended at home.
constexpr uint32_t kReaped = 64;
constinit std::atomic<int32_t> reaped[kReaped] = {};
constinit std::atomic<uint32_t> reaped_count{0};

// The deputies of nested children are children of this process's.
void AwaitReaped() {
  if (reaped_count.exchange(0, std::memory_order_relaxed) == 0) return;
  const int before = errno;
  for (auto& entry : reaped) {
    const int32_t pid = entry.exchange(0, std::memory_order_relaxed);
    if (pid != 0) KernelCall(SYS_wait4).Number(pid).Number(0).Number(0).Number(0).Make();
  }
  errno = before;
}

constexpr uint32_t kHead = sizeof(abi::KernelCall);
constexpr uint32_t kCountSize = sizeof(uint32_t);

}  // namespace

namespace {

// For little, looking first is cheaper than to have the kernel copy.
constexpr size_t kLittle = 2 * kReadablePage;

bool IsThere(const void* memory, size_t size) {
  const auto first = reinterpret_cast<uintptr_t>(memory);
  for (uintptr_t page = first / kReadablePage; page * kReadablePage < first + size; ++page) {
    if (page == 0 || !IsReadableNow(page)) return false;
  }
  return true;
}

// Of each page that will be written to, a small call of the kernel fills some bytes that will be.
bool IsWritable(void* memory, size_t size) {
  const auto end = reinterpret_cast<uintptr_t>(memory) + size;
  for (auto at = reinterpret_cast<uintptr_t>(memory); at < end;) {
    const uintptr_t next = (at / kReadablePage + 1) * kReadablePage;
    const size_t here = (next < end ? next : end) - at;
    const size_t filled = here < sizeof(uint64_t) ? here : sizeof(uint64_t);
    if (raw::Syscall(SYS_rt_sigpending, static_cast<long>(at), raw::Word(filled)) == -EFAULT) return false;
    at = next;
  }
  return true;
}

}  // namespace

bool CopyProgramMemory(long direction, void* ours, void* theirs, size_t size) {
  if (size == 0) return true;
  if (size <= kLittle) {
    const bool reads = direction == SYS_process_vm_readv;
    if (reads ? IsThere(theirs, size) : IsWritable(theirs, size)) {
      memcpy(reads ? ours : theirs, reads ? theirs : ours, size);
      return true;
    }
    errno = EFAULT;
    return false;
  }
  const iovec local{ours, size}, remote{theirs, size};
  const long copied = raw::Syscall(direction, self.kernel_pid.load(std::memory_order_relaxed),
                                   raw::Address(&local), 1, raw::Address(&remote), 1);
  if (copied == static_cast<long>(size)) return true;
  if (raw::Failed(copied) && copied != -EFAULT) {  // forbidden here: then as anybody copies
    memcpy(direction == SYS_process_vm_readv ? ours : theirs,
           direction == SYS_process_vm_readv ? theirs : ours, size);
    return true;
  }
  errno = EFAULT;
  return false;
}

namespace {

// -1: all are taken; the slot's payload is room enough, with more pieces.
int ClaimBulk(abi::Table* table) {
  const int32_t pid = self.kernel_pid.load(std::memory_order_relaxed);
  for (uint32_t i = 0; i < abi::kBulkCount; ++i) {
    int32_t free = 0;
    if (table->bulks[i].owner.load(std::memory_order_relaxed) == 0 &&
        table->bulks[i].owner.compare_exchange_strong(free, pid, std::memory_order_acquire)) {
      return static_cast<int>(i);
    }
  }
  return -1;
}

}  // namespace

void NoteReaped(int session_pid) {
  const uint32_t place = reaped_count.fetch_add(1, std::memory_order_relaxed);
  reaped[place % kReaped].store(session_pid, std::memory_order_relaxed);
}

void ForgetReaped() {
  reaped_count.store(0, std::memory_order_relaxed);
  for (auto& entry : reaped) entry.store(0, std::memory_order_relaxed);
}

void NoteKernelObjects() {
  has_kernel_objects.store(true, std::memory_order_relaxed);
}
bool HasKernelObjects() {
  return has_kernel_objects.load(std::memory_order_relaxed);
}

KernelCall& KernelCall::Add(void* memory, size_t size, bool in, uint32_t out) {
  const uint32_t argument = count_++;
  if (memory == nullptr) return *this;
  // Beyond every limit of the kernel's: it will say so, without looking at the memory.
  if (size > abi::kMostKernelMemory - call_.memory) size = abi::kMostKernelMemory - call_.memory;
  const uint32_t offset = (call_.memory + 7) / 8 * 8;
  parts_[part_count_++] = {static_cast<uint8_t*>(memory), offset, static_cast<uint32_t>(size), in, out != 0};
  call_.arguments[argument] = offset;
  call_.pointers |= 1U << argument;
  call_.memory = offset + static_cast<uint32_t>(size);
  if (in) call_.data = call_.memory;
  if (out == kComesBack) call_.answer = call_.memory;
  return *this;
}

KernelCall& KernelCall::Message(void* to, size_t room, size_t fixed) {
  Add(to, room, false, kComesBack + 1);
  if (to == nullptr) return *this;
  const Part& part = parts_[part_count_ - 1];
  call_.answer = part.offset + static_cast<uint32_t>(fixed < part.size ? fixed : part.size);
  call_.grows = 1;
  return *this;
}

bool KernelCall::Gather(uint32_t from, uint8_t* to, uint32_t size) {
  memset(to, 0, size);
  for (uint32_t i = 0; i < part_count_; ++i) {
    const Part& part = parts_[i];
    const uint32_t begin = part.offset > from ? part.offset : from;
    const uint32_t end = part.offset + part.size < from + size ? part.offset + part.size : from + size;
    if (!part.in || begin >= end) continue;
    if (!CopyProgramMemory(SYS_process_vm_readv, to + (begin - from), part.memory + (begin - part.offset),
                           end - begin))
      return false;
  }
  return true;
}

bool KernelCall::Scatter(uint32_t from, const uint8_t* bytes, uint32_t size) {
  for (uint32_t i = 0; i < part_count_; ++i) {
    const Part& part = parts_[i];
    const uint32_t begin = part.offset > from ? part.offset : from;
    const uint32_t end = part.offset + part.size < from + size ? part.offset + part.size : from + size;
    if (!part.out || begin >= end) continue;
    if (!CopyProgramMemory(SYS_process_vm_writev, const_cast<uint8_t*>(bytes) + (begin - from),
                           part.memory + (begin - part.offset), end - begin))
      return false;
  }
  return true;
}

// The answer's first piece is in the bulk buffer, or behind its size in the payload.
int64_t KernelCall::TakeAnswer(int64_t result, int bulk, int64_t number, const uint8_t* payload) {
  const abi::Table* table = ConnectedTable();
  uint32_t size = 0;
  memcpy(&size, payload, kCountSize);
  uint32_t room = bulk >= 0 ? abi::kBulkBytes : abi::kSlotPayload - kCountSize;
  const uint8_t* piece = bulk >= 0 ? table->bulks[bulk].bytes : payload + kCountSize;
  uint8_t fetched[abi::kSlotPayload];
  for (uint32_t at = 0; at < size;) {
    const uint32_t here = size - at < room ? size - at : room;
    if (!Scatter(at, piece, here)) return -1;
    at += here;
    if (at == size) break;
    if (CallAgent(abi::Operation::kKernelFetch, {bulk, at, number}, {nullptr, 0, fetched, sizeof fetched}) <
        0)
      return -1;
    if (bulk < 0) piece = fetched;
    if (bulk < 0) room = abi::kSlotPayload;
  }
  return result;
}

int64_t KernelCall::Make(Interruption interruption, abi::LentQueue* lent) {
  SessionPid();  // a child just made has no deputy before it has a pid
  AwaitReaped();
  abi::Table* table = AgentTable();
  if (table == nullptr) return -1;
  const int before = errno;
  const uint32_t total = kHead + call_.data;
  // What comes back is known afterwards only; a message's buffer is mostly larger than the message.
  const bool large = total > abi::kSlotPayload || kCountSize + call_.memory > abi::kSlotPayload;
  const int bulk = large ? ClaimBulk(table) : -1;
  const uint32_t room = bulk >= 0 ? abi::kBulkBytes : abi::kSlotPayload;
  const int64_t number = last_number.fetch_add(1, std::memory_order_relaxed) + 1;
  uint8_t payload[abi::kSlotPayload];
  uint8_t* piece = bulk >= 0 ? table->bulks[bulk].bytes : payload;
  bool good = true;
  uint32_t at = 0;
  int64_t result = -1;
  const auto fill = [&](uint32_t size) {
    uint32_t head = 0;
    if (at < kHead) {
      head = kHead - at < size ? kHead - at : size;
      memcpy(piece, reinterpret_cast<const uint8_t*>(&call_) + at, head);
    }
    return Gather(at + head - kHead, piece + head, size - head);
  };
  while (good && total - at > room) {
    good = fill(room) && CallAgent(abi::Operation::kKernelData, {bulk, room, number},
                                   {payload, bulk >= 0 ? 0 : room, nullptr, 0}) == 0;
    at += room;
  }
  good = good && fill(total - at);
  if (good) {
    const uint32_t last = total - at;
    uint8_t answer[abi::kSlotPayload];
    memset(answer, 0, kCountSize);
    result = CallAgent(abi::Operation::kKernelCall, {bulk, last, number},
                       {payload, bulk >= 0 ? 0 : last, answer, sizeof answer}, interruption);
    const bool is_lent = result == abi::kQueueLent && lent != nullptr;
    if (is_lent) memcpy(lent, bulk >= 0 ? piece : answer + kCountSize, sizeof *lent);
    if (result != -1 && !is_lent && result != abi::kQueueAgain)
      result = TakeAnswer(result, bulk, number, answer);
  }
  if (bulk >= 0) table->bulks[bulk].owner.store(0, std::memory_order_release);
  if (result != -1) errno = before;
  return result;
}

}  // namespace elsewhere::preload
