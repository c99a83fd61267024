#include "runtime/ipc/thread_watch.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

namespace elsewhere::runtime {
namespace {

constexpr unsigned kPidfdThread = O_EXCL;  // PIDFD_THREAD

int OpenPidfd(uint32_t thread, unsigned flags) {
  return static_cast<int>(syscall(SYS_pidfd_open, thread, flags));
}

// The process of a thread; 0: there is none.
uint32_t ProcessOf(uint32_t thread) {
  std::ifstream status("/proc/" + std::to_string(thread) + "/status");
  for (std::string word; status >> word;) {
    uint32_t process = 0;
    if (word == "Tgid:" && status >> process) return process;
    status.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  return 0;
}

}  // namespace

void ThreadWatch::Watch(uint32_t thread) {
  if (!pidfds_.emplace(thread, -1).second) return;
  int pidfd = OpenPidfd(thread, kPidfdThread);
  if (pidfd < 0 && errno == EINVAL) pidfd = OpenPidfd(ProcessOf(thread), 0);
  if (pidfd < 0 || !loop_.Add(pidfd, EPOLLIN, [this, thread](uint32_t) { Report(thread); }).ok()) {
    if (pidfd >= 0) close(pidfd);
    loop_.Defer([this, thread] { Report(thread); });
    return;
  }
  pidfds_[thread] = pidfd;
}

void ThreadWatch::Look() {
  std::vector<uint32_t> dead;
  for (const auto& [thread, pidfd] : pidfds_) {
    pollfd one{pidfd, POLLIN, 0};
    if (pidfd < 0 || poll(&one, 1, 0) == 1) dead.push_back(thread);
  }
  for (const uint32_t thread : dead) Report(thread);
}

void ThreadWatch::Report(uint32_t thread) {
  const auto found = pidfds_.find(thread);
  if (found == pidfds_.end()) return;
  if (found->second >= 0) {
    loop_.Remove(found->second);
    close(found->second);
  }
  pidfds_.erase(found);
  died_(thread);
}

void ThreadWatch::Clear() {
  for (const auto& [thread, pidfd] : pidfds_) {
    if (pidfd < 0) continue;
    loop_.Remove(pidfd);
    close(pidfd);
  }
  pidfds_.clear();
}

}  // namespace elsewhere::runtime
