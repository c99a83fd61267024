#include "runtime/launch/installation.h"

#include <unistd.h>

#include <array>
#include <climits>
#include <cstring>

namespace elsewhere::runtime {

Result<Installation> FindInstallation() {
  std::array<char, PATH_MAX> buffer;
  ssize_t size = readlink("/proc/self/exe", buffer.data(), buffer.size());
  if (size <= 0) return Error{errno, std::string("cannot read /proc/self/exe: ") + std::strerror(errno)};
  Installation found;
  found.runtime.assign(buffer.data(), static_cast<size_t>(size));
  const std::string directory = found.runtime.substr(0, found.runtime.rfind('/'));
  for (const std::string& place : {directory, directory + "/../preload"}) {
    found.preload = place + "/libelsewhere.so";
    if (access(found.preload.c_str(), R_OK) != 0) continue;
    std::array<char, PATH_MAX> resolved;
    if (realpath(found.preload.c_str(), resolved.data()) != nullptr) found.preload = resolved.data();
    return found;
  }
  return Error{ENOENT, "libelsewhere.so is missing beside " + found.runtime + ": build or install it again"};
}

}  // namespace elsewhere::runtime
