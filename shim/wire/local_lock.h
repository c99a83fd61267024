// Where the kernel's record locks on the local file of a mapped one lie. A plain constant, for freestanding
// code.
#pragma once

#include <stdint.h>

namespace elsewhere::abi {

// Locks of processes end here; behind it, one byte is the file cache's.
inline constexpr int64_t kLocalLocksEnd = int64_t{1} << 62;

}  // namespace elsewhere::abi
