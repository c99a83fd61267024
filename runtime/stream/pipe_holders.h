// Who on this machine has an end of an anonymous pipe, as /proc shows it. Source: proc(5).
//
// One look is no snapshot: a descriptor that goes from a process that was not looked at yet to one that was
// is missed. Whoever decides by it looks twice (HeldBySelfAlone, packet_mode.h). Costs milliseconds.
#pragma once

#include <sys/types.h>

#include <vector>

#include "runtime/agent.h"

namespace elsewhere::runtime::stream {

struct PipeHolder {
  pid_t process;
  int number;
  int flags;  // O_* of the description
};

struct PipeHolders {
  std::vector<PipeHolder> all;  // this process's own too
  // A process that may be of the session cannot be looked at.
  bool unseen = false;
  // Descriptors, of whatever, are in flight over a Unix socket of the session, or that cannot be told.
  bool in_flight = false;
};

// `pipe`: an end of it, or an O_PATH descriptor.
PipeHolders FindPipeHolders(const Agent& agent, int pipe);

// No process but this one has an end of it, nor will one that has not got it from here; and this one has
// `own` descriptors of it.
bool HeldBySelfAlone(const Agent& agent, int pipe, size_t own);

}  // namespace elsewhere::runtime::stream
