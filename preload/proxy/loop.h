// The loop of a proxy. Private to preload/proxy.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "shim/wire/abi.h"

namespace elsewhere::proxy {

struct Helper;  // kernel_call.cpp

// One copy per proxy, in its block; helpers read `socket`.
struct State {
  int socket;
  int signals;         // signalfd of all signals
  uint32_t continues;  // SIGCONTs that were told to the agent
  int lifeline;
  int watches;       // epoll instance of queues that are watched, -1: none yet
  const void* kept;  // used once, while the old stack still is there
  Helper* helpers;
  uint8_t* memory;  // kInlineKernelMemory bytes, for calls that do not block
  uint32_t attached_count;
  uint64_t attached[abi::kMostAttached];  // addresses of System V segments
  char agent_socket[abi::kSocketPathSize];
};

[[noreturn]] void Loop(State* state);

// The agent is gone, so somebody is about to end the session. Until then the parent must not take the end of
// this deputy for the child's; should nobody be left to do it, it ends all the same.
[[noreturn]] void AgentLost();

// Of both parts one packet.
void SendPacket(const State& state, const void* head, size_t head_size, const void* bytes, size_t size);

}  // namespace elsewhere::proxy
