// Mapped files as a component of the agent: programs' calls about them (runtime/file, shim/file).
#pragma once

#include <memory>

#include "runtime/agent.h"
#include "runtime/file/maps.h"

namespace elsewhere::runtime {

// An error says which map cannot be used and why.
Result<std::unique_ptr<Component>> MakeFiles(Agent& agent, const FileOptions& options);

}  // namespace elsewhere::runtime
