// Server-side scripts: named, versioned, sent once, then called by their digest.
//
// RedisConnection loads scripts on every connect (ConnectionOptions::scripts), so that a call is one EVALSHA
// and keeps its place among the commands around it. Should somebody flush the server's script cache
// meanwhile, the call is repeated with its body; that one call may then run after commands issued later.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "shim/broker/redis_connection.h"
#include "shim/broker/sync_client.h"

namespace elsewhere::broker {

class Script {
 public:
  // `body` has static storage and begins with a comment of name and version: "-- elsewhere NAME VERSION".
  explicit Script(std::string_view body);
  std::string_view body() const { return body_; }
  const std::string& digest() const { return digest_; }

 private:
  std::string_view body_;
  std::string digest_;
};

// The script must outlive the answer. `repeat` as for Command(): most scripts recognise repetitions
// themselves.
void RunScript(RedisConnection& connection, const Script& script, std::span<const std::string_view> keys,
               std::span<const std::string_view> arguments, RedisConnection::Callback callback,
               Repeat repeat = Repeat::kSafe, Wake wake = Wake::kPromptly);

Result<OwnedReply> RunScript(SyncClient& client, const Script& script, std::span<const std::string_view> keys,
                             std::span<const std::string_view> arguments);

}  // namespace elsewhere::broker
