// Whether small writes to an object follow one another so closely that the agent rather leaves them to gather
// for a moment than to be woken by each. A wake costs several times what taking a write does, here and again
// where a message arrives, and most of all where writer, agent and reader divide few processors.
// A process that waits for an answer writes once for each round trip, which is never that close. What
// gathers is taken at once where anything depends on it: with a call of its writer's, with what is said of
// another object, with an end (changes.h). Time decides about cost only.
// Thread-safety: none.
#pragma once

#include <chrono>
#include <cstddef>

namespace elsewhere::runtime::stream {

class SmallWrites {
 public:
  using Time = std::chrono::steady_clock::time_point;

  // For so long they may gather.
  static constexpr std::chrono::microseconds kMoment{150};

  // `taken` writes, which were found at `now`. True: what comes next may gather for kMoment. Found: by an
  // event of the object's, or behind the moment that was begun the last time.
  bool MayGather(Time now, size_t taken) {
    if (gathers_) return gathers_ = kWorthIt <= taken && taken <= kMost;
    if (taken > kMost) looks_ = 0;
    if (looks_ == 0 || now - began_ > looks_ * kApart) {
      began_ = now;
      looks_ = 0;
    }
    if (++looks_ < kLooks) return false;
    looks_ = 0;
    return gathers_ = true;
  }

 private:
  static constexpr std::chrono::microseconds kApart{25};  // less than half of any round trip between hosts
  static constexpr int kLooks = 16;
  static constexpr size_t kWorthIt = 4;
  static constexpr size_t kMost = 48;  // more would soon wait for room (LocalObject::FitPackets)

  bool gathers_ = false;
  int looks_ = 0;  // in a row
  Time began_;     // the first of them
};

}  // namespace elsewhere::runtime::stream
