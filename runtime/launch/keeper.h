// The keeper: what stays of the launcher when COMMAND has ended and other processes of the session live on.
// It watches the agent and, should that die, ends what the agent can no longer end.
#pragma once

#include "runtime/launch/launched_session.h"

namespace elsewhere::runtime {

// Forks the keeper, a process in a session of its own without terminal or standard descriptors, and returns
// in the launcher.
void StayInBackground(LaunchedSession& session);

}  // namespace elsewhere::runtime
