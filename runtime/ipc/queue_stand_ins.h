// Worker: the queues of this host's kernel that stand for queues of home's (preload/message_queue.h), as far
// as somebody looks at them.
//
// A stand-in shows readiness by what is in it: nothing (room), one message of two (room and messages), two
// (messages). Home tells every change while it is watched. A notification of home's queue becomes a message
// in the empty stand-in, which makes this host's kernel notify whoever asked for a thread.
//
// Thread-safety: one loop.
#pragma once

#include <map>
#include <string>
#include <utility>

#include "runtime/agent.h"
#include "shim/store/unique_fd.h"

namespace elsewhere::runtime {

class QueueStandIns {
 public:
  // Lets this host have as many as processes have queues, where that is ours to say.
  static void RaiseLimits();

  // The process watches its descriptor, which is in this state (POLL* bits) now.
  void Watch(const Process& process, int32_t descriptor, uint32_t state);
  void Changed(Incarnation process, int32_t descriptor, uint32_t state);
  void Notified(Incarnation process, int32_t descriptor);
  void Closed(Incarnation process, int32_t descriptor) { watched_.erase({process, descriptor}); }
  void ProcessGone(Incarnation process);
  void Clear() { watched_.clear(); }

 private:
  struct Watched {
    store::UniqueFd descriptor;
    uint32_t state = 0;
  };
  std::map<std::pair<Incarnation, int32_t>, Watched> watched_;
};

}  // namespace elsewhere::runtime
