// Shared memory and semaphores between hosts: the agent's component (runtime/ipc/).
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "runtime/agent.h"

namespace elsewhere::runtime {

// To be added before the streams: it takes the descriptors that refer to shared segments.
std::unique_ptr<Component> MakeIpc(Agent& agent);

// For ConnectionOptions::scripts of the command connection.
std::vector<std::string_view> IpcScripts();

}  // namespace elsewhere::runtime
