// Signal handlers that are told a pid (siginfo_t::si_pid) on a worker.
#pragma once

#include <signal.h>
#include <stdint.h>
#include <sys/types.h>

namespace elsewhere::preload {

// After a restore: handlers that were installed at home are run by ours from now on.
void TranslateSignalHandlers();

// How many handlers this thread has run on a worker: all, or those that interrupt system calls (installed
// without SA_RESTART). At home, always 0.
uint32_t HandlersRun(bool restarting_too);

// Session pids in place of kernel pids, where the kind of signal carries one.
void TranslateSiginfo(siginfo_t* info);

// The same for what was read from a signalfd; `size` as read returned it.
void TranslateSignals(void* read, ssize_t size);

}  // namespace elsewhere::preload
