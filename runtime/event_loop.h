// One thread, one epoll: everything an agent does happens in callbacks of this loop.
//
// Rules: a callback never blocks. A callback may add, modify or remove any descriptor, its own included; a
// removed descriptor's callback is not called again, even where its event was already fetched. Descriptors
// stay the caller's: Remove before closing.
// Thread-safety: none, except Post, which any thread may call. Errors: Add reports epoll_ctl's errno.
#pragma once

#include <sys/epoll.h>
#include <sys/signalfd.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "runtime/linger.h"
#include "shim/wire/result.h"

namespace elsewhere::runtime {

class EventLoop {
 public:
  using Ready = std::function<void(uint32_t events)>;  // EPOLL* bits
  using Action = std::function<void()>;
  using SignalAction = std::function<void(const signalfd_siginfo&)>;
  using TimerId = uint64_t;  // 0 is never a timer

  static Result<std::unique_ptr<EventLoop>> Create();
  ~EventLoop();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  // Calls `ready` whenever one of `events` (EPOLLIN, EPOLLOUT, ...; level-triggered unless EPOLLET is given)
  // or EPOLLERR/EPOLLHUP is there. Adding a descriptor that is there already is EEXIST.
  Status Add(int descriptor, uint32_t events, Ready ready);
  void Modify(int descriptor, uint32_t events);
  void Remove(int descriptor);

  TimerId After(std::chrono::nanoseconds delay, Action action);  // once
  void Cancel(TimerId timer);                                    // an unknown or past timer is fine

  // For what comes without a descriptor. `has_come`: looks whether it has. `falls_asleep` runs before the
  // loop sleeps, `wakes` when it has slept. False: it must not sleep; then `stays_awake` runs behind whatever
  // has happened by now.
  void OnSleep(std::function<bool()> has_come, std::function<bool()> falls_asleep, Action wakes,
               Action stays_awake) {
    has_come_ = std::move(has_come);
    falls_asleep_ = std::move(falls_asleep);
    wakes_ = std::move(wakes);
    stays_awake_ = std::move(stays_awake);
  }

  // Runs `action` when the callbacks of this round are through, before the loop sleeps again.
  void Defer(Action action);

  // The same from another thread; wakes the loop.
  void Post(Action action);

  // Blocks the signal in the calling thread and delivers it here. One action per signal.
  Status OnSignal(int signal, SignalAction action);

  void Run();   // until Stop
  void Stop();  // Run returns when this round is through
  // The same; `failed` is told of a callback that could not start a thread (RLIMIT_NPROC), and the loop goes
  // on.
  void Run(const std::function<void(const std::string&)>& failed);

 private:
  struct Watch {
    uint32_t generation;
    std::shared_ptr<Ready> ready;
  };

  using Events = std::array<epoll_event, 256>;

  EventLoop() = default;
  int Fetch(Events& events, bool sleeps) const;
  void RunDeferred();
  void RunTimers();
  void ArmTimer();
  void ReadSignals();
  void TakePosted();

  int epoll_ = -1;
  int timer_ = -1;
  int signals_ = -1;
  int posted_event_ = -1;
  bool running_ = false;
  uint32_t next_generation_ = 1;
  TimerId next_timer_ = 1;
  sigset_t signal_set_{};
  std::unordered_map<int, Watch> watches_;
  std::map<std::pair<std::chrono::steady_clock::time_point, TimerId>, Action> timers_;
  std::unordered_map<TimerId, std::chrono::steady_clock::time_point> deadlines_;
  std::unordered_map<int, SignalAction> signal_actions_;
  std::vector<Action> deferred_;
  std::function<bool()> has_come_ = [] { return false; };
  std::function<bool()> falls_asleep_ = [] { return true; };
  Action wakes_ = [] {};
  Action stays_awake_ = [] {};
  Linger<> linger_;
  std::mutex posted_mutex_;
  std::vector<Action> posted_;  // guarded by posted_mutex_
};

}  // namespace elsewhere::runtime
