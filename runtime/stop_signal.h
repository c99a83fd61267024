// Terminal stop signals on a worker.
//
// The kernel discards SIGTSTP, SIGTTIN and SIGTTOU with their default action in an orphaned process group,
// which is what restored processes form on a worker: their real group, with its shell, is home's. There the
// decision to stop has been made when the signal arrives here.
#pragma once

#include <sys/types.h>

namespace elsewhere::runtime {

// The signal that has the effect of `signal` on the process: SIGSTOP for a stop signal that it neither
// handles, ignores nor blocks, else `signal` itself.
int EffectiveSignal(pid_t pid, int signal);

}  // namespace elsewhere::runtime
