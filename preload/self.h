// Who this process is: its session, the host it runs on, its pids.
//
// A process has two pids. The kernel's, in its host's pid namespace, is what system calls speak; the
// session's is the pid of its deputy at home, and what the program sees. At home they are equal and nothing
// is translated. Set once at start-up from the environment, again by a fork and by a restore; readable at any
// time, also from a signal handler. Between vfork and exec the child reads its parent's.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>

#include "shim/wire/abi.h"

namespace elsewhere::preload {

inline constexpr size_t kPathSize = 4096;
inline constexpr size_t kMapsSize = 4200;

struct Self {
  std::atomic<uint32_t> host;  // 0: home
  std::atomic<bool> in_session;
  bool may_start_session;  // was started without a launcher: has a session when it first needs one
  bool fork_remote;        // policy of the session: children go elsewhere
  std::atomic<int32_t> kernel_pid;
  std::atomic<int32_t>
      session_pid;   // 0: not known yet (a child that was made on a worker asks when it is asked)
  int32_t lifeline;  // descriptor, -1: none
  char agent_socket[abi::kSocketPathSize];
  char session[33];
  char maps[kMapsSize];     // as kEnvMaps has them; empty: none
  char library[kPathSize];  // this shared object, for LD_PRELOAD of programs to come
};

extern constinit Self self;

inline bool OnWorker() {
  return self.host.load(std::memory_order_relaxed) != 0;
}

// The pid that the program sees. Asks the agent once where it is not known; the kernel's if nobody knows.
pid_t SessionPid();

// In the child of a real fork that stays on this host: forgets what belonged to the parent alone.
void ResetSelfAfterFork();

// In a process that was restored on a worker, before anything of the program runs.
void BecomeRestored(const abi::RestoreNote& note);

// True in the child of a vfork, which runs in its parent's memory and must change nothing there.
bool InVforkChild();

}  // namespace elsewhere::preload
