// Calls of processes elsewhere on a descriptor of this host (wire::StreamCall).
#pragma once

#include <pthread.h>

#include <functional>
#include <memory>
#include <mutex>

#include "runtime/event_loop.h"
#include "runtime/stream/descriptor.h"
#include "shim/wire/stream_message.h"

namespace elsewhere::runtime::stream {

// A call that waits for a disk or for another process (fsync, flock), on a thread of its own.
class WaitingCall : public std::enable_shared_from_this<WaitingCall> {
 public:
  using Done = std::function<void(wire::StreamControlled)>;
  WaitingCall(EventLoop& loop, Descriptor descriptor, wire::StreamControl control, Done done)
      : loop_(loop),
        descriptor_(std::move(descriptor)),
        control_(std::move(control)),
        done_(std::move(done)) {}
  void Start();
  // A signal came for its caller, or the caller is gone.
  void Cancel();

 private:
  void Run();

  EventLoop& loop_;
  Descriptor descriptor_;
  const wire::StreamControl control_;
  const Done done_;
  std::mutex mutex_;
  pthread_t thread_{};
  bool runs_ = false;
  bool cancelled_ = false;
};

// Is it about a record lock that belongs to the calling process, not to the description?
bool IsProcessLock(const wire::StreamControl& control);

// Makes the call on `descriptor` and gives the answer to `done`, on the loop's thread: at once, or, where
// something is returned, later.
std::shared_ptr<WaitingCall> RunCall(EventLoop& loop, int descriptor, const wire::StreamControl& control,
                                     WaitingCall::Done done);

}  // namespace elsewhere::runtime::stream
