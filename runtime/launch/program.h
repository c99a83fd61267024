// What COMMAND is, before it is started: where it lies, and whether the preload can get into it.
// Sources: execve(2), ld.so(8) "Secure-execution mode", elf(5). Reads files, changes nothing. Thread-safe.
#pragma once

#include <string>

#include "runtime/launch/options.h"

namespace elsewhere::runtime {

struct Program {
  std::string path;       // what is to be executed
  std::string cannot_go;  // why its processes stay at home: one line; empty when they need not
};

struct FoundProgram {
  Program program;
  bool ok = true;
  LaunchError error;  // 127: not found; 126: found, cannot be executed
};

// `name` as execvp(3) would find it: in `search_path` (colons between) unless it has a slash.
FoundProgram FindProgram(const std::string& name, const char* search_path);

// Why the preload does not get into this program: statically linked, set-user-id or of another machine type.
// For a script: into its interpreter. Empty when it does.
std::string ReasonToStayAtHome(const std::string& path);

}  // namespace elsewhere::runtime
