// Calls of home's kernel with memory, on their way from a process of this worker to its deputy
// (abi::KernelCall): message queues and System V objects. A component of workers only; home's part is
// runtime/deputies_kernel.cpp, the deputy's preload/proxy/kernel_call.cpp.
#pragma once

#include <memory>

#include "runtime/agent.h"

namespace elsewhere::runtime {

std::unique_ptr<Component> MakeKernelCalls(Agent& agent);

}  // namespace elsewhere::runtime
