#include "shim/file/upload_plan.h"

#include <algorithm>

namespace elsewhere::file {
namespace {

class Planner {
 public:
  Planner(uint64_t size, uint64_t base_size, const Extents& changed, PartLimits limits)
      : size_(size), changed_(changed), limits_(limits) {
    changed_.Add(std::min(base_size, size), size);
    // Few enough parts even if all of it has to be sent.
    limits_.sent = std::max(limits_.sent, size / (limits_.parts / 2) + 1);
    limits_.copied = std::max(limits_.copied, limits_.sent);
  }

  std::vector<PlannedPart> Plan() {
    for (uint64_t at = 0; at < size_;) {
      uint64_t clean_end = CleanEnd(at);
      if (clean_end - at >= limits_.least) {
        Copy(at, clean_end);
        at = clean_end;
      } else {
        uint64_t end = EndOfSent(at);
        parts_.push_back({at, end - at, false});
        at = end;
      }
    }
    return std::move(parts_);
  }

 private:
  uint64_t CleanEnd(uint64_t at) const { return std::min(changed_.NextAt(at), size_); }

  // Even pieces, so that none is too short.
  void Copy(uint64_t from, uint64_t to) {
    uint64_t pieces = (to - from + limits_.copied - 1) / limits_.copied;
    for (uint64_t i = 0; i < pieces; ++i) {
      uint64_t begin = from + (to - from) * i / pieces, end = from + (to - from) * (i + 1) / pieces;
      parts_.push_back({begin, end - begin, true});
    }
  }

  // Sent up to where a run worth copying begins, or the longest part.
  uint64_t EndOfSent(uint64_t from) const {
    uint64_t shortest = std::min(from + limits_.least, size_), longest = std::min(from + limits_.sent, size_);
    uint64_t at = changed_.EndOfRunAt(from);
    while (at < longest) {
      uint64_t begin = std::max(at, shortest), clean_end = CleanEnd(at);
      if (begin >= longest) break;
      if (clean_end > begin && clean_end - begin >= limits_.least) return begin;
      at = clean_end < size_ ? changed_.EndOfRunAt(clean_end) : size_;
    }
    return longest;
  }

  const uint64_t size_;
  Extents changed_;
  PartLimits limits_;
  std::vector<PlannedPart> parts_;
};

}  // namespace

std::vector<PlannedPart> PlanUpload(uint64_t size, uint64_t base_size, const Extents& changed,
                                    PartLimits limits) {
  return Planner(size, base_size, changed, limits).Plan();
}

}  // namespace elsewhere::file
