// What a Redis server's error replies mean for a person. Free of I/O.
#pragma once

#include <string_view>

#include "shim/broker/redis_url.h"
#include "shim/broker/reply.h"
#include "shim/wire/result.h"

namespace elsewhere::broker {

// One line: where, what, what to do. Codes: EACCES (credentials), EAGAIN (waiting may help), ENOMEM, EPROTO.
Error ExplainServerError(const RedisUrl& url, std::string_view text);

// A field of an INFO reply, empty when absent.
std::string_view InfoField(std::string_view info, std::string_view name);

// What a command gets that must not be repeated and whose answer was lost.
Reply ConnectionLostReply();

}  // namespace elsewhere::broker
