// Signal handlers that are told a pid (siginfo_t::si_pid) on a worker.
#pragma once

#include <signal.h>

namespace elsewhere::preload {

// After a restore: handlers that were installed at home get their siginfo with session pids from now on.
void TranslateSignalHandlers();

// Session pids in place of kernel pids, where the kind of signal carries one.
void TranslateSiginfo(siginfo_t* info);

}  // namespace elsewhere::preload
