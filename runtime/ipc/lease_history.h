// When an object is lent to the host that alone uses it: after enough uses in a row. A lease costs two
// messages beside the uses that showed the need, so the first may come early; ones that end soon make the
// next rarer, up to where they are cheap however soon they end. Time decides about cost only.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <utility>

#include "shim/wire/message.h"

namespace elsewhere::runtime {

class LeaseHistory {
 public:
  void Used(wire::HostId by) {
    if (std::exchange(last_, by) != by) streak_ = 0;
    ++streak_;
  }
  // What is shared out is no other host's loss: uses of all count.
  void UsedWithOthers(wire::HostId by) {
    last_ = by;
    ++streak_;
  }
  bool Deserves(wire::HostId host) const { return last_ == host && streak_ >= needed_; }
  void Began() { began_ = Clock::now(); }
  // `recalled`: not given back unasked.
  void Ended(bool recalled) {
    streak_ = 0;
    if (Clock::now() - began_ > kLong) {
      needed_ = kFirst;
    } else if (recalled) {
      needed_ = std::min(2 * needed_, kMost);
    }
  }
  // It cannot be lent for a reason that may pass.
  void NotNow() {
    streak_ = 0;
    needed_ = std::min(2 * needed_, kSeldom);
  }
  // That host has no room for it.
  void Refused() { needed_ = UINT32_MAX; }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr uint32_t kFirst = 8;
  static constexpr uint32_t kMost = 64;
  static constexpr uint32_t kSeldom = 4096;
  static constexpr std::chrono::milliseconds kLong{2};

  wire::HostId last_ = 0;
  uint32_t streak_ = 0;
  uint32_t needed_ = kFirst;
  Clock::time_point began_;
};

}  // namespace elsewhere::runtime
