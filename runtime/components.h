// What every agent is made of besides its core and its jobs.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "runtime/agent_core.h"

namespace elsewhere::runtime {

// Streams, then what builds on them, in the order in which they drain.
void AddComponents(AgentCore& core);

// Scripts that an agent's command connection loads: the session's and the components'.
std::vector<std::string_view> AllScripts();

// The value of the session's marker in Redis: known to whoever has the session key.
std::string MarkerSecret(const store::SessionKey& key);

}  // namespace elsewhere::runtime
