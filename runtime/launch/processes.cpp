#include "runtime/launch/processes.h"

#include <dirent.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "shim/wire/abi.h"

namespace elsewhere::runtime {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

std::string ReadAll(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream content;
  content << file.rdbuf();
  return content.str();
}

// What /proc/PID/stat says. The name in it may contain anything, also ')'.
struct Status {
  char state = '\0';            // its letter; 0: gone
  bool between_images = false;  // in the middle of an exec: its environment cannot be read at the moment
};

Status StatusOf(const std::string& directory) {
  const std::string text = ReadAll(directory + "/stat");
  const size_t end = text.rfind(')');
  if (end == text.npos) return {};
  std::istringstream fields(text.substr(end + 1));
  Status status;
  fields >> status.state;
  constexpr int kMemorySize = 23, kEnvironmentEnd = 51;
  uint64_t memory_size = 0;
  std::string field;
  for (int number = 4; number <= kEnvironmentEnd && fields >> field; ++number) {
    if (number == kMemorySize) memory_size = std::strtoull(field.c_str(), nullptr, 10);
    // A kernel thread has no environment either, but no memory either.
    if (number == kEnvironmentEnd) status.between_images = field == "0" && memory_size != 0;
  }
  return status;
}

// A process that is just executing a program has an empty environment until the kernel has laid the new one
// out, a matter of microseconds; overlooking it then would let it survive its session. Environment and status
// are read one after the other, so an exec may lie between: only a row of such readings proves that there is
// nothing to read.
std::string EnvironmentOf(const std::string& directory) {
  const std::string path = directory + "/environ";
  if (!std::ifstream(path)) return {};  // another user's, or gone
  const auto deadline = steady_clock::now() + milliseconds(200);
  for (int settled = 0; settled < 16;) {
    std::string environment = ReadAll(path);
    if (!environment.empty()) return environment;
    if (!StatusOf(directory).between_images) ++settled;
    if (steady_clock::now() > deadline) break;  // its program is on a file system that hangs
    sched_yield();
  }
  return {};
}

bool HasMarkInEnvironment(const std::string& directory, const std::string& id) {
  const std::string environment = '\0' + EnvironmentOf(directory) + '\0';
  const std::string wanted = '\0' + (std::string(abi::kEnvSession) + "=" + id) + '\0';
  return environment.find(wanted) != environment.npos;
}

// Of a link in /proc/PID/fd: its permissions are the descriptor's access mode. The lifeline's other end is
// the agent's.
bool IsWritable(const std::string& path) {
  struct stat link;
  return lstat(path.c_str(), &link) == 0 && (link.st_mode & S_IWUSR) != 0;
}

bool IsLifeline(const std::string& path, const SessionMark& mark) {
  struct stat status;
  return stat(path.c_str(), &status) == 0 && S_ISFIFO(status.st_mode) &&
         status.st_ino == mark.lifeline_inode && IsWritable(path);
}

bool HoldsLifeline(const std::string& directory, const SessionMark& mark) {
  if (mark.lifeline_inode == 0) return false;
  const std::string descriptors = directory + "/fd/";
  if (mark.lifeline_number >= 0) return IsLifeline(descriptors + std::to_string(mark.lifeline_number), mark);
  DIR* list = opendir(descriptors.c_str());
  if (list == nullptr) return false;
  bool found = false;
  while (const dirent* entry = found ? nullptr : readdir(list))
    found = IsLifeline(descriptors + entry->d_name, mark);
  closedir(list);
  return found;
}

int OpenProcess(pid_t pid) {
  return static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
}

void AwaitEnd(int pidfd, milliseconds limit) {
  if (pidfd < 0) return;
  pollfd event{pidfd, POLLIN, 0};
  poll(&event, 1, static_cast<int>(limit.count()));
  close(pidfd);
}

}  // namespace

std::vector<pid_t> FindProcesses(const SessionMark& mark) {
  std::vector<pid_t> found;
  DIR* directory = opendir("/proc");
  if (directory == nullptr) return found;
  while (const dirent* entry = readdir(directory)) {
    pid_t pid = static_cast<pid_t>(std::strtol(entry->d_name, nullptr, 10));
    if (pid <= 0 || pid == getpid()) continue;
    const std::string path = std::string("/proc/") + entry->d_name;
    if (!HasMarkInEnvironment(path, mark.id) && !HoldsLifeline(path, mark)) continue;
    const char state = StatusOf(path).state;
    if (state != '\0' && state != 'Z' && state != 'X') found.push_back(pid);
  }
  closedir(directory);
  return found;
}

bool KillProcesses(const SessionMark& mark, milliseconds limit) {
  const auto deadline = steady_clock::now() + limit;
  for (;;) {
    std::vector<pid_t> found = FindProcesses(mark);
    if (found.empty()) return true;
    for (pid_t pid : found) kill(pid, SIGKILL);
    for (pid_t pid : found) {
      auto left = std::chrono::duration_cast<milliseconds>(deadline - steady_clock::now());
      if (left <= milliseconds(0)) return false;
      AwaitEnd(OpenProcess(pid), left);
    }
  }
}

void KillWithChildren(pid_t child, milliseconds limit) {
  kill(child, SIGSTOP);
  waitpid(child, nullptr, WUNTRACED);
  const std::string task = "/proc/" + std::to_string(child) + "/task/" + std::to_string(child);
  std::ifstream file(task + "/children");
  std::vector<int> grandchildren;
  for (pid_t pid; file >> pid;) {
    grandchildren.push_back(OpenProcess(pid));
    kill(pid, SIGKILL);
  }
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  for (int pidfd : grandchildren) AwaitEnd(pidfd, limit);
}

}  // namespace elsewhere::runtime
