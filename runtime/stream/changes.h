// What processes did with local objects, in the order in which they did it: wrote to one, or closed the last
// descriptor of it.
//
// The loop tells the same sooner or later, but in an order of its own. And what a process does next may reach
// the agent before the loop's event: a call through the shared table, bytes in another object. So the agent
// looks here before it acts upon such a thing. It costs a system call, however many objects there are.
// Source: epoll(7), EPOLLET: an object is queued when something happens to it while it is not in the queue.
// Thread-safety: none.
#pragma once

#include <sys/epoll.h>

#include <vector>

#include "runtime/stream/descriptor.h"
#include "shim/wire/stream_message.h"

namespace elsewhere::runtime::stream {

class Changes {
 public:
  // `end`: the agent's of an object.
  void Add(int end, wire::StreamId id) {
    epoll_event event{EPOLLIN | EPOLLET, {.u64 = id}};
    epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, end, &event);
  }
  void Remove(int end) { epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, end, nullptr); }

  // To which something may have happened since the last time.
  std::vector<wire::StreamId> Take() {
    std::vector<wire::StreamId> changed;
    epoll_event events[64];
    for (int count = 64; count == 64;) {
      count = epoll_wait(epoll_.get(), events, 64, 0);
      for (int i = 0; i < count; ++i) changed.push_back(events[i].data.u64);
    }
    return changed;
  }

 private:
  const Descriptor epoll_{epoll_create1(EPOLL_CLOEXEC)};
};

}  // namespace elsewhere::runtime::stream
