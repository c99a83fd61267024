// Messages of mirrors to their origins. Written bytes are held back until the end of the loop's round, and a
// request that is made by then travels with them: a process that answers another usually reads next, and one
// message costs half of two. Nothing overtakes what is held back: everything else that leaves this host
// flushes it first (Component::BeforeSend, Mirrors::WhenSent). Ends that closed are held back likewise: a
// process that ends closes many, and before each message that goes by itself shared memory is compared.
// Thread-safety: none.
#pragma once

#include <optional>
#include <utility>
#include <vector>

#include "runtime/agent.h"
#include "shim/wire/stream_message.h"

namespace elsewhere::runtime::stream {

class Outbox {
 public:
  explicit Outbox(Agent& agent) : agent_(agent) {}

  void Send(HostId to, wire::StreamData&& data) {
    agent_.TakeUnheard();  // it may go with a message that leaves them (Agent::SendDecided)
    Flush();
    held_ = std::move(data);
    to_ = to;
    before_ = closes_.size();
    Defer();
  }
  void Send(HostId to, const wire::StreamClose& close) {
    closes_.emplace_back(to, close);
    if (closes_.size() == 1) agent_.SendSoon([this] { SendCloses(); });
  }
  void Send(HostId to, const wire::StreamPull& pull) {
    if (!held_ || to_ != to || closes_.size() != before_) return agent_.Send(to, pull);
    held_->pulls.push_back(pull);
    Flush();
  }
  void Flush() {
    if (!held_) return;
    flushing_ = true;
    agent_.Send(to_, *std::exchange(held_, std::nullopt));
    flushing_ = false;
  }
  // A message is about to leave, and what processes wrote has been published just now.
  void BeforeSend() {
    Flush();
    if (agent_.published()) return;
    // The bytes of an end go before its close, and behind closes that were there before them.
    const size_t count = flushing_ ? std::exchange(before_, 0) : closes_.size();
    const auto end = closes_.begin() + static_cast<ptrdiff_t>(count);
    const std::vector<Close> first(closes_.begin(), end);
    closes_.erase(closes_.begin(), end);
    for (const auto& [to, close] : first) agent_.SendAhead(to, close);
  }

 private:
  using Close = std::pair<HostId, wire::StreamClose>;

  void Defer() {
    if (deferred_) return;
    deferred_ = true;
    agent_.loop().Defer([this] {
      deferred_ = false;
      if (held_) agent_.TakeCalls();
      Flush();
    });
  }
  void SendCloses() {
    Flush();
    if (closes_.empty()) return;
    const auto [to, close] = closes_.back();
    closes_.pop_back();
    agent_.Send(to, close);  // the others before it
  }

  Agent& agent_;
  std::optional<wire::StreamData> held_;
  HostId to_ = 0;
  bool deferred_ = false;
  bool flushing_ = false;
  std::vector<Close> closes_;
  size_t before_ = 0;  // so many of these go before what is held
};

}  // namespace elsewhere::runtime::stream
