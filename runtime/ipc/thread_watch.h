// The death of single threads of this host: of those that hold robust mutexes, which POSIX releases when the
// thread ends, not only its process. By pidfds for threads (Linux 6.9); where the kernel has none, the thread
// is taken to live as long as its process.
//
// Thread-safety: one loop.
#pragma once

#include <cstdint>
#include <functional>
#include <unordered_map>

#include "runtime/event_loop.h"

namespace elsewhere::runtime {

class ThreadWatch {
 public:
  using Died = std::function<void(uint32_t thread)>;
  ThreadWatch(EventLoop& loop, Died died) : loop_(loop), died_(std::move(died)) {}
  ~ThreadWatch() { Clear(); }
  ThreadWatch(const ThreadWatch&) = delete;
  ThreadWatch& operator=(const ThreadWatch&) = delete;

  // `died` runs once, never from within this call. Watching a thread again changes nothing.
  void Watch(uint32_t thread);
  // Reports those that are dead now, before the loop hears of it.
  void Look();
  void Clear();

 private:
  void Report(uint32_t thread);

  EventLoop& loop_;
  const Died died_;
  std::unordered_map<uint32_t, int> pidfds_;
};

}  // namespace elsewhere::runtime
