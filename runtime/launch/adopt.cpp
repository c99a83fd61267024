#include "runtime/launch/adopt.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>

#include "runtime/exit_status.h"
#include "runtime/launch/installation.h"
#include "runtime/launch/keeper.h"
#include "runtime/launch/launched_session.h"
#include "runtime/launch/options.h"
#include "runtime/launch/preflight.h"
#include "runtime/launch/session_directory.h"
#include "runtime/launch/summary.h"

namespace elsewhere::runtime {
namespace {

constexpr std::chrono::milliseconds kKillMayTake{10000};

int Fail(const std::string& message) {
  Say(message);
  return kExitFailure;
}

// Away from the program: not its child, not in its terminal's reach, nothing of its standard descriptors but
// the error output.
void Detach() {
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  signal(SIGCHLD, SIG_DFL);
  signal(SIGPIPE, SIG_IGN);
  if (fork() != 0) _exit(0);
  setsid();
  LetOwnerUseFiles();
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  dup2(null, STDIN_FILENO);
  dup2(null, STDOUT_FILENO);
}

void Tell(const LaunchedSession& session, const std::string& message) {
  (void)send(session.control, message.data(), message.size(), MSG_NOSIGNAL);
}

enum class AgentSays { kNothing, kEnded, kGone };

AgentSays ReadAgent(const LaunchedSession& session, const Options& options) {
  std::vector<char> buffer(kControlMessageSize);
  ssize_t size = recv(session.control, buffer.data(), buffer.size(), 0);
  if (size < 0 && errno == EINTR) return AgentSays::kNothing;
  if (size <= 0) return AgentSays::kGone;
  const std::string message(buffer.data(), static_cast<size_t>(size));
  const size_t space = message.find(' ');
  const std::string word = message.substr(0, space);
  const std::string text = space == std::string::npos ? "" : message.substr(space + 1);
  if (word == control::kFailed) Say(text);
  if (word == control::kReport) PrintReport(text, options.stats);
  return word == control::kEnded ? AgentSays::kEnded : AgentSays::kNothing;
}

int Watch(const LaunchedSession& session, const Options& options) {
  std::array<pollfd, 2> events{{{session.root_pidfd, POLLIN, 0}, {session.control, POLLIN, 0}}};
  for (;;) {
    if (poll(events.data(), events.size(), -1) < 0) continue;
    if (events[0].revents != 0) {
      events[0].fd = -1;
      // Not our child: where the kernel does not tell (see exit_status.h), it has ended like any other.
      const auto ended = StatusOfEnded(session.root, session.root_pidfd);
      Tell(session, std::string(control::kRootEnded) + " " + std::to_string(ended ? ended->status : 0));
    }
    if (events[1].revents == 0) continue;
    switch (ReadAgent(session, options)) {
      case AgentSays::kNothing:
        break;
      case AgentSays::kEnded:
        return 0;
      case AgentSays::kGone:
        Say("the session's agent is gone: everything is ended");
        KillProcesses(session.mark, kKillMayTake);
        RemoveTraces(session, options.redis);
        return kExitFailure;
    }
  }
}

}  // namespace

int Adopt(int argc, char** argv) {
  if (argc != 2) return Fail("adopt is for the preload only");
  const pid_t root = std::atoi(argv[0]);
  const int reply = std::atoi(argv[1]);
  fcntl(reply, F_SETFD, FD_CLOEXEC);
  int root_pidfd = static_cast<int>(syscall(SYS_pidfd_open, root, 0));
  if (root_pidfd < 0) return Fail(std::string("cannot watch the program: ") + std::strerror(errno));
  Detach();
  ParsedOptions parsed = ParseOptions({"run", "adopted"}, [](const char* name) { return std::getenv(name); });
  if (!parsed.ok) return Fail(parsed.error.message);
  Result<Installation> installation = FindInstallation();
  if (!installation.ok()) return Fail(installation.error().message);
  if (Status services = CheckServices(parsed.options); !services.ok()) return Fail(services.error().message);
  LaunchResult adopted = AdoptSession(parsed.options, *installation, root, root_pidfd, reply);
  if (adopted.session == nullptr) return Fail(adopted.error.message);
  close(reply);
  return Watch(*adopted.session, parsed.options);
}

}  // namespace elsewhere::runtime
