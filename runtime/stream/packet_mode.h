// Packet mode (O_DIRECT) of pipes on a worker, which is ours and not the program's (local_object.h).
#pragma once

#include <vector>

#include "runtime/agent.h"
#include "runtime/stream/descriptor.h"

namespace elsewhere::runtime::stream {

// All open file descriptions of a pipe's write end on this host, by descriptors of ours. They belong to their
// processes still: while these are kept, the last writer's end is not seen.
class PipeWriters {
 public:
  enum class Found { kAll, kNotNow, kNotPermitted };
  // `pipe`: the agent's read end.
  Found Find(const Agent& agent, int pipe);
  // From now on they are the pipe's as the program made it: neither packets nor mark. A write that waits for
  // room meanwhile goes on without packets, for the kernel looks at the flag for each buffer, with the pipe
  // locked (pipe_write in fs/pipe.c).
  void EndPackets();

 private:
  Found Gather(const Agent& agent, int pipe);
  std::vector<Descriptor> descriptions_;  // a description may be there more than once
};

}  // namespace elsewhere::runtime::stream
