#include "shim/broker/reply.h"

#include <algorithm>
#include <charconv>
#include <cstring>

namespace elsewhere::broker {
namespace {

constexpr size_t kKeepCapacity = 8 * 1024 * 1024;
constexpr int64_t kLargestBulk = int64_t{1} << 30;
constexpr int64_t kLargestArray = 1 << 20;
constexpr size_t kDeepest = 8;
constexpr size_t kLongestLine = 64 * 1024;

void AppendLength(std::string* out, char mark, size_t length) {
  char digits[24];
  const auto [end, error] = std::to_chars(digits, digits + sizeof digits, length);
  out->push_back(mark);
  out->append(digits, end);
  out->append("\r\n", 2);
}

bool ParseInteger(std::string_view text, int64_t* value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

std::string_view Reply::text() const {
  return IsString() || IsError() ? std::string_view(bytes_ + nodes_[index_].start, nodes_[index_].size)
                                 : std::string_view();
}

long long Reply::integer() const {
  return IsInteger() ? nodes_[index_].integer : 0;
}
size_t Reply::size() const {
  return IsArray() ? nodes_[index_].size : 0;
}

Reply Reply::operator[](size_t index) const {
  return index < size() ? Reply(bytes_, nodes_, nodes_[index_].start + index) : Reply();
}

void ReplyReader::Reset() {
  begin_ = end_ = parsed_ = needed_ = 0;
  given_ = false;
  nodes_.clear();
  frames_.clear();
}

void ReplyReader::Discard() {
  if (!given_) return;
  begin_ += parsed_;
  parsed_ = needed_ = 0;
  given_ = false;
  nodes_.clear();
}

std::span<char> ReplyReader::Room() {
  Discard();
  if (begin_ == end_) {
    begin_ = end_ = 0;
    if (capacity_ > kKeepCapacity) {
      buffer_.reset();
      capacity_ = 0;
    }
  }
  const size_t held = end_ - begin_;
  const size_t room = std::max(kLeastRoom, needed_ > held ? needed_ - held : 0);
  if (capacity_ - end_ < room) {
    if (capacity_ < held + room) {
      const size_t capacity = std::max(held + room, std::min(2 * capacity_, kKeepCapacity));
      auto grown = std::make_unique_for_overwrite<char[]>(capacity);
      if (held != 0) std::memcpy(grown.get(), buffer_.get() + begin_, held);
      buffer_ = std::move(grown);
      capacity_ = capacity;
    } else {
      std::memmove(buffer_.get(), buffer_.get() + begin_, held);
    }
    begin_ = 0;
    end_ = held;
  }
  return {buffer_.get() + end_, capacity_ - end_};
}

void ReplyReader::Commit(size_t bytes) {
  end_ += bytes;
}

ReplyReader::Step ReplyReader::ParseLine(std::string_view* line) {
  const std::string_view rest(buffer_.get() + begin_ + parsed_, end_ - begin_ - parsed_);
  const size_t end = rest.substr(0, kLongestLine).find("\r\n");
  if (end == std::string_view::npos) return rest.size() < kLongestLine ? Step::kIncomplete : Step::kBad;
  *line = rest.substr(0, end);
  return Step::kDone;
}

ReplyReader::Step ReplyReader::ParseBulk(ReplyNode* node, int64_t size) {
  if (size == -1) return Step::kDone;
  if (size < 0 || size > kLargestBulk) return Step::kBad;
  const auto bytes = static_cast<size_t>(size);
  if (end_ - begin_ - parsed_ < bytes + 2) {
    needed_ = parsed_ + bytes + 2;
    return Step::kIncomplete;
  }
  node->kind = ReplyNode::Kind::kString;
  node->start = parsed_;
  node->size = bytes;
  parsed_ += bytes + 2;
  return std::memcmp(buffer_.get() + begin_ + parsed_ - 2, "\r\n", 2) == 0 ? Step::kDone : Step::kBad;
}

ReplyReader::Step ReplyReader::ParseNode(ReplyNode* node) {
  *node = ReplyNode();
  std::string_view line;
  if (const Step step = ParseLine(&line); step != Step::kDone) return step;
  if (line.empty()) return Step::kBad;
  const char mark = line[0];
  const size_t start = parsed_;
  int64_t number = 0;
  if (mark == '+' || mark == '-') {
    node->kind = mark == '+' ? ReplyNode::Kind::kString : ReplyNode::Kind::kError;
    node->start = start + 1;
    node->size = line.size() - 1;
    parsed_ += line.size() + 2;
    return Step::kDone;
  }
  if (!ParseInteger(line.substr(1), &number)) return Step::kBad;
  parsed_ += line.size() + 2;
  if (mark == ':') {
    node->kind = ReplyNode::Kind::kInteger;
    node->integer = number;
    return Step::kDone;
  }
  if (mark == '$') {
    const Step step = ParseBulk(node, number);
    if (step == Step::kIncomplete) parsed_ = start;  // its length is read again
    return step;
  }
  if (mark != '*' || number < -1 || number > kLargestArray || frames_.size() >= kDeepest) return Step::kBad;
  if (number == -1) return Step::kDone;
  node->kind = ReplyNode::Kind::kArray;
  node->start = nodes_.size();
  node->size = static_cast<uint64_t>(number);
  return Step::kDone;
}

Result<Reply> ReplyReader::Next() {
  Discard();
  if (nodes_.empty()) {
    nodes_.emplace_back();
    frames_.assign(1, Frame{0, 1});
  }
  while (!frames_.empty()) {
    Frame& frame = frames_.back();
    if (frame.next == frame.end) {
      frames_.pop_back();
      continue;
    }
    ReplyNode node;
    const Step step = ParseNode(&node);
    if (step == Step::kIncomplete) return Error{ENODATA, "incomplete reply"};
    if (step == Step::kBad) return Error{EPROTO, "what Redis sent is not the Redis protocol"};
    nodes_[frame.next++] = node;
    if (node.kind == ReplyNode::Kind::kArray) {
      nodes_.resize(nodes_.size() + node.size);
      frames_.push_back(Frame{node.start, node.start + node.size});
    }
  }
  given_ = true;
  return Reply(buffer_.get() + begin_, nodes_.data(), 0);
}

OwnedReply ReplyReader::Own() const {
  return OwnedReply({buffer_.get() + begin_, parsed_}, nodes_);
}

void AppendCommandHead(std::string* out, size_t arguments) {
  AppendLength(out, '*', arguments);
}

void AppendArgument(std::string* out, std::string_view argument) {
  AppendLength(out, '$', argument.size());
  out->append(argument);
  out->append("\r\n", 2);
}

void AppendCommand(std::string* out, std::span<const std::string_view> arguments) {
  AppendCommandHead(out, arguments.size());
  for (const std::string_view argument : arguments) AppendArgument(out, argument);
}

void AppendCommand(std::string* out, std::initializer_list<std::string_view> arguments) {
  AppendCommand(out, std::span(arguments.begin(), arguments.size()));
}

}  // namespace elsewhere::broker
