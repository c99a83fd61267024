// The Redis protocol (RESP2) as values: commands out, replies in. hiredis reads replies; it never owns a
// socket here. Free of I/O. Thread-safety: none.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "shim/wire/result.h"

struct redisReply;
struct redisReader;

namespace elsewhere::broker {

// A view of one reply. Valid only as long as what gave it out says (inside a callback, or while its
// OwnedReply lives). Every accessor is safe on every kind: asking a reply for what it is not gives an empty
// or zero value, so that malformed data in Redis can never crash an agent.
class Reply {
 public:
  Reply() = default;
  explicit Reply(const redisReply* raw) : raw_(raw) {}

  bool IsNil() const;
  bool IsError() const;
  bool IsString() const;  // bulk string or status
  bool IsInteger() const;
  bool IsArray() const;

  std::string_view text() const;  // of a string, a status or an error
  long long integer() const;
  size_t size() const;                   // elements of an array
  Reply operator[](size_t index) const;  // a nil reply beyond the end

 private:
  const redisReply* raw_ = nullptr;
};

class OwnedReply {
 public:
  explicit OwnedReply(redisReply* raw);
  Reply view() const { return Reply(raw_.get()); }

 private:
  struct Free {
    void operator()(redisReply* raw) const;
  };
  std::unique_ptr<redisReply, Free> raw_;
};

// Splits a stream of bytes into replies.
class ReplyReader {
 public:
  ReplyReader();

  void Feed(std::string_view bytes);
  // The next whole reply; ENODATA when more bytes are needed, EPROTO when the bytes are no Redis protocol.
  Result<OwnedReply> Next();
  void Reset();  // for a new connection

 private:
  struct Free {
    void operator()(redisReader* reader) const;
  };
  std::unique_ptr<redisReader, Free> reader_;
};

// Appends one command in wire form. Arguments may hold any bytes.
void AppendCommand(std::string* out, std::span<const std::string_view> arguments);
void AppendCommand(std::string* out, std::initializer_list<std::string_view> arguments);

}  // namespace elsewhere::broker
