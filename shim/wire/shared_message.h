// What the agents say to each other about promoted process-shared pthread objects (runtime/ipc).
#pragma once

#include <cstdint>
#include <tuple>

#include "shim/wire/message.h"
#include "shim/wire/shared_action.h"

namespace elsewhere::wire {

// To home. `request`: the sender's name for it, never used twice, echoed; 0: no answer is wanted.
struct SharedRequest {
  static constexpr MessageType kType = MessageType::kSharedRequest;
  uint64_t request = 0;
  SharedAction action{};
  uint32_t thread = 0;      // that asks, on the sender's host
  Incarnation process = 0;  // whose thread that is; 0: one of home's
  uint64_t object = 0;
  uint64_t argument = 0;  // see SharedAction
  uint64_t flags = 0;     // likewise
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.request, s.action, s.thread, s.process, s.object, s.argument, s.flags);
  }
};

// A lock that was waited for is the thread's, a barrier is full, ...: the one answer to a request.
struct SharedAnswer {
  static constexpr MessageType kType = MessageType::kSharedAnswer;
  uint64_t request = 0;
  int32_t error = 0;  // an errno value
  uint64_t value = 0;
  bool watch = false;  // say so when that thread dies: it holds a robust mutex
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.request, s.error, s.value, s.watch);
  }
};

// What home says to a host about an object that it lends to it, or has lent.
struct SharedOrder {
  static constexpr MessageType kType = MessageType::kSharedOrder;
  enum class What : uint32_t {
    kLend = 1,    // before the answer that grants it
    kRecall = 2,  // to be answered by SharedAction::kReturnLease
    kForget = 3,  // it was destroyed
  };
  What what{};
  uint64_t object = 0;
  // Of kLend:
  uint32_t kind = 0;    // SharedKind
  uint32_t flags = 0;   // of the kind
  uint32_t count = 0;   // as in SharedObjectState
  uint32_t holder = 0;  // a thread of the lessee's; 0: nobody holds it
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.what, s.object, s.kind, s.flags, s.count, s.holder);
  }
};

}  // namespace elsewhere::wire
