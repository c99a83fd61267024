// fork() and what it leaves behind.
#pragma once

#include <sys/types.h>

namespace elsewhere::preload {

// Did this process fork a child that may have run elsewhere? Until then nobody needs to be asked what
// children used.
bool HadRemoteChildren();

// On a worker: gives a child that the kernel just made its pid in the session and remembers both. The
// session's pid; -1 and errno when there is none: the child is killed and reaped.
pid_t RegisterNestedChild(pid_t kernel_pid);

}  // namespace elsewhere::preload
