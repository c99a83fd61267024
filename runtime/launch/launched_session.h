// One session from the launcher's side: everything that is made before its first process runs.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>

#include "runtime/launch/installation.h"
#include "runtime/launch/options.h"
#include "runtime/launch/processes.h"
#include "runtime/launch/program.h"
#include "runtime/launch/session_directory.h"
#include "runtime/launch/spawn.h"

namespace elsewhere::runtime {

struct LaunchedSession {
  explicit LaunchedSession(SessionDirectory made) : directory(std::move(made)) {}
  LaunchedSession(const LaunchedSession&) = delete;
  LaunchedSession& operator=(const LaunchedSession&) = delete;
  ~LaunchedSession();

  SessionDirectory directory;
  SessionMark mark;
  int control = -1;        // SOCK_SEQPACKET to the agent (runtime/session.h)
  int lifeline_read = -1;  // hangs up when no process of the session is left
  int agent_pidfd = -1;
  int root_pidfd = -1;  // of an adopted root
  pid_t agent = 0;
  pid_t root = 0;  // COMMAND
};

struct LaunchResult {
  std::unique_ptr<LaunchedSession> session;  // empty: error says why, and nothing is left
  LaunchError error;
};

// Starts the agent and, at once, COMMAND: what needs the agent waits for it, what does not is not held up.
// `signals`: what COMMAND is to inherit.
LaunchResult LaunchSession(const Options& options, const Program& program, const Installation& installation,
                           const Inherited& inherited);

// The same for a process that runs already: starts the agent and hands agent and lifeline over through
// `reply`, as adopt.h says. Takes root_pidfd.
LaunchResult AdoptSession(const Options& options, const Installation& installation, pid_t root,
                          int root_pidfd, int reply);

}  // namespace elsewhere::runtime
