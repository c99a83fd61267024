// Where the restorer lives. No ordinary program has anything here: position-independent programs and
// libraries sit above 0x550000000000, others below 0x10000000000, sanitizers' shadows elsewhere. An image
// that does is refused.
#pragma once

#include <stdint.h>

namespace elsewhere::restorer {

inline constexpr uint64_t kZoneStart = 0x3dfff0000000;
inline constexpr uint64_t kVdsoParking = kZoneStart;    // the kernel's data and code pages
inline constexpr uint64_t kProgram = 0x3e0000000000;    // -Ttext-segment, see CMakeLists.txt
inline constexpr uint64_t kTemporary = 0x3e0100000000;  // during the move to anonymous memory
inline constexpr uint64_t kManifest = 0x3e0200000000;   // the manifest being restored
inline constexpr uint64_t kZoneEnd = 0x3e0300000000;

}  // namespace elsewhere::restorer
