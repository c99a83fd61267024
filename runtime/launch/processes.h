// The processes of a session, found from outside: for the launcher when the agent cannot say, and for what a
// dead session left. Source: proc(5).
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace elsewhere::runtime {

// What marks a process as one of a session: ELSEWHERE_SESSION=<id> in the environment it was started with,
// or, where a program has overwritten that, an open write end of the session's lifeline pipe.
struct SessionMark {
  std::string id;
  int lifeline_number = -1;     // descriptor number that the lifeline has in the session's processes; -1: any
  uint64_t lifeline_inode = 0;  // of the pipe; 0: not known
};

// Living processes of the session, on home and on local workers, without the caller. Zombies do not count.
std::vector<pid_t> FindProcesses(const SessionMark& mark);

// Kills them, and those that they fork meanwhile, until none is left or the time is over. Answers whether
// none is.
bool KillProcesses(const SessionMark& mark, std::chrono::milliseconds limit);

// Kills a child of the caller that has children of its own, and these, and returns when all are gone and the
// child is waited for. It is stopped first, so that it starts nothing new meanwhile.
void KillWithChildren(pid_t child, std::chrono::milliseconds limit);

}  // namespace elsewhere::runtime
