// Any bytes from a Redis server, arriving in pieces: replies whose every element can be looked at, or an
// error.

// links: shim/broker/reply.cpp
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "shim/broker/reply.h"

namespace {

using namespace elsewhere::broker;

uint64_t Walk(const Reply& reply, int depth) {
  uint64_t sum = static_cast<uint64_t>(reply.integer()) + reply.size();
  for (const char c : reply.text()) sum += static_cast<uint8_t>(c);
  if (!reply[reply.size()].IsNil()) std::abort();
  for (size_t i = 0; i < std::min<size_t>(reply.size(), 64) && depth < 64; ++i)
    sum += Walk(reply[i], depth + 1);
  return sum;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const size_t piece = data[0] % 61 + 1;
  ReplyReader reader;
  volatile uint64_t sum = 0;
  for (size_t at = 1; at < size;) {
    const auto room = reader.Room();
    const size_t taken = std::min({piece, size - at, room.size()});
    std::memcpy(room.data(), data + at, taken);
    reader.Commit(taken);
    at += taken;
    for (;;) {
      const auto reply = reader.Next();
      if (!reply && reply.error().code == ENODATA) break;
      if (!reply) return 0;
      sum = sum + Walk(*reply, 0) + Walk(reader.Own().view(), 0);
    }
  }
  return 0;
}
