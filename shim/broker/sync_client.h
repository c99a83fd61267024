// SyncClient: one command at a time, blocking with a time limit. For the launcher, the doctor and tests; an
// agent uses RedisConnection. No reconnecting: the first failure is the caller's. Thread-safety: none.
#pragma once

#include <chrono>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "shim/broker/redis_url.h"
#include "shim/broker/reply.h"
#include "shim/broker/transport.h"
#include "shim/wire/result.h"

namespace elsewhere::broker {

class SyncClient {
 public:
  // Connects, authenticates, selects the database. One clear line for each way this fails.
  static Result<std::unique_ptr<SyncClient>> Connect(const RedisUrl& url, std::chrono::milliseconds limit);

  // An error reply is an Error here. Code EIO when the connection fails.
  Result<OwnedReply> Command(std::span<const std::string_view> arguments);
  Result<OwnedReply> Command(std::initializer_list<std::string_view> arguments);

  // "7.0.15"; fails for a server older than 7, which lacks what the scripts need.
  Result<std::string> CheckVersion();

  const RedisUrl& url() const { return url_; }

 private:
  SyncClient(const RedisUrl& url, std::chrono::milliseconds limit) : url_(url), limit_(limit) {}
  Status ConnectTo(const Address& address);
  Status Greet();
  Status Wait(short events, std::chrono::steady_clock::time_point until);
  Result<OwnedReply> Exchange(const std::string& wire);
  Error Unreachable(const std::string& why) const;

  const RedisUrl url_;
  const std::chrono::milliseconds limit_;
  std::unique_ptr<Transport> transport_;
  ReplyReader reader_;
};

}  // namespace elsewhere::broker
