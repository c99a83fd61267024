// Calls of processes elsewhere on a descriptor of this host (wire::StreamCall).
#pragma once

#include <functional>

#include "runtime/event_loop.h"
#include "shim/wire/stream_message.h"

namespace elsewhere::runtime::stream {

// Makes the call on `descriptor` and gives the answer to `done`, on the loop's thread. What may wait for a
// disk or for another process (fsync, flock) runs on a thread of its own and is answered later.
void RunCall(EventLoop& loop, int descriptor, const wire::StreamControl& control,
             std::function<void(wire::StreamControlled)> done);

}  // namespace elsewhere::runtime::stream
