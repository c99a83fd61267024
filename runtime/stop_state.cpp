#include "runtime/stop_state.h"

#include <fcntl.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "shim/wire/signal_watch.h"

namespace elsewhere::runtime {
namespace {

struct Seen {
  bool stopped = false;
  bool stop_pending = false;
};

std::string_view FieldOf(std::string_view text, std::string_view name) {
  const size_t at = text.find(name);
  if (at == std::string_view::npos) return "";
  text.remove_prefix(at + name.size());
  return text.substr(text.find_first_not_of('\t'));
}

bool HasStop(std::string_view text, std::string_view name) {
  const std::string mask(FieldOf(text, name).substr(0, 16));
  return (std::strtoull(mask.c_str(), nullptr, 16) >> (SIGSTOP - 1) & 1) != 0;
}

Seen Look(pid_t pid) {
  const std::string path = "/proc/" + std::to_string(pid) + "/status";
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return {};
  char buffer[4096];
  const ssize_t size = read(file, buffer, sizeof buffer);
  close(file);
  const std::string_view text(buffer, size > 0 ? static_cast<size_t>(size) : 0);
  return {FieldOf(text, "\nState:").starts_with("T"),
          HasStop(text, "\nSigPnd:") || HasStop(text, "\nShdPnd:")};
}

}  // namespace

void PrepareSignalWatches() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, wire::kAlwaysPending);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  raise(wire::kAlwaysPending);
}

// The kernel takes the signal from the queue and stops the process in one step, but the file shows the state
// first: a second look sees the state of a time at which the signal was not pending any more.
bool IsStopped(pid_t pid) {
  const Seen first = Look(pid);
  return first.stopped || first.stop_pending || Look(pid).stopped;
}

}  // namespace elsewhere::runtime
