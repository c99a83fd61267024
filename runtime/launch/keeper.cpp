#include "runtime/launch/keeper.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "runtime/launch/preflight.h"
#include "runtime/session.h"

namespace elsewhere::runtime {
namespace {

constexpr std::chrono::milliseconds kKillMayTake{10000};

void LeaveTerminalAndPipes() {
  setsid();
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) dup2(null, descriptor);
  (void)!chdir("/");
}

// True when the agent said that the session has ended; false when it died before.
bool AwaitEnd(const LaunchedSession& session) {
  std::array<char, 4096> message;
  for (;;) {
    ssize_t size = recv(session.control, message.data(), message.size(), 0);
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) return false;
    if (std::string_view(message.data(), static_cast<size_t>(size)) == control::kEnded) return true;
  }
}

[[noreturn]] void Keep(const LaunchedSession& session, const std::string& redis) {
  LeaveTerminalAndPipes();
  if (AwaitEnd(session)) _exit(0);
  KillProcesses(session.mark, kKillMayTake);
  RemoveTraces(session, redis);
  _exit(0);
}

}  // namespace

void StayInBackground(LaunchedSession& session, const std::string& redis) {
  if (fork() == 0) Keep(session, redis);
}

void RemoveTraces(const LaunchedSession& session, const std::string& redis) {
  // A Redis that cannot be reached any more lets the keys expire.
  if (!redis.empty()) (void)RemoveKeys(redis, session.mark.id);
  session.directory.Remove();
}

}  // namespace elsewhere::runtime
