#include "runtime/stream/pipe_holders.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>

#include "runtime/stream/descriptor.h"

namespace elsewhere::runtime::stream {
namespace {

struct CloseDirectory {
  void operator()(DIR* directory) const { closedir(directory); }
};
using Directory = std::unique_ptr<DIR, CloseDirectory>;
struct CloseFile {
  void operator()(FILE* file) const { fclose(file); }
};
using File = std::unique_ptr<FILE, CloseFile>;

struct Facts {
  char state = 'X';
  pid_t parent = 0;
  long threads = 0;
  unsigned long long start = 0;
};

// Behind the name, which may have anything in it, stand: state, parent, ... threads (18th of the fields that
// follow), the one after next is the start.
std::optional<Facts> FactsOf(pid_t process) {
  const File file(fopen(("/proc/" + std::to_string(process) + "/stat").c_str(), "re"));
  char line[1024];
  if (file == nullptr || fgets(line, sizeof line, file.get()) == nullptr) return std::nullopt;
  const char* behind = strrchr(line, ')');
  Facts facts;
  if (behind == nullptr ||
      sscanf(behind + 1, " %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %ld %*d %llu",
             &facts.state, &facts.parent, &facts.threads, &facts.start) != 4) {
    return std::nullopt;
  }
  return facts;
}

// Is it of this session, as far as can be told? What the session started is known by its ancestors; whose
// parents have ended, by its environment or, where that cannot be read, its age. Kernel threads are neither.
bool MayBeOurs(const Agent& agent, pid_t process, const Facts& facts) {
  pid_t at = process;
  for (int steps = 0; at > 1 && steps < 1000; ++steps) {
    if (at == getpid() || agent.FindKernelPid(at) != nullptr) return true;
    const auto next = FactsOf(at);
    if (!next) return true;
    at = next->parent;
  }
  if (at == getpid()) return true;
  const auto own = FactsOf(getpid());
  if (facts.parent != 1 || (own && facts.start < own->start)) return false;
  std::ifstream environment("/proc/" + std::to_string(process) + "/environ", std::ios::binary);
  if (!environment) return true;
  const std::string text((std::istreambuf_iterator<char>(environment)), std::istreambuf_iterator<char>());
  return text.find(agent.session_id()) != std::string::npos;
}

// A line of fdinfo that begins with `name`, its value in `base`.
std::optional<unsigned long> ValueOf(const std::string& fdinfo, const char* name, int base) {
  const File file(fopen(fdinfo.c_str(), "re"));
  char line[256];
  const size_t size = std::strlen(name);
  while (file != nullptr && fgets(line, sizeof line, file.get()) != nullptr) {
    if (std::strncmp(line, name, size) == 0) return strtoul(line + size, nullptr, base);
  }
  return std::nullopt;
}

// Since Linux 5.8.
bool KernelTellsFlights() {
  static const bool tells = [] {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return false;
    const bool told = ValueOf("/proc/self/fdinfo/" + std::to_string(ends[0]), "scm_fds:", 10).has_value();
    close(ends[0]);
    close(ends[1]);
    return told;
  }();
  return tells;
}

class Look {
 public:
  Look(const Agent& agent, std::string link) : agent_(agent), link_(std::move(link)) {}

  PipeHolders Run() {
    const Directory processes(opendir("/proc"));
    found_.unseen = processes == nullptr || !link_.starts_with("pipe:[");
    found_.in_flight = !KernelTellsFlights();
    while (!found_.unseen) {
      const dirent* entry = readdir(processes.get());
      if (entry == nullptr) break;
      if (const pid_t process = std::atoi(entry->d_name); process > 0) LookAt(process);
    }
    return std::move(found_);
  }

 private:
  void LookAt(pid_t process) {
    const std::string name = "/proc/" + std::to_string(process);
    const Directory descriptors(opendir((name + "/fd").c_str()));
    const bool refused = descriptors == nullptr && (errno == EACCES || errno == EPERM);
    bool any = false;
    while (const dirent* entry = descriptors == nullptr ? nullptr : readdir(descriptors.get())) {
      if (*entry->d_name == '.') continue;
      any = true;
      LookAtDescriptor(process, name, dirfd(descriptors.get()), entry->d_name);
    }
    if (any) return;
    // What a process whose first thread has ended holds is not listed.
    const auto facts = FactsOf(process);
    if (!facts) return;
    const bool dead = (facts->state == 'Z' || facts->state == 'X') && facts->threads <= 1;
    if (!dead && (refused || facts->state == 'Z') && MayBeOurs(agent_, process, *facts)) found_.unseen = true;
  }

  void LookAtDescriptor(pid_t process, const std::string& name, int directory, const char* number) {
    char text[64];
    const ssize_t got = readlinkat(directory, number, text, sizeof text);
    if (got <= 0) return;
    const std::string_view target(text, static_cast<size_t>(got));
    if (target == link_) {
      const auto flags = ValueOf(name + "/fdinfo/" + number, "flags:", 8);
      if (flags) found_.all.push_back({process, std::atoi(number), static_cast<int>(*flags)});
    } else if (target.starts_with("socket:[") && !found_.in_flight) {
      const bool any = ValueOf(name + "/fdinfo/" + number, "scm_fds:", 10).value_or(0) != 0;
      const auto facts = any ? FactsOf(process) : std::nullopt;
      found_.in_flight = facts && MayBeOurs(agent_, process, *facts);
    }
  }

  const Agent& agent_;
  const std::string link_;
  PipeHolders found_;
};

}  // namespace

PipeHolders FindPipeHolders(const Agent& agent, int pipe) {
  return Look(agent, LinkOf(pipe)).Run();
}

bool HeldBySelfAlone(const Agent& agent, int pipe, size_t own) {
  for (int look = 0; look < 2; ++look) {
    const PipeHolders found = FindPipeHolders(agent, pipe);
    const bool ours = std::all_of(found.all.begin(), found.all.end(),
                                  [](const PipeHolder& holder) { return holder.process == getpid(); });
    if (!ours || found.all.size() != own || found.unseen || found.in_flight) return false;
  }
  return true;
}

}  // namespace elsewhere::runtime::stream
