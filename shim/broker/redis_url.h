// Where a Redis is: what a user writes after --redis.
//
//   redis://[user[:password]@]host[:port][/database]      TCP
//   rediss://...same...[?cacert=FILE][&cert=FILE&key=FILE] TLS; the system's authorities unless cacert names
//   others unix:///path/to/socket[?db=N][&user=U][&password=P]    local socket
//
// A lone word before '@' with no ':' is a user name without password; ":password@" is the default user's
// password. Everything may be percent-encoded. Thread-safety: plain values.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "shim/wire/result.h"

namespace elsewhere::broker {

struct RedisUrl {
  enum class Kind { kTcp, kTls, kUnix };

  Kind kind = Kind::kTcp;
  std::string host;
  uint16_t port = 6379;
  std::string path;  // of the socket; kUnix only
  std::string user;
  std::string password;
  int database = 0;
  std::string ca_file;
  std::string certificate_file;
  std::string key_file;

  // For messages: the same place without the password.
  std::string Display() const;
};

// EINVAL with one line that shows the value seen, its password replaced by "***".
Result<RedisUrl> ParseRedisUrl(std::string_view text);

}  // namespace elsewhere::broker
