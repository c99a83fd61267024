// CLOCK_MONOTONIC in nanoseconds: what times in messages and reports are.
#pragma once

#include <cstdint>
#include <ctime>

namespace elsewhere::runtime {

inline uint64_t Now() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace elsewhere::runtime
