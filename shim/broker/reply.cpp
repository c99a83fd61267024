#include "shim/broker/reply.h"

#include <hiredis/hiredis.h>

#include <charconv>

namespace elsewhere::broker {
namespace {

bool Is(const redisReply* raw, int type) {
  return raw != nullptr && raw->type == type;
}

void AppendLength(std::string* out, char mark, size_t length) {
  char digits[24];
  const auto [end, error] = std::to_chars(digits, digits + sizeof digits, length);
  out->push_back(mark);
  out->append(digits, end);
  out->append("\r\n", 2);
}

}  // namespace

bool Reply::IsNil() const {
  return raw_ == nullptr || Is(raw_, REDIS_REPLY_NIL);
}
bool Reply::IsError() const {
  return Is(raw_, REDIS_REPLY_ERROR);
}
bool Reply::IsString() const {
  return Is(raw_, REDIS_REPLY_STRING) || Is(raw_, REDIS_REPLY_STATUS);
}
bool Reply::IsInteger() const {
  return Is(raw_, REDIS_REPLY_INTEGER);
}
bool Reply::IsArray() const {
  return Is(raw_, REDIS_REPLY_ARRAY);
}

std::string_view Reply::text() const {
  return IsString() || IsError() ? std::string_view(raw_->str, raw_->len) : std::string_view();
}

long long Reply::integer() const {
  return IsInteger() ? raw_->integer : 0;
}
size_t Reply::size() const {
  return IsArray() ? raw_->elements : 0;
}
Reply Reply::operator[](size_t index) const {
  return index < size() ? Reply(raw_->element[index]) : Reply();
}

OwnedReply::OwnedReply(redisReply* raw) : raw_(raw) {}
void OwnedReply::Free::operator()(redisReply* raw) const {
  freeReplyObject(raw);
}

ReplyReader::ReplyReader() {
  Reset();
}
void ReplyReader::Free::operator()(redisReader* reader) const {
  redisReaderFree(reader);
}
void ReplyReader::Reset() {
  reader_.reset(redisReaderCreate());
}

void ReplyReader::Feed(std::string_view bytes) {
  redisReaderFeed(reader_.get(), bytes.data(), bytes.size());
}

Result<OwnedReply> ReplyReader::Next() {
  void* raw = nullptr;
  if (redisReaderGetReply(reader_.get(), &raw) != REDIS_OK)
    return Error{EPROTO, std::string("not the Redis protocol: ") + reader_->errstr};
  if (raw == nullptr) return Error{ENODATA, "incomplete reply"};
  return OwnedReply(static_cast<redisReply*>(raw));
}

void AppendCommand(std::string* out, std::span<const std::string_view> arguments) {
  AppendLength(out, '*', arguments.size());
  for (const std::string_view argument : arguments) {
    AppendLength(out, '$', argument.size());
    out->append(argument);
    out->append("\r\n", 2);
  }
}

void AppendCommand(std::string* out, std::initializer_list<std::string_view> arguments) {
  AppendCommand(out, std::span(arguments.begin(), arguments.size()));
}

}  // namespace elsewhere::broker
