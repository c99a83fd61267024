// The two processes that the launcher starts: the home agent and COMMAND.
// Thread-safety: none; they fork. Errors: one line.
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

#include "runtime/launch/options.h"
#include "shim/wire/result.h"

namespace elsewhere::runtime {

// What the launcher changed for itself and COMMAND must not inherit.
struct Inherited {
  sigset_t signals;        // blocked
  struct sigaction child;  // disposition of SIGCHLD
  mode_t file_mask;        // umask
};

struct AgentStart {
  std::string runtime;                 // program
  std::vector<std::string> arguments;  // behind its name
  std::vector<int> descriptors;        // that it inherits besides 0 to 2
  std::vector<std::string> environment;
  bool keep_standard_error = false;
};

// In a session of its own, out of the terminal's reach; standard input and output on /dev/null.
Result<pid_t> SpawnAgent(const AgentStart& start);

struct CommandStart {
  std::string path;
  std::vector<std::string> arguments;
  std::vector<std::string> environment;
  int lifeline = -1;  // inherited
  Inherited inherited;
};

// A program without "#!" that the kernel does not know is run by /bin/sh, as execvp(3) does.
struct SpawnedCommand {
  pid_t pid = 0;
  bool ok = true;
  LaunchError error;
};
SpawnedCommand SpawnCommand(const CommandStart& start);

// `base` (as environ(7)) with variables replaced or added; an empty value removes one.
std::vector<std::string> MakeEnvironment(char** base, const std::map<std::string, std::string>& changes);

}  // namespace elsewhere::runtime
