// What every agent is made of besides its core and its jobs.
#pragma once

#include <string>

#include "runtime/agent_core.h"
#include "runtime/file/maps.h"

namespace elsewhere::runtime {

// Streams, then what builds on them, in the order in which they drain.
// An error says what of them cannot work.
Status AddComponents(AgentCore& core, const FileOptions& files);

// The value of the session's marker in Redis: known to whoever has the session key.
std::string MarkerSecret(const store::SessionKey& key);

}  // namespace elsewhere::runtime
