#include "shim/image/cpu_features.h"

#include <cpuid.h>

#include <cstddef>

namespace elsewhere::image {
namespace {

constexpr uint32_t kOsxsave = 1U << 27;

struct Leaf {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Leaf Read(uint32_t leaf, uint32_t subleaf) {
  Leaf result;
  if (__get_cpuid_count(leaf, subleaf, &result.eax, &result.ebx, &result.ecx, &result.edx) == 0) return {};
  return result;
}

uint64_t Join(uint32_t low, uint32_t high) {
  return static_cast<uint64_t>(high) << 32 | low;
}

uint64_t EnabledStates() {
  uint32_t low = 0;
  uint32_t high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return Join(low, high);
}

}  // namespace

CpuFeatures ThisCpu() {
  const Leaf basic = Read(1, 0);
  const Leaf extended = Read(7, 0);
  const Leaf more = Read(7, 1);
  const Leaf amd = Read(0x80000001, 0);
  CpuFeatures features{};
  features[0] = Join(basic.edx, basic.ecx);
  features[1] = Join(extended.ebx, extended.ecx);
  features[2] = Join(extended.edx, more.eax);
  features[3] = Join(amd.edx, amd.ecx);
  features[4] = Read(0xd, 1).eax;
  features[5] = (basic.ecx & kOsxsave) != 0 ? EnabledStates() : 0;
  return features;
}

bool Runs(const CpuFeatures& image, const CpuFeatures& host) {
  for (std::size_t i = 0; i < image.size(); ++i) {
    if ((image[i] & ~host[i]) != 0) return false;
  }
  return true;
}

}  // namespace elsewhere::image
