// A call of home's kernel with memory, made by this process's deputy (abi::KernelCall). For processes on a
// worker.
//
//     KernelCall(SYS_mq_timedsend).Number(queue).In(text, size).Number(size).Number(priority).In(limit, 16)
//         .Make(Interruption::kAllowed);
//
// The parts stand in the order of the kernel's arguments unless Argument says otherwise. Memory of the
// program is read and written so that a bad address is an EFAULT. Async-signal-safe, no heap; parts are
// borrowed until Make returns.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "preload/agent.h"
#include "shim/wire/lent_queue.h"

namespace elsewhere::preload {

class KernelCall {
 public:
  explicit KernelCall(int64_t number) { call_.number = number; }
  explicit KernelCall(abi::DeputyCall number) : KernelCall(static_cast<int64_t>(number)) {}

  KernelCall& Number(int64_t value) {
    call_.arguments[count_++] = value;
    return *this;
  }
  // What is added next is this argument, counted from 0.
  KernelCall& Argument(uint32_t index) {
    count_ = index;
    return *this;
  }
  // A null pointer stays one.
  KernelCall& In(const void* from, size_t size) { return Add(const_cast<void*>(from), size, true, 0); }
  KernelCall& Out(void* to, size_t size) { return Add(to, size, false, kComesBack); }
  KernelCall& InOut(void* memory, size_t size) { return Add(memory, size, true, kComesBack); }
  // The last part: `room` bytes, of which `fixed` and as many as the result says come back.
  KernelCall& Message(void* to, size_t room, size_t fixed);

  // Of a message queue: it must wait with a limit.
  KernelCall& Waits(bool waits) {
    call_.waits = waits ? 1 : 0;
    return *this;
  }

  // The result; -1 sets errno. Of a message queue it may be abi::kQueueAgain, or kQueueLent: `lent` is filled
  // in.
  int64_t Make(Interruption interruption = Interruption::kNone, abi::LentQueue* lent = nullptr);

 private:
  static constexpr uint32_t kComesBack = 1;
  struct Part {
    uint8_t* memory;
    uint32_t offset;
    uint32_t size;
    bool in;
    bool out;
  };

  KernelCall& Add(void* memory, size_t size, bool in, uint32_t out);
  bool Gather(uint32_t from, uint8_t* to, uint32_t size);
  bool Scatter(uint32_t from, const uint8_t* bytes, uint32_t size);
  int64_t TakeAnswer(int64_t result, int bulk, int64_t number, const uint8_t* payload);

  abi::KernelCall call_ = {};
  uint32_t count_ = 0;
  Part parts_[6] = {};
  uint32_t part_count_ = 0;
};

// Between our memory and the program's, which may not be there: false, EFAULT. `direction`:
// SYS_process_vm_readv or SYS_process_vm_writev.
bool CopyProgramMemory(long direction, void* ours, void* theirs, size_t size);

// A child on this worker was waited for. Its end at home (undone semaphores, closed queues, detached
// segments) may be on its way; the next call waits for it, as home's kernel would have made the wait do.
void NoteReaped(int session_pid);
void ForgetReaped();

// Message queues and segments of this process: an exec ends them at home too.
void NoteKernelObjects();
bool HasKernelObjects();

}  // namespace elsewhere::preload
