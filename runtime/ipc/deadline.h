// Absolute times of a call as a delay.
#pragma once

#include <time.h>

#include <chrono>
#include <cstdint>

namespace elsewhere::runtime {

// Until an absolute time of `clock`; not positive: it is past.
inline std::chrono::nanoseconds Until(clockid_t clock, int64_t seconds, int64_t nanoseconds) {
  timespec now{};
  clock_gettime(clock, &now);
  // Beyond a century everything is as good as for ever, and a sum of nanoseconds would overflow.
  constexpr int64_t kCentury = int64_t{100} * 366 * 24 * 3600;
  if (seconds - now.tv_sec > kCentury) return std::chrono::seconds(kCentury);
  if (seconds < now.tv_sec - kCentury) return std::chrono::nanoseconds(-1);
  return std::chrono::seconds(seconds - now.tv_sec) + std::chrono::nanoseconds(nanoseconds - now.tv_nsec);
}

}  // namespace elsewhere::runtime
