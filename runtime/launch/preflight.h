// What the launcher does with Redis and the store itself: finds out before anything is started what is wrong
// with them, and removes what a dead agent left.
#pragma once

#include <string>

#include "runtime/launch/options.h"
#include "shim/wire/result.h"

namespace elsewhere::runtime {

// The Redis that `url` names answers, lets us in, and is new enough. Answers its version.
Result<std::string> CheckRedis(const std::string& url);

// redis-server is there to be started. Answers its path.
Result<std::string> FindRedisServer();

// The store that `url` names takes and returns an object.
Status CheckStore(const std::string& url, const std::string& session_id);

// Redis and store as `options` name them.
Status CheckServices(const Options& options);

// Removes the session's keys from the Redis that `url` names, for an agent that no longer can.
Status RemoveKeys(const std::string& url, const std::string& session_id);

}  // namespace elsewhere::runtime
