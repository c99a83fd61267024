// Calls of home's kernel with memory (abi::KernelCall), made by a proxy for its process. Private to
// preload/proxy; how and why: README.md.
#pragma once

#include "preload/proxy/loop.h"
#include "shim/wire/abi.h"

namespace elsewhere::proxy {

// The signal that interrupts a helper, and the one by which a queue notifies a process whose notification is
// a thread. Both are libc's own: no program sends them.
inline constexpr int kSignalCancel = 33;
inline constexpr int kSignalNotify = 32;

// `descriptor`: the memory where it is large, -1: the bytes are in state->memory. Answers now or, if the call
// blocks, later from a helper.
void MakeKernelCall(State* state, const abi::KernelPacket& packet, int descriptor);
void CancelKernelCall(const State& state, uint64_t id);
// In a forked proxy: helpers are its parent's.
void ForgetHelpers(State* state);
// Tells the agent of queues that changed.
void TellWatches(const State& state);

}  // namespace elsewhere::proxy
