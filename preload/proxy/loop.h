// The loop of a proxy. Private to preload/proxy.
#pragma once

#include "shim/wire/abi.h"

namespace elsewhere::proxy {

struct State {
  int socket;
  int signals;  // signalfd of all signals
  int lifeline;
  const void* kept;  // used once, while the old stack still is there
  char agent_socket[abi::kSocketPathSize];
};

[[noreturn]] void Loop(State* state);

}  // namespace elsewhere::proxy
