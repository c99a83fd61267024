// Talking to the agent of this host (shim/wire/abi.h).
//
// The connection is made by the first call that needs it: a program that never forks and shares nothing
// starts as fast as ever. It is made anew in the child of a fork and after a restore. Thread-safe and
// async-signal-safe throughout: a call owns its slot of the shared table and waits on the slot's own futex,
// no lock is held and nothing is allocated. Liveness: an agent that dies takes the session with it, and this
// process too; waits need no timeout.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <initializer_list>

#include "shim/wire/abi.h"

namespace elsewhere::preload {

// Connects and registers where that has not happened. nullptr: no session, or the agent refused (errno:
// ENOTCONN, or the connection's own error).
abi::Table* AgentTable();

// The table if this process is connected already, else nullptr. Never connects.
extern constinit std::atomic<abi::Table*> connected_table;
inline abi::Table* ConnectedTable() {
  return connected_table.load(std::memory_order_acquire);
}

enum class Interruption {
  kNone,     // a signal handler runs, the call goes on
  kTimed,    // as kAllowed, but also after a handler with SA_RESTART: as a system call with a timeout
  kAllowed,  // as a blocking system call: EINTR after a handler without SA_RESTART, unless the call was done
             // by then
};

struct Payload {
  const void* data = nullptr;   // sent
  size_t size = 0;              // at most abi::kSlotPayload, else E2BIG
  void* answer = nullptr;       // where the answer's payload goes
  size_t room = 0;              // what is longer is cut
  bool* interrupted = nullptr;  // set when a handler ran while the answer was awaited, whatever the answer is
};

// One call: claims a slot, hands it over, waits for the answer. Returns the result; -1 sets errno (ENOTCONN:
// there is no agent; EAGAIN: no slot is free), success leaves errno alone. `unheard`: it returns 0 once the
// call is handed over, mostly; the agent takes it before every call that follows from it.
int64_t CallAgent(abi::Operation operation, std::initializer_list<int64_t> arguments,
                  const Payload& payload = {}, Interruption interruption = Interruption::kNone,
                  bool unheard = false);

// How many calls this thread has made.
uint32_t CallsOfThread();

// One line for the end-of-run summary. Says nothing where nobody listens; keeps errno.
void NoteForSummary(const char* line);

// A fresh connection to the agent at `path`, at a number of ours, close-on-exec; -errno on failure. For those
// who speak packets: deputies, and the above.
int ConnectToAgent(const char* path);

// Maps the table where that has not happened; for deputies, whose image takes the mapping along. nullptr: not
// a table.
abi::Table* MapAgentTable(int descriptor);

// The descriptor that the agent offers under `token` (abi::Role::kFetch), close-on-exec; -errno.
int FetchDescriptor(uint64_t token);

// In a child of a real fork: the parent's connection and doorbell are not ours.
void ForgetAgentAfterFork();

// A descriptor of ours has another number now.
void AgentDescriptorMoved(int from, int to);

// After a restore: the new host's table is mapped where the old one's was, `doorbell` is that host's, and the
// agent knows the process already.
void TakeAgentAfterRestore(int doorbell);

}  // namespace elsewhere::preload
