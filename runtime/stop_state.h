// Is a process stopped, or about to be?
#pragma once

#include <sys/types.h>

namespace elsewhere::runtime {

// Blocks the signal that makes signal watches wake this process (shim/wire/signal_watch.h), and sends it.
// Children must be started with signals of their own.
void PrepareSignalWatches();

// True for a process that is stopped or has an unhandled SIGSTOP.
bool IsStopped(pid_t pid);

}  // namespace elsewhere::runtime
