// The keeper: what stays of the launcher when COMMAND has ended and other processes of the session live on.
// It watches the agent and, should that die, ends what the agent can no longer end.
#pragma once

#include <string>

#include "runtime/launch/launched_session.h"

namespace elsewhere::runtime {

// Forks the keeper, a process in a session of its own without terminal or standard descriptors, and returns
// in the launcher.
void StayInBackground(LaunchedSession& session, const std::string& redis);

// What is left when the last process has been killed: keys in the Redis at URL `redis` (empty: it was
// private), and the directory.
void RemoveTraces(const LaunchedSession& session, const std::string& redis);

}  // namespace elsewhere::runtime
