// Terminals of home in a process on a worker: whose turn it is, and by which name they go (see terminal.cpp).
#pragma once

namespace elsewhere::preload {

// The caller's group is in the background of its terminal. Sends it `signal` (SIGTTIN or SIGTTOU), as the
// kernel would. True: the call that was refused is to be made again, a stop is over. False: it fails with the
// errno that was set (EIO: the signal is ignored or blocked, or nobody could continue the group; EINTR: a
// handler ran).
bool AwaitForeground(int signal);

// Before a call that changes terminal `fd`: true if it may go on. False as above.
bool MayChangeTerminal(int fd);

// A copy of a descriptor of the terminal that controls this process at home, opened with `flags`; -1 and
// ENXIO: the process has none.
int OpenControllingTerminal(int flags);

// tcgetpgrp and its kin as ioctl requests; the caller knows that fd is a terminal of home.
bool IsJobControlRequest(unsigned long request);
int JobControlRequest(int fd, unsigned long request, void* argument);

}  // namespace elsewhere::preload
