// How a changed file is sent: which parts are copied inside the store from the object it was, and which are
// sent.
//
// Rules of S3: at most 10,000 parts, each but the last at least 5 MiB. A run of unchanged bytes of at least
// that length is copied; what changed is sent, together with as many unchanged bytes as make the part long
// enough. Thread-safety: a function without state.
#pragma once

#include <cstdint>
#include <vector>

#include "shim/file/extents.h"

namespace elsewhere::file {

struct PartLimits {
  uint64_t least = 5ull << 20;     // of all parts but the last
  uint64_t sent = 8ull << 20;      // of one that is sent
  uint64_t copied = 128ull << 20;  // of one that is copied
  unsigned parts = 10000;
};

struct PlannedPart {
  uint64_t offset = 0;
  uint64_t length = 0;
  bool copy = false;
  bool operator==(const PlannedPart&) const = default;
};

// `changed`: what of the first `base_size` bytes is no longer as in the object; all behind them counts as
// changed. `size` is the file's now and not 0.
std::vector<PlannedPart> PlanUpload(uint64_t size, uint64_t base_size, const Extents& changed,
                                    PartLimits limits = {});

// Parts of a file that is sent while it is written: part `index` covers [index * size, (index + 1) * size).
inline constexpr uint64_t kStreamPart = 8ull << 20;
inline constexpr uint64_t kStreamParts = 10000;

}  // namespace elsewhere::file
