#include "runtime/stream/job_control.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string>

namespace elsewhere::runtime::stream {
namespace {

// What the kernel calls the device, also of a descriptor that was opened as /dev/tty.
bool DeviceOf(int terminal, uint32_t& device) {
  return ioctl(terminal, TIOCGDEV, &device) == 0;
}

dev_t ToUser(uint32_t device) {
  return makedev(device >> 8 & 0xfff, (device & 0xff) | (device >> 12 & 0xfff00));
}

}  // namespace

bool InBackground(pid_t process, int terminal) {
  uint32_t device = 0;
  const std::string path = "/proc/" + std::to_string(process) + "/stat";
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return false;
  char text[1024];
  const ssize_t size = read(file, text, sizeof text - 1);
  close(file);
  if (size <= 0 || !DeviceOf(terminal, device)) return false;
  text[size] = 0;
  const char* fields = strrchr(text, ')');  // the name may hold anything
  int group = 0, foreground = 0;
  unsigned controlling = 0;
  if (fields == nullptr ||
      sscanf(fields + 1, " %*c %*d %d %*d %u %d", &group, &controlling, &foreground) != 3) {
    return false;
  }
  return controlling == device && foreground > 0 && foreground != group;
}

int OpenTerminalByName(int terminal, int flags) {
  uint32_t device = 0;
  if (!DeviceOf(terminal, device)) return -1;
  const dev_t wanted = ToUser(device);
  for (const char* directory : {"/dev/pts", "/dev"}) {
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(directory, error)) {
      struct stat status {};
      if (stat(entry.path().c_str(), &status) != 0 || !S_ISCHR(status.st_mode) || status.st_rdev != wanted)
        continue;
      return open(entry.path().c_str(), flags | O_CLOEXEC | O_NOCTTY);
    }
  }
  errno = ENXIO;
  return -1;
}

}  // namespace elsewhere::runtime::stream
