#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "runtime/home_session.h"
#include "runtime/modes.h"
#include "runtime/process_setup.h"
#include "runtime/stop_state.h"

namespace elsewhere::runtime {

int AgentMain(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN);  // the user's limit is an error of the call
  PrepareSignalWatches();
  RaiseDescriptorLimit();
  auto arguments = ParseArguments(argc, argv, " colocate strict verbose count-objects ");
  if (!arguments) {
    std::fprintf(stderr, "elsewhere: %s\n", arguments.error().message.c_str());
    return 125;
  }
  auto& given = *arguments;
  for (const char* needed : {"session", "directory", "listen", "control", "lifeline", "workers"}) {
    if (given.contains(needed)) continue;
    std::fprintf(stderr, "elsewhere: agent: --%s is missing\n", needed);
    return 125;
  }
  HomeSession::Options options;
  options.session = given["session"];
  options.directory = given["directory"];
  options.listener = std::atoi(given["listen"].c_str());
  options.control = std::atoi(given["control"].c_str());
  options.lifeline = std::atoi(given["lifeline"].c_str());
  options.workers = static_cast<uint32_t>(std::strtoul(given["workers"].c_str(), nullptr, 10));
  options.redis = TakeVariable(kEnvRedis);
  options.store = given["store"];
  options.files = FileOptionsOf(given);
  options.fork_remote = given["fork"] != "local";
  options.direct = given["messages"] != "broker";
  options.colocate = given.contains("colocate");
  options.count_objects = given.contains("count-objects");
  options.strict = given.contains("strict");
  options.verbose = given.contains("verbose");
  const SessionLayout layout(options.directory);
  mkdir(layout.LogDirectory().c_str(), 0700);
  StartLog(layout.Log(0), "agent", options.verbose);
  return HomeSession::Run(options);
}

}  // namespace elsewhere::runtime
