// What a processor can do, as far as a program may have chosen its code by it: an image runs only where
// everything is present that its host had (glibc's IFUNCs choose once, at program start). Thread-safety:
// functions without state. Source: Intel SDM vol. 2A, CPUID.
#pragma once

#include <array>
#include <cstdint>

namespace elsewhere::image {

// [0] leaf 1 edx | ecx << 32;  [1] leaf 7 ebx | ecx << 32;  [2] leaf 7 edx | (leaf 7.1 eax) << 32
// [3] leaf 0x80000001 edx | ecx << 32;  [4] leaf 0xd.1 eax;  [5] XCR0;  [6], [7] 0
using CpuFeatures = std::array<uint64_t, 8>;

CpuFeatures ThisCpu();

// True if an image made with `image` may run on a host with `host`.
bool Runs(const CpuFeatures& image, const CpuFeatures& host);

}  // namespace elsewhere::image
