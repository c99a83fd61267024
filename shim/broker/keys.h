// The keys of a session in Redis: a small fixed set under one hash tag, so that all of them live on one node
// of a cluster, can be refreshed by one heartbeat and removed without searching. Free of I/O.
//
//   elsewhere:{ID}:marker      string  proves that this Redis still holds the session
//   elsewhere:{ID}:hosts       set     numbers of the hosts that have an inbox
//   elsewhere:{ID}:claims      hash    incarnation -> who may run it
//   elsewhere:{ID}:inbox:HOST  stream  messages for one host
#pragma once

#include <string>
#include <string_view>

#include "shim/wire/message.h"

namespace elsewhere::broker {

// Never reused within a session: numbers of messages and of operations start anew with every host.
using wire::HostId;
using wire::kHome;

class SessionKeys {
 public:
  // `session`: the session's id in hexadecimal.
  explicit SessionKeys(std::string_view session) : prefix_("elsewhere:{" + std::string(session) + "}:") {}

  std::string marker() const { return prefix_ + "marker"; }
  std::string hosts() const { return prefix_ + "hosts"; }
  std::string claims() const { return prefix_ + "claims"; }
  std::string inbox(HostId host) const { return inbox_prefix() + std::to_string(host); }
  std::string inbox_prefix() const { return prefix_ + "inbox:"; }
  const std::string& prefix() const { return prefix_; }

 private:
  std::string prefix_;
};

}  // namespace elsewhere::broker
