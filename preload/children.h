// The children of a process on a worker, under both their pids, from the fork until they were waited for.
//
// The agent's table names processes too, but forgets one when it dies, which is before its parent waits for
// it. At home the pids are equal and this is empty. Lock-free and async-signal-safe: a slot is claimed by its
// kernel pid.
#pragma once

#include <stdint.h>
#include <sys/types.h>

namespace elsewhere::preload {

void AddChild(pid_t kernel_pid, pid_t session_pid);
void RemoveChild(pid_t kernel_pid);
// Session pids of those that were not waited for, at most `room`; how many.
uint32_t ListChildren(pid_t* to, uint32_t room);
// After a fork or a restore: they were another process's children.
void ForgetChildren();

// Translations for a process on a worker: children first, then the host's table, then this process itself.
// 0: nobody of this host.
pid_t SessionPidOf(pid_t kernel_pid);
pid_t KernelPidOf(pid_t session_pid);

}  // namespace elsewhere::preload
