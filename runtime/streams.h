// The stream component of an agent: descriptors that are open on more than one host.
#pragma once

#include <memory>

#include "runtime/agent.h"

namespace elsewhere::runtime {

// At home it is the origin of what captured processes inherit, on a worker it makes that real again. Added to
// the agent behind the memory component, which takes the descriptors of shared memory. Ignores SIGPIPE from
// now on.
std::unique_ptr<Component> MakeStreams(Agent& agent);

}  // namespace elsewhere::runtime
