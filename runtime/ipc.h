// Shared memory and semaphores between hosts: the agent's component (runtime/ipc/).
#pragma once

#include <memory>

#include "runtime/agent.h"

namespace elsewhere::runtime {

// To be added before the streams: it takes the descriptors that refer to shared segments.
std::unique_ptr<Component> MakeIpc(Agent& agent);

}  // namespace elsewhere::runtime
