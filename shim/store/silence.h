// Silence: how long a server is waited for that takes requests and answers none.
//
// Ceph whose disks are full is one: it answers no change until there is room, while it answers what reads. If
// every call waited for it as long as the first one, a program of many calls would seem to hang for hours. So
// who has waited in vain for two time-outs gives up, and from then on calls of this kind fail at once, but
// for one now and then that tries once more; any answer ends that.
//
// Thread-safety: all methods may be called from any thread.
#pragma once

#include <chrono>
#include <mutex>

namespace elsewhere::store {

class Silence {
 public:
  using Clock = std::chrono::steady_clock;

  explicit Silence(Clock::duration stall_timeout) : stall_timeout_(stall_timeout) {}

  // How long in all a call that begins now may wait in attempts without an answer; zero: it is not to be
  // sent.
  Clock::duration Patience(Clock::time_point begun) {
    std::lock_guard lock(mutex_);
    if (!silent_) return 2 * stall_timeout_;
    if (begun < next_try_) return Clock::duration::zero();
    next_try_ = begun + stall_timeout_ + pause();
    return Clock::duration(1);
  }

  // A call gave up.
  void Unanswered(Clock::time_point begun, Clock::time_point now) {
    std::lock_guard lock(mutex_);
    if (last_answer_ > begun) return;
    silent_ = true;
    next_try_ = now + pause();
  }

  void Answered(Clock::time_point now) {
    std::lock_guard lock(mutex_);
    silent_ = false;
    last_answer_ = now;
  }

  bool silent() {
    std::lock_guard lock(mutex_);
    return silent_;
  }

  Clock::duration stall_timeout() const { return stall_timeout_; }

 private:
  Clock::duration pause() const { return stall_timeout_ / 3; }

  const Clock::duration stall_timeout_;
  std::mutex mutex_;
  bool silent_ = false;
  Clock::time_point last_answer_, next_try_;
};

}  // namespace elsewhere::store
