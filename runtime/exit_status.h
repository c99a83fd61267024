// How a process ended that is not our child.
#pragma once

#include <sys/resource.h>

#include <cstdint>
#include <optional>

namespace elsewhere::runtime {

struct ExitStatus {
  int status = 0;  // as waitpid gives it
  rusage usage{};  // times only, where the kernel says no more
};

// For a process whose pidfd is readable: waits for it if it is our child (an orphan that became ours), else
// reads the zombie in /proc, else, where its parent has reaped it already, asks the pidfd (Linux 6.15).
std::optional<ExitStatus> StatusOfEnded(int32_t pid, int pidfd);

}  // namespace elsewhere::runtime
