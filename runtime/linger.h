// Whether a loop, before it sleeps, stays awake for a moment to see whether the next message comes already.
// Hosts that answer one another do so within microseconds, and to wake a processor that has gone idle costs
// some twenty of them, at each of the four sleepers of a round trip. So who slept shortly the last time first
// looks a few times, and gives its processor away in between. Where somebody else takes that for long there
// is work to do: a sleeper would then be woken at once, while who yields must wait for its turn. So that is
// not tried again until what it cost is a small part of the time.
// Time decides about cost only. Thread-safety: none.
#pragma once

#include <sched.h>

#include <chrono>
#include <utility>

namespace elsewhere::runtime {

template <typename Clock = std::chrono::steady_clock>
class Linger {
 public:
  // Returns as soon as `has_come`, and when it has not for as long as it is worth.
  template <typename Predicate>
  void Until(const Predicate& has_come) {
    began_ = Clock::now();
    if (last_wait_ > kWorthIt || began_ < again_at_) return;
    for (auto now = began_; now - began_ < kLongest;) {
      if (has_come()) return;
      sched_yield();
      const auto before = std::exchange(now, Clock::now());
      if (now - before > kTaken) again_at_ = now + kRarer * (now - before);
    }
  }
  // The wait that Until began is over, with the sleep behind it.
  void WaitEnded() { last_wait_ = Clock::now() - began_; }

 private:
  using Microseconds = std::chrono::microseconds;
  static constexpr Microseconds kWorthIt{40};  // a wait that was no longer
  static constexpr Microseconds kLongest{30};
  static constexpr Microseconds kTaken{50};  // by another's work
  static constexpr int kRarer = 100;

  typename Clock::time_point began_;
  typename Clock::time_point again_at_;
  typename Clock::duration last_wait_ = Clock::duration::max();
};

}  // namespace elsewhere::runtime
