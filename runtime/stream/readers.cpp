#include "runtime/stream/readers.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "runtime/launch/processes.h"
#include "runtime/stream/descriptor.h"

namespace elsewhere::runtime::stream {
namespace {

struct CloseDirectory {
  void operator()(DIR* directory) const { closedir(directory); }
};
using Directory = std::unique_ptr<DIR, CloseDirectory>;

bool IsNumber(const char* name) {
  return *name >= '0' && *name <= '9';
}

// "flags:" of fdinfo is octal.
bool IsReadable(const std::string& fdinfo) {
  FILE* file = fopen(fdinfo.c_str(), "re");
  if (file == nullptr) return false;  // closed meanwhile
  char line[128];
  unsigned flags = O_RDWR;
  while (fgets(line, sizeof line, file) != nullptr) {
    if (sscanf(line, "flags: %o", &flags) == 1) break;
  }
  fclose(file);
  return (flags & O_ACCMODE) != O_WRONLY;
}

// Up to `most` descriptors of the process that read the pipe.
size_t ReadersOf(const std::string& process, const std::string& link, size_t most) {
  const Directory descriptors(opendir((process + "/fd").c_str()));
  if (descriptors == nullptr) return 0;
  size_t found = 0;
  char text[PATH_MAX];
  while (const dirent* entry = readdir(descriptors.get())) {
    if (!IsNumber(entry->d_name)) continue;
    const ssize_t size = readlinkat(dirfd(descriptors.get()), entry->d_name, text, sizeof text);
    if (size != static_cast<ssize_t>(link.size()) || std::memcmp(text, link.data(), link.size()) != 0)
      continue;
    if (IsReadable(process + "/fdinfo/" + entry->d_name) && ++found == most) return found;
  }
  return found;
}

bool ProcessReads(const std::string& process, const std::string& link) {
  return ReadersOf(process, link, 1) != 0;
}

}  // namespace

bool IsReadInSession(int descriptor, const std::string& session) {
  struct stat status {};
  if (fstat(descriptor, &status) != 0) return true;
  std::vector<pid_t> processes = FindProcesses({.id = session});
  if (S_ISSOCK(status.st_mode)) {
    ucred peer{};
    socklen_t size = sizeof peer;
    return getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 || peer.pid == getpid() ||
           std::find(processes.begin(), processes.end(), peer.pid) != processes.end();
  }
  processes.push_back(getpid());
  const std::string link = LinkOf(descriptor);
  return std::any_of(processes.begin(), processes.end(),
                     [&](pid_t pid) { return ProcessReads("/proc/" + std::to_string(pid), link); });
}

bool HasOtherReaders(int pipe, size_t own) {
  const std::string link = LinkOf(pipe);
  if (!link.starts_with("pipe:[")) return true;
  const Directory processes(opendir("/proc"));
  if (processes == nullptr) return true;
  while (const dirent* entry = readdir(processes.get())) {
    if (!IsNumber(entry->d_name) || std::atoi(entry->d_name) == getpid()) continue;
    if (ProcessReads(std::string("/proc/") + entry->d_name, link)) return true;
  }
  return ReadersOf("/proc/self", link, own + 1) > own;
}

}  // namespace elsewhere::runtime::stream
