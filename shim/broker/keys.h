// The keys of a session in Redis: a small fixed set under one hash tag, so that all of them live on one node
// of a cluster, can be refreshed by one heartbeat and removed without searching. Free of I/O.
//
//   elsewhere:{ID}:marker      string  proves that this Redis still holds the session
//   elsewhere:{ID}:hosts       set     numbers of the hosts that have an inbox
//   elsewhere:{ID}:claims      hash    incarnation -> who may run it
//   elsewhere:{ID}:fences      hash    host -> last fenced entry of its inbox (see inbox.h)
//   elsewhere:{ID}:semaphores  hash    see shim/ipc
//   elsewhere:{ID}:waiters     zset    see shim/ipc
//   elsewhere:{ID}:tokens      hash    see shim/ipc
//   elsewhere:{ID}:inbox:HOST  stream  messages for one host
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace elsewhere::broker {

// Home is 0; workers count from 1 in the order they are started. Never reused within a session.
using HostId = uint32_t;
inline constexpr HostId kHome = 0;

class SessionKeys {
 public:
  // `session`: the session's id in hexadecimal.
  explicit SessionKeys(std::string_view session) : prefix_("elsewhere:{" + std::string(session) + "}:") {}

  std::string marker() const { return prefix_ + "marker"; }
  std::string hosts() const { return prefix_ + "hosts"; }
  std::string claims() const { return prefix_ + "claims"; }
  std::string fences() const { return prefix_ + "fences"; }
  std::string semaphores() const { return prefix_ + "semaphores"; }
  std::string waiters() const { return prefix_ + "waiters"; }
  std::string tokens() const { return prefix_ + "tokens"; }
  std::string inbox(HostId host) const { return inbox_prefix() + std::to_string(host); }
  std::string inbox_prefix() const { return prefix_ + "inbox:"; }
  const std::string& prefix() const { return prefix_; }

 private:
  std::string prefix_;
};

}  // namespace elsewhere::broker
