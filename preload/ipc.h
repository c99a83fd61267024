// Process-shared objects of this process across forks and restores.
#pragma once

#include <stdint.h>

namespace elsewhere::preload {

// Why children of this process cannot run on another host; nullptr: nothing of this family stands against it.
// Set once the program uses an object that other processes would use in place and that cannot be promoted;
// inherited by children. Reasons are literals.
const char* ReasonToStayHome();
void StayHome(const char* reason);

// Around every real fork of a process, in this order, with all signals blocked. `child`: its kernel pid, or
// -1 where the fork failed. The parent tells the agent which named semaphores the child holds, before it can
// close any of them.
void IpcBeforeFork();
void IpcAfterForkInParent(int child);
// After ForgetAgentAfterFork. A deputy talks to the agent on its own; another child that holds named
// semaphores registers with the agent, which then notices its death.
void IpcAfterForkInChild(bool deputy);

// In a restored process, before fork returns 0.
void IpcAfterRestore();

namespace named {
void AfterForkInParent(int child);
void AfterForkInChild(bool deputy);
}  // namespace named

}  // namespace elsewhere::preload
