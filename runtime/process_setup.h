// What agent and worker do first in their process.
#pragma once

#include <map>
#include <string>

#include "runtime/file/maps.h"
#include "shim/wire/result.h"

namespace elsewhere::runtime {

// "--name value" pairs; names in `switches` stand alone and get the value "1". EINVAL names what is wrong.
Result<std::map<std::string, std::string>> ParseArguments(int argc, char** argv, const std::string& switches);

// What --maps and its companions say; the same for agent and worker.
FileOptions FileOptionsOf(const std::map<std::string, std::string>& arguments);

// The value of an environment variable, which is removed; empty where it is not set.
std::string TakeVariable(const char* name);

// Soft limit of descriptors up to the hard one: an agent holds several for each child.
void RaiseDescriptorLimit();

// Log lines go to `path` and, if asked, to standard error.
void StartLog(const std::string& path, const std::string& name, bool to_standard_error);

// Path of this program.
std::string ProgramPath();
// elsewhere-restorer, which lies beside this program.
std::string RestorerPath();

// What the session's own store below `directory` may hold: half of the file system's room and, as it may be
// made of memory, half of that. Bytes.
uint64_t PrivateStoreQuota(const std::string& directory);

uint64_t AvailableMemory();  // bytes, as /proc/meminfo says

}  // namespace elsewhere::runtime
