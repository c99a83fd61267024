// What a deputy becomes once its child runs elsewhere: a process of the same pid, parent, group and session
// that holds next to no memory and answers for the child at home.
//
// It forwards every signal it is sent, makes system calls for the child, forks further deputies for the
// child's own forks, stops when the child stopped, and ends as the child ended. Its connection to the agent
// is its life: when that breaks, the session is over and the proxy ends by SIGKILL.
//
// Freestanding: runs with libc unmapped.
#pragma once

#include <stdint.h>

namespace elsewhere::proxy {

struct Start {
  int socket;                // connection to the agent
  int signals;               // non-blocking signalfd of all signals, made by this process
  int lifeline;              // kept open, -1: none
  int manifest;              // the deputy's own capture: names the memory that is kept
  const char* agent_socket;  // path, for the deputies of nested forks
  uint64_t rseq;             // registered for this thread, 0: none
  uint32_t rseq_size;
  uint32_t rseq_signature;
};

// Returns only if it could not begin; nothing has changed then. All signals must be blocked.
void Become(const Start& start);

}  // namespace elsewhere::proxy
