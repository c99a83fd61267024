// Messages of mirrors to their origins. Written bytes are held back until the end of the loop's round, and a
// request that is made by then travels with them: a process that answers another usually reads next, and one
// message costs half of two. Nothing overtakes what is held back: everything else that leaves this host
// flushes it first (Component::BeforeSend, Mirrors::WhenSent). Thread-safety: none.
#pragma once

#include <optional>

#include "runtime/agent.h"
#include "shim/wire/stream_message.h"

namespace elsewhere::runtime::stream {

class Outbox {
 public:
  explicit Outbox(Agent& agent) : agent_(agent) {}

  void Send(HostId to, wire::StreamData&& data) {
    Flush();
    held_ = std::move(data);
    to_ = to;
    if (deferred_) return;
    deferred_ = true;
    agent_.loop().Defer([this] {
      deferred_ = false;
      if (held_) agent_.TakeCalls();
      Flush();
    });
  }
  void Send(HostId to, const wire::StreamPull& pull) {
    if (!held_ || to_ != to) return agent_.Send(to, pull);
    held_->pulls.push_back(pull);
    Flush();
  }
  void Flush() {
    if (held_) agent_.Send(to_, *std::exchange(held_, std::nullopt));
  }

 private:
  Agent& agent_;
  std::optional<wire::StreamData> held_;
  HostId to_ = 0;
  bool deferred_ = false;
};

}  // namespace elsewhere::runtime::stream
