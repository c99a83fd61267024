#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "runtime/launch/adopt.h"
#include "runtime/launch/doctor.h"
#include "runtime/launch/gc.h"
#include "runtime/launch/installation.h"
#include "runtime/launch/launched_session.h"
#include "runtime/launch/options.h"
#include "runtime/launch/preflight.h"
#include "runtime/launch/program.h"
#include "runtime/launch/summary.h"
#include "runtime/launch/supervisor.h"
#include "runtime/modes.h"

namespace elsewhere::runtime {
namespace {

int Fail(const LaunchError& error) {
  Say(error.message);
  return error.status;
}

int Print(const char* text) {
  std::fputs(text, stdout);
  return std::fflush(stdout) == 0 ? 0 : kExitFailure;
}

int RunCommand(const Options& options) {
  FoundProgram found = FindProgram(options.command[0], std::getenv("PATH"));
  if (!found.ok) return Fail(found.error);
  const Program& program = found.program;
  if (!program.cannot_go.empty()) {
    const std::string reason = "'" + program.path + "' " + program.cannot_go;
    if (options.strict) return Fail({kExitFailure, reason + ": not run, because of --strict"});
    Say(reason + ": it runs natively, at home");
  }
  Result<Installation> installation = FindInstallation();
  if (!installation.ok()) return Fail({kExitFailure, installation.error().message});
  if (Status services = CheckServices(options); !services.ok())
    return Fail({kExitFailure, services.error().message});
  const Inherited inherited = TakeInherited();
  LaunchResult launched = LaunchSession(options, program, *installation, inherited);
  if (launched.session == nullptr) return Fail(launched.error);
  return Supervise(*launched.session, options);
}

// What is opened here must not get the number of a standard descriptor that the caller has closed: it would
// be taken for that, here and in what is started. COMMAND finds them closed again.
void FillStandardDescriptors() {
  for (;;) {
    const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null > STDERR_FILENO) close(null);
    if (null < 0 || null > STDERR_FILENO) return;
  }
}

}  // namespace

int LaunchMain(int argc, char** argv) {
  FillStandardDescriptors();
  if (argc > 0 && std::strcmp(argv[0], "adopt") == 0) return Adopt(argc - 1, argv + 1);
  if (argc > 0 && std::strcmp(argv[0], "gc") == 0) return CollectGarbage(argc - 1, argv + 1);
  ParsedOptions parsed =
      ParseOptions({argv, argv + argc}, [](const char* name) { return std::getenv(name); });
  if (!parsed.ok) return Fail(parsed.error);
  switch (parsed.options.action) {
    case Action::kHelp:
      return Print(HelpText());
    case Action::kVersion:
      return Print("elsewhere " ELSEWHERE_VERSION "\n");
    case Action::kDoctor:
      return RunDoctor(parsed.options);
    case Action::kRun:
      break;
  }
  return RunCommand(parsed.options);
}

}  // namespace elsewhere::runtime
