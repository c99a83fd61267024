// Where the restorer lives. No ordinary program has anything here: position-independent programs and their
// heaps sit at 0x55.. and 0x56.., libraries and stacks at 0x7e.. and 0x7f.., the rest below. An image that
// does is refused. It must be above every heap: where the kernel cannot move the break (no PR_SET_MM_MAP) the
// restored process keeps the restorer's, and libc takes a break that went down for a corrupted heap.
#pragma once

#include <stdint.h>

namespace elsewhere::restorer {

inline constexpr uint64_t kZoneStart = 0x6dfff0000000;
inline constexpr uint64_t kVdsoParking = kZoneStart;    // the kernel's data and code pages
inline constexpr uint64_t kProgram = 0x6e0000000000;    // -Ttext-segment, see CMakeLists.txt
inline constexpr uint64_t kTemporary = 0x6e0100000000;  // during the move to anonymous memory
inline constexpr uint64_t kManifest = 0x6e0200000000;   // the manifest being restored
inline constexpr uint64_t kZoneEnd = 0x6e0300000000;

}  // namespace elsewhere::restorer
