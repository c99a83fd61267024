// The command line of `elsewhere`, and its environment twins, as values. No I/O.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "shim/wire/result.h"

namespace elsewhere::runtime {

// Exit statuses of ours; all others are COMMAND's. The same as those of env(1) and timeout(1).
inline constexpr int kExitUsage = 2;
inline constexpr int kExitFailure = 125;
inline constexpr int kExitNotExecutable = 126;
inline constexpr int kExitNotFound = 127;

// One line for the user and the status to end with.
struct LaunchError {
  int status = kExitFailure;
  std::string message;
};

enum class Action { kRun, kDoctor, kHelp, kVersion };
enum class Stats { kNone, kHuman, kJson };

struct Options {
  Action action = Action::kRun;
  uint32_t workers = 0;                       // 0: as many as there are cores
  std::string redis;                          // empty: a private one
  std::string store;                          // empty: a directory of the session
  std::string maps;                           // DIRECTORY=URL[:ro][:plain], joined by ';'
  std::string endpoint;                       // of S3; empty: from the environment
  uint64_t cache_bytes = uint64_t{10} << 30;  // of the mapped files' cache on each host
  bool write_back = false;                    // a close of a mapped file does not wait for the store
  bool fork_remote = true;
  bool direct_messages = true;  // between home and workers that can reach each other
  Stats stats = Stats::kNone;
  bool strict = false;
  bool colocate = false;  // children that share memory stay where it is
  bool verbose = false;
  std::vector<std::string> command;  // with kRun: never empty
};

// Hosts are numbered from 1; 0 is home.
inline constexpr uint32_t kMostWorkers = 63;

// The value of an environment variable; nullptr: not set. As getenv, but the caller's choice.
using Environment = std::function<const char*(const char*)>;

// `arguments` without the program's name. Options beat the environment.
struct ParsedOptions {
  Options options;
  bool ok = true;
  LaunchError error;
};
ParsedOptions ParseOptions(const std::vector<std::string>& arguments, const Environment& environment);

const char* HelpText();

}  // namespace elsewhere::runtime
