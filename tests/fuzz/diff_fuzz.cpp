// Any bytes as a diff of shared memory: every run that is given out can be applied; and what is applied is
// found again.

// links: shim/memory/diff.cpp
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "shim/memory/diff.h"

namespace {

using namespace elsewhere::memory;

constexpr uint64_t kSize = 4096;

struct Memory {
  std::vector<uint64_t> live = std::vector<uint64_t>(kSize / 8), shadow = live;
  Twins twins() {
    return {reinterpret_cast<uint8_t*>(live.data()), reinterpret_cast<uint8_t*>(shadow.data()), kSize};
  }
};

bool ApplyAll(std::span<const uint8_t> diff, Memory& memory) {
  DiffReader reader(diff, kSize);
  for (Run run; reader.Next(&run);) ApplyRun(memory.twins(), run);
  return reader.ok();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Memory there;
  ApplyAll({data, size}, there);
  if (there.live != there.shadow) std::abort();

  // The same bytes as if a process had stored them; the second half may lie over the first.
  Memory here, copy;
  auto* live = reinterpret_cast<uint8_t*>(here.live.data());
  for (size_t i = 0; i + 2 < size; i += 3) live[(data[i] | data[i + 1] << 8) % kSize] = data[i + 2];
  DiffWriter writer;
  for (uint64_t at = 0; at < kSize;) at = CollectChanges(here.twins(), at, 64, &writer);
  if (!ApplyAll(writer.Take(), copy) || copy.live != here.live) std::abort();
  return 0;
}
