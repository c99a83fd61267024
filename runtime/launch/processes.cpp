#include "runtime/launch/processes.h"

#include <dirent.h>
#include <poll.h>
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

bool HasMarkInEnvironment(const std::string& directory, const std::string& id) {
  std::ifstream file(directory + "/environ");
  std::ostringstream content;
  content << file.rdbuf();
  const std::string environment = '\0' + content.str() + '\0';
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

// The state letter of /proc/PID/stat; 0: gone. The name before it may contain anything, also ')'.
char StateOf(const std::string& directory) {
  std::ifstream file(directory + "/stat");
  std::ostringstream content;
  content << file.rdbuf();
  const std::string text = content.str();
  size_t end = text.rfind(')');
  return end == text.npos || end + 2 >= text.size() ? '\0' : text[end + 2];
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
    char state = StateOf(path);
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
