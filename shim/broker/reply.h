// The Redis protocol (RESP2) as values: commands out, replies in. Free of I/O. Thread-safety: none.
//
// Replies are read in place: the socket's bytes land in the reader's buffer and a reply is a table of what
// lies where. hiredis, which copies every byte twice on that way and allocates for every element, halved an
// inbox's throughput of large messages.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "shim/wire/result.h"

namespace elsewhere::broker {

struct ReplyNode {
  enum class Kind : uint8_t { kNil, kError, kString, kInteger, kArray };
  Kind kind = Kind::kNil;
  uint64_t start = 0;  // text: offset from the reply's first byte; array: index of its first element
  uint64_t size = 0;   // bytes or elements
  int64_t integer = 0;
};

// A view of one reply. Valid only as long as what gave it out says (inside a callback, or while its
// OwnedReply lives). Every accessor is safe on every kind: asking a reply for what it is not gives an empty
// or zero value, so that malformed data in Redis can never crash an agent.
class Reply {
 public:
  Reply() = default;
  Reply(const char* bytes, const ReplyNode* nodes, size_t index)
      : bytes_(bytes), nodes_(nodes), index_(index) {}

  bool IsNil() const { return kind() == ReplyNode::Kind::kNil; }
  bool IsError() const { return kind() == ReplyNode::Kind::kError; }
  bool IsString() const { return kind() == ReplyNode::Kind::kString; }  // bulk string or status
  bool IsInteger() const { return kind() == ReplyNode::Kind::kInteger; }
  bool IsArray() const { return kind() == ReplyNode::Kind::kArray; }

  std::string_view text() const;  // of a string, a status or an error
  long long integer() const;
  size_t size() const;                   // elements of an array
  Reply operator[](size_t index) const;  // a nil reply beyond the end

 private:
  ReplyNode::Kind kind() const { return nodes_ == nullptr ? ReplyNode::Kind::kNil : nodes_[index_].kind; }

  const char* bytes_ = nullptr;
  const ReplyNode* nodes_ = nullptr;
  size_t index_ = 0;
};

class OwnedReply {
 public:
  OwnedReply(std::string_view bytes, std::vector<ReplyNode> nodes)
      : bytes_(bytes), nodes_(std::move(nodes)) {}
  Reply view() const { return Reply(bytes_.data(), nodes_.data(), 0); }

 private:
  std::string bytes_;
  std::vector<ReplyNode> nodes_;
};

// Splits a stream of bytes into replies.
class ReplyReader {
 public:
  // Room for the next bytes: at least `kLeastRoom`, or what the unfinished reply is known to need.
  // Invalidates the last reply.
  std::span<char> Room();
  void Commit(size_t bytes);  // how many of them were filled

  // The next whole reply, valid until Room() or the next Next(); ENODATA when more bytes are needed, EPROTO
  // when the bytes are no Redis protocol.
  Result<Reply> Next();
  OwnedReply Own() const;  // a copy of the last reply
  void Reset();            // for a new connection

  static constexpr size_t kLeastRoom = 64 * 1024;

 private:
  struct Frame {
    size_t next;
    size_t end;
  };
  enum class Step { kDone, kIncomplete, kBad };
  void Discard();
  Step ParseNode(ReplyNode* node);
  Step ParseLine(std::string_view* line);
  Step ParseBulk(ReplyNode* node, int64_t size);

  std::unique_ptr<char[]> buffer_;
  size_t capacity_ = 0;
  size_t begin_ = 0;  // first byte of the reply being read
  size_t end_ = 0;
  size_t parsed_ = 0;   // bytes of that reply that nodes_ describes
  size_t needed_ = 0;   // bytes that it is known to have at least
  bool given_ = false;  // Next has given it out; it is discarded by the next call
  std::vector<ReplyNode> nodes_;
  std::vector<Frame> frames_;  // arrays whose elements are not complete
};

// Appends one command in wire form. Arguments may hold any bytes.
void AppendCommand(std::string* out, std::span<const std::string_view> arguments);
void AppendCommand(std::string* out, std::initializer_list<std::string_view> arguments);
// The same piece by piece: the head says how many arguments follow.
void AppendCommandHead(std::string* out, size_t arguments);
void AppendArgument(std::string* out, std::string_view argument);

}  // namespace elsewhere::broker
