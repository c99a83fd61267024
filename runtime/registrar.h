// Hello packets: who may join, and what every process gets (shim/wire/abi.h, "the connection").
// Thread-safety: one loop.
#pragma once

#include <functional>

#include "runtime/agent_core.h"

namespace elsewhere::runtime {

// Checks a Hello; answers nullptr and refuses or closes the connection where it is none that can be served.
const abi::Hello* CheckHello(AgentCore& core, ConnectionId connection, const Connections::Packet& packet);

// Role::kProcess: gives the process table and doorbell, and at home registers it unless it is known. On a
// worker it is the parent's report (kNestedFork) that registers a child, which may say hello, and call,
// before that: taken for a process of its own then, it would lose the calls that it waits in.
void WelcomeProcess(AgentCore& core, ConnectionId connection, const abi::Hello& hello);

}  // namespace elsewhere::runtime
