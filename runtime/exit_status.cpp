#include "runtime/exit_status.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace elsewhere::runtime {
namespace {

// linux/pidfd.h of Linux 6.15, which older headers lack.
struct PidfdInfo {
  uint64_t mask;
  uint64_t cgroup;
  uint32_t pid, tgid, ppid;
  uint32_t ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
  int32_t exit_code;
};
static_assert(sizeof(PidfdInfo) == 64);
constexpr uint64_t kInfoExit = 1U << 3;
constexpr unsigned long kGetInfo = _IOWR(0xFF, 11, PidfdInfo);

timeval FromTicks(unsigned long ticks) {
  const auto per_second = static_cast<unsigned long>(sysconf(_SC_CLK_TCK));
  return {static_cast<time_t>(ticks / per_second),
          static_cast<long>(ticks % per_second * 1'000'000 / per_second)};
}

// 'X' is a zombie that its parent is about to take away.
bool IsDead(char state) {
  return state == 'Z' || state == 'X';
}

std::optional<ExitStatus> OfZombie(int32_t pid) {
  char path[32];
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return std::nullopt;
  char text[2048];
  const ssize_t size = read(file, text, sizeof text - 1);
  close(file);
  if (size <= 0) return std::nullopt;
  text[size] = 0;
  const char* fields = strrchr(text, ')');  // the name may hold anything
  if (fields == nullptr || fields[1] != ' ' || !IsDead(fields[2])) return std::nullopt;
  ExitStatus result;
  // Field 3 is the state; 14 and 15 are times, 52 the exit code.
  char* rest = nullptr;
  char* field = strtok_r(const_cast<char*>(fields + 2), " \n", &rest);
  for (int number = 3; field != nullptr; ++number, field = strtok_r(nullptr, " \n", &rest)) {
    if (number == 14) result.usage.ru_utime = FromTicks(strtoul(field, nullptr, 10));
    if (number == 15) result.usage.ru_stime = FromTicks(strtoul(field, nullptr, 10));
    if (number == 52) {
      result.status = static_cast<int>(strtol(field, nullptr, 10));
      return result;
    }
  }
  return std::nullopt;
}

}  // namespace

std::optional<ExitStatus> StatusOfEnded(int32_t pid, int pidfd) {
  ExitStatus result;
  if (wait4(pid, &result.status, WNOHANG, &result.usage) == pid) return result;
  if (auto zombie = OfZombie(pid)) return zombie;
  PidfdInfo info{};
  info.mask = kInfoExit;
  if (ioctl(pidfd, kGetInfo, &info) != 0 || (info.mask & kInfoExit) == 0) return std::nullopt;
  result.status = info.exit_code;
  return result;
}

}  // namespace elsewhere::runtime
