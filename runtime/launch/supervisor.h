// From COMMAND's start to the end of the launcher: signals, the agent's messages, ends of every kind.
//
// Who may die, and what follows:
//   COMMAND ends            the agent is told; nobody else left: the launcher waits until everything is
//   cleaned up;
//                           others left: the launcher returns and a keeper stays in its place
//   COMMAND by a signal     the same, but the agent ends all other processes first
//   agent dies or fails     one line; every process of the session is killed, its directory removed
//   launcher is killed      the agent sees its connection end and does the same
// Signals: what the terminal or `kill` sends to the launcher's whole group, COMMAND has already; what is sent
// to the launcher alone is sent on to COMMAND (witness.h tells the two apart). A second SIGINT to the group
// ends everything. SIGTSTP and SIGSTOP act on the launcher as on any process: a group stops and continues
// together.
#pragma once

#include <optional>
#include <string>

#include "runtime/launch/launched_session.h"
#include "runtime/launch/options.h"

namespace elsewhere::runtime {

// Blocks the signals that Supervise handles, and takes a umask that leaves the session's files usable, in
// this process; must come before LaunchSession.
Inherited TakeInherited();

// Returns the launcher's exit status.
int Supervise(LaunchedSession& session, const Options& options);

}  // namespace elsewhere::runtime
