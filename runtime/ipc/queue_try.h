// Home: a send to or receive from a message queue that need not wait, made by the agent for a process
// elsewhere.
//
// The deputy's own description is used (pidfd_getfd), so access, O_NONBLOCK and the queue's limits are what
// they are for the deputy, and it need not be woken for what is done at once. What would wait is its own:
// order among waiters, interruption and death are the kernel's then (preload/proxy/README.md). Thread-safety:
// any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "runtime/agent.h"
#include "shim/wire/abi.h"

namespace elsewhere::runtime {

struct QueueAnswer {
  int64_t result = 0;          // as the kernel returns it: negative errno on failure
  std::vector<uint8_t> bytes;  // of the call's memory that come back
};

// `call`: mq_timedsend or mq_timedreceive, checked (wire::CheckKernelCall), with its `data`. nullopt: it
// would wait, or the deputy's descriptor is not to be had: the deputy must make it.
std::optional<QueueAnswer> TryQueueCall(const Process& deputy, const abi::KernelCall& call,
                                        std::span<const uint8_t> data);

}  // namespace elsewhere::runtime
