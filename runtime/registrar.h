// Hello packets: who may join, and what every process gets (shim/wire/abi.h, "the connection").
// Thread-safety: one loop.
#pragma once

#include <functional>

#include "runtime/agent_core.h"

namespace elsewhere::runtime {

// Checks a Hello; answers nullptr and refuses or closes the connection where it is none that can be served.
const abi::Hello* CheckHello(AgentCore& core, ConnectionId connection, const Connections::Packet& packet);

// Role::kProcess: registers the process unless it is known, and gives it table and doorbell.
// `session_pid`: what it is called in the session if it is new here.
void WelcomeProcess(AgentCore& core, ConnectionId connection, const abi::Hello& hello, int32_t session_pid);

}  // namespace elsewhere::runtime
