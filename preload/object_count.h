// Counts what the program does with semaphores and pthread objects that processes share, where the session
// wants to know (abi::ObjectCount). Elsewhere it costs one look at a flag.
//
//     const Counted counted(abi::ObjectKind::kMutex, mutex);   // for as long as the operation lasts
//
// Async-signal-safe and lock-free; keeps errno.
#pragma once

#include <stdint.h>

#include <atomic>

#include "shim/wire/abi.h"

namespace elsewhere::preload {

extern constinit std::atomic<bool> counts_objects;
inline bool CountsObjects() {
  return counts_objects.load(std::memory_order_relaxed);
}

class Counted {
 public:
  Counted(abi::ObjectKind kind, const void* object) {
    if (CountsObjects()) [[unlikely]]
      Begin(kind, object);
  }
  ~Counted() {
    if (entry_ != nullptr) [[unlikely]]
      End();
  }
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;

 private:
  void Begin(abi::ObjectKind kind, const void* object);
  void End();

  abi::ObjectCount* entry_ = nullptr;
  uint64_t began_ = 0;
  uint32_t calls_ = 0;
};

}  // namespace elsewhere::preload
