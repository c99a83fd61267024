// Whom a call is about that names a process by its pid, for calls that are made on this host.
#pragma once

#include <sys/types.h>

namespace elsewhere::preload {

// The kernel's pid of a process or thread of this host; 0 and negative numbers stay. -1: it is not here.
pid_t LocalTarget(pid_t session_pid);

// F_SETOWN and F_GETOWN, and those of locks: commands of fcntl whose argument or answer is a pid.
bool CommandNamesProcess(int command);
int ControlByPid(int fd, int command, void* argument);

}  // namespace elsewhere::preload
