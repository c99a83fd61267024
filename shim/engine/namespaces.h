// Starting one process in namespaces of its own. Internal to shim/engine.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "shim/engine/engine.h"

namespace elsewhere::engine {

struct StartedProcess {
  pid_t pid = 0;
  int pidfd = -1;  // owned by the receiver, close-on-exec
};

// Executes `command` as process 1 of new user, pid, IPC, UTS and mount namespaces (isolated), or as a plain
// process, in a session of its own, standard input and output on /dev/null, standard error inherited, no
// other descriptor. It gets SIGKILL when the calling thread ends. Returns when the program is being executed
// or could not be.
Result<StartedProcess> StartProcess(const WorkerCommand& command, bool isolated);

}  // namespace elsewhere::engine
