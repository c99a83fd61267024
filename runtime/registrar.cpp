#include "runtime/registrar.h"

#include <cstring>

namespace elsewhere::runtime {
namespace {

void Refuse(AgentCore& core, ConnectionId connection, const std::string& reason) {
  abi::Refused refused{};
  std::strncpy(refused.reason, reason.c_str(), sizeof refused.reason - 1);
  core.connections().Send(connection, refused, abi::Packet::kRefused);
  core.connections().Close(connection);
}

}  // namespace

const abi::Hello* CheckHello(AgentCore& core, ConnectionId connection, const Connections::Packet& packet) {
  const auto* hello = packet.type == abi::Packet::kHello ? packet.As<abi::Hello>() : nullptr;
  const int32_t peer = core.connections().PeerPid(connection);
  if (hello == nullptr || peer == 0) {
    core.connections().Close(connection);
    return nullptr;
  }
  if (hello->version != abi::kAbiVersion) {
    Refuse(core, connection,
           "the preload speaks version " + std::to_string(hello->version) + ", the agent " +
               std::to_string(abi::kAbiVersion));
    return nullptr;
  }
  if (core.ending()) {
    Refuse(core, connection, "the session is ending");
    return nullptr;
  }
  if (hello->pid != peer) {
    Refuse(core, connection, "process " + std::to_string(peer) + " says it is " + std::to_string(hello->pid));
    return nullptr;
  }
  return hello;
}

void WelcomeProcess(AgentCore& core, ConnectionId connection, const abi::Hello& hello) {
  if (hello.role == static_cast<uint32_t>(abi::Role::kFetch)) {
    const store::UniqueFd offered = core.TakeOffer(hello.token);
    if (!offered) return Refuse(core, connection, "nothing is offered under that token");
    const int given[] = {offered.get()};
    return core.connections().Send(connection, abi::Welcome{{}, abi::kAbiVersion, core.host()},
                                   abi::Packet::kWelcome, given);
  }
  if (core.is_home() && core.FindKernelPid(hello.pid) == nullptr) {
    const Process process{.kernel_pid = hello.pid, .session_pid = hello.pid};
    const auto registered =
        core.Register(process, [&core](const Process& gone) { core.Forget(gone.kernel_pid); });
    if (!registered) return core.connections().Close(connection);
    core.TellRegistered(**registered, hello.parent);
  }
  const int given[] = {core.calls().memfd(), core.calls().doorbell()};
  core.connections().Send(connection, abi::Welcome{{}, abi::kAbiVersion, core.host()}, abi::Packet::kWelcome,
                          given);
}

}  // namespace elsewhere::runtime
