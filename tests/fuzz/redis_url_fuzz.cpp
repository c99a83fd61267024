// Any text as the URL of a Redis.

// links: shim/broker/redis_url.cpp
#include <cstdint>

#include "shim/broker/redis_url.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  (void)elsewhere::broker::ParseRedisUrl({reinterpret_cast<const char*>(data), size});
  return 0;
}
