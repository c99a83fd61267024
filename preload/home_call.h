// A system call with integer arguments, made at home by this process's deputy.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "preload/agent.h"
#include "preload/self.h"

namespace elsewhere::preload {

// For processes on a worker. Returns the result; -1 sets errno, EIO where nobody answers.
inline int64_t HomeCall(long number, std::initializer_list<int64_t> arguments) {
  int64_t words[6] = {number};
  size_t count = 1;
  for (const int64_t argument : arguments) words[count++] = argument;
  SessionPid();  // a child just made has no deputy before it has a pid
  return CallAgent(abi::Operation::kHomeCall, {words[0], words[1], words[2], words[3], words[4], words[5]});
}

}  // namespace elsewhere::preload
