// Inboxes: how hosts talk. One Redis stream per host, one entry per message, delivered in Redis's one total
// order.
//
// Exactly once. A sender numbers its messages per receiver from 1. A message whose answer was lost is sent
// again (RedisConnection, Repeat::kSafe); the receiver drops what it has seen and reports a gap, which can
// only mean that Redis lost data.
//
// One wake-up per message. The reader's own connection is always blocked in XREAD behind the last entry it
// delivered. After delivering, one write re-arms it; every kTrimEntries entries or kTrimBytes bytes the same
// write also trims, with the trim's answer suppressed (CLIENT REPLY SKIP).
//
// An entry has one field: name = sender (uint32) and number (uint64), little-endian; value = the message.
// Thread-safety: none; one loop.
#pragma once

#include <compare>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include "shim/broker/keys.h"
#include "shim/broker/redis_connection.h"

namespace elsewhere::broker {

struct StreamId {
  uint64_t milliseconds = 0;
  uint64_t sequence = 0;

  auto operator<=>(const StreamId&) const = default;
  std::string ToString() const;
  // "" is the zero id, which everything has passed; false for anything else that is no id.
  static bool Parse(std::string_view text, StreamId* id);
};

std::string EncodeInboxHeader(HostId sender, uint64_t number);

class InboxSender {
 public:
  // EPIPE: the receiver's inbox is gone (the host has left or the session is over). ENOMEM: Redis is full.
  using UndeliveredCallback = std::function<void(HostId to, const Error& why)>;

  InboxSender(RedisConnection& connection, const SessionKeys& keys, HostId self,
              UndeliveredCallback on_undelivered);

  void Send(HostId to, std::string_view message);

 private:
  void Check(HostId to, const Reply& reply) const;

  RedisConnection& connection_;
  const SessionKeys keys_;
  const HostId self_;

  const UndeliveredCallback on_undelivered_;
  struct Receiver {
    std::string key;
    uint64_t last_number = 0;
  };
  Receiver& ReceiverFor(HostId host);
  std::unordered_map<HostId, Receiver> receivers_;
};

class InboxReader {
 public:
  struct Message {
    HostId sender;
    uint64_t number;
    std::string_view bytes;  // valid during the call
    StreamId id;
  };
  using MessageCallback = std::function<void(const Message&)>;

  // `options`: as for the command connection, without scripts. A malformed entry or a gap is a final loss.
  static Result<std::unique_ptr<InboxReader>> Open(ConnectionOptions options, const SessionKeys& keys,
                                                   HostId host, MessageCallback on_message,
                                                   RedisConnection::LostCallback on_lost);

  int fd() const { return connection_->fd(); }
  void OnReadable();

 private:
  InboxReader(const SessionKeys& keys, HostId host, MessageCallback on_message,
              RedisConnection::LostCallback on_lost);
  void Arm();
  void OnEntries(const Reply& reply);
  bool Deliver(const Reply& entry);
  void Corrupt(const std::string& what);

  const std::string key_;
  const MessageCallback on_message_;
  const RedisConnection::LostCallback on_lost_;
  std::unique_ptr<RedisConnection> connection_;
  StreamId delivered_;
  std::unordered_map<HostId, uint64_t> last_numbers_;
  size_t untrimmed_entries_ = 0;
  size_t untrimmed_bytes_ = 0;
  bool corrupt_ = false;
  std::string wire_;
};

}  // namespace elsewhere::broker
