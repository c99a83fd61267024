// The environment of programs to come: what keeps them in the session survives `env -i`, clearenv and
// hand-made environments. Async-signal-safe and usable between vfork and exec: works on the caller's stack
// only.
#pragma once

#include <alloca.h>

#include <cstddef>

#include "shim/wire/abi.h"

namespace elsewhere::preload {

// Internal to the preload: "kernel:session", the pids of a process that execs on a worker.
inline constexpr char kEnvIdentity[] = "ELSEWHERE_IDENTITY";

// Set where the process that execs has queues or segments at home, which the program must end there.
inline constexpr char kEnvExecuted[] = "ELSEWHERE_EXECUTED";

// Set where the process that execs at home has been passed descriptors of other hosts' objects.
inline constexpr char kEnvStreams[] = "ELSEWHERE_STREAMS";

inline constexpr size_t kOwnVariables = 10;
inline constexpr size_t kOwnVariablesSize = 512;  // all but LD_PRELOAD and the maps

// The value of `name`, or nullptr. A null environment is empty.
const char* FindVariable(char* const* environment, const char* name);

// How much room BuildEnvironment needs: `entries` pointers and `bytes` of text.
struct EnvironmentSize {
  size_t entries;
  size_t bytes;
};
EnvironmentSize MeasureEnvironment(char* const* environment);

// `environment` with our variables in place of whatever it said for them, into the room given.
void BuildEnvironment(char* const* environment, char** entries, char* bytes);

// Calls `run` with the environment that the program must get.
template <class Run>
auto WithSessionEnvironment(char* const* environment, Run run) {
  const EnvironmentSize size = MeasureEnvironment(environment);
  if (size.entries == 0) return run(environment);
  auto** entries = static_cast<char**>(alloca(size.entries * sizeof(char*)));
  auto* bytes = static_cast<char*>(alloca(size.bytes));
  BuildEnvironment(environment, entries, bytes);
  return run(static_cast<char* const*>(entries));
}

}  // namespace elsewhere::preload
