#include "shim/broker/inbox.h"

#include <array>
#include <charconv>
#include <cstring>
#include <vector>

namespace elsewhere::broker {
namespace {

constexpr size_t kTrimEntries = 64;
constexpr size_t kTrimBytes = 256 * 1024;
constexpr std::string_view kReadCount = "64";
constexpr size_t kHeaderSize = 12;

void PutLittleEndian(char* out, uint64_t value, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i) out[i] = static_cast<char>(value >> (8 * i));
}

uint64_t GetLittleEndian(const char* in, size_t bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < bytes; ++i) value |= uint64_t{static_cast<unsigned char>(in[i])} << (8 * i);
  return value;
}

bool ParseNumber(std::string_view text, uint64_t* number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *number);
  return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

}  // namespace

std::string StreamId::ToString() const {
  return std::to_string(milliseconds) + "-" + std::to_string(sequence);
}

bool StreamId::Parse(std::string_view text, StreamId* id) {
  *id = StreamId();
  if (text.empty()) return true;
  const size_t dash = text.find('-');
  return dash != std::string_view::npos && ParseNumber(text.substr(0, dash), &id->milliseconds) &&
         ParseNumber(text.substr(dash + 1), &id->sequence);
}

std::string EncodeInboxHeader(HostId sender, uint64_t number) {
  std::string header(kHeaderSize, '\0');
  PutLittleEndian(header.data(), sender, 4);
  PutLittleEndian(header.data() + 4, number, 8);
  return header;
}

InboxSender::InboxSender(RedisConnection& connection, const SessionKeys& keys, HostId self,
                         UndeliveredCallback on_undelivered)
    : connection_(connection),
      keys_(keys),
      self_(self),

      on_undelivered_(std::move(on_undelivered)) {}

InboxSender::Receiver& InboxSender::ReceiverFor(HostId host) {
  Receiver& receiver = receivers_[host];
  if (receiver.key.empty()) receiver.key = keys_.inbox(host);
  return receiver;
}

void InboxSender::Check(HostId to, const Reply& reply) const {
  if (reply.IsNil()) {
    on_undelivered_(to, Error{EPIPE, "Redis key '" + keys_.inbox(to) + "', its inbox, is missing"});
  } else if (reply.IsError()) {
    const bool full = reply.text().starts_with("OOM");
    on_undelivered_(to,
                    Error{full ? ENOMEM : EPROTO, "sending to host " + std::to_string(to) + " (key '" +
                                                      keys_.inbox(to) + "'): " + std::string(reply.text())});
  }
}

void InboxSender::Send(HostId to, std::string_view message) {
  Receiver& receiver = ReceiverFor(to);
  const std::string header = EncodeInboxHeader(self_, ++receiver.last_number);
  connection_.Command(
      {"XADD", receiver.key, "NOMKSTREAM", "*", header, message},
      [this, to](const Reply& reply) { Check(to, reply); }, Repeat::kSafe, Wake::kLater);
}

Result<std::unique_ptr<InboxReader>> InboxReader::Open(ConnectionOptions options, const SessionKeys& keys,
                                                       HostId host, MessageCallback on_message,
                                                       RedisConnection::LostCallback on_lost) {
  std::unique_ptr<InboxReader> reader(new InboxReader(keys, host, std::move(on_message), on_lost));
  auto connection = RedisConnection::Open(std::move(options), std::move(on_lost));
  if (!connection) return connection.error();
  reader->connection_ = std::move(*connection);
  reader->Arm();
  return reader;
}

InboxReader::InboxReader(const SessionKeys& keys, HostId host, MessageCallback on_message,
                         RedisConnection::LostCallback on_lost)
    : key_(keys.inbox(host)), on_message_(std::move(on_message)), on_lost_(std::move(on_lost)) {}

void InboxReader::OnReadable() {
  connection_->OnReadable();
}

void InboxReader::Arm() {
  wire_.clear();
  if (untrimmed_entries_ >= kTrimEntries || untrimmed_bytes_ >= kTrimBytes) {
    const StreamId next{delivered_.milliseconds, delivered_.sequence + 1};
    AppendCommand(&wire_, {"CLIENT", "REPLY", "SKIP"});
    AppendCommand(&wire_, {"XTRIM", key_, "MINID", next.ToString()});
    untrimmed_entries_ = untrimmed_bytes_ = 0;
  }
  AppendCommand(&wire_, {"XREAD", "COUNT", kReadCount, "BLOCK", "0", "STREAMS", key_, delivered_.ToString()});
  connection_->Submit(wire_, [this](const Reply& reply) { OnEntries(reply); });
}

// [[key, [[id, [header, message]], ...]]]
void InboxReader::OnEntries(const Reply& reply) {
  if (corrupt_) return;
  const Reply entries = reply[0][1];
  if (reply.IsError()) return Corrupt(std::string(reply.text()));
  if (!entries.IsArray()) return Corrupt("the stream has vanished");
  for (size_t i = 0; i < entries.size(); ++i) {
    if (!Deliver(entries[i])) return;
  }
  Arm();
}

bool InboxReader::Deliver(const Reply& entry) {
  StreamId id;
  const std::string_view header = entry[1][0].text();
  if (!StreamId::Parse(entry[0].text(), &id) || id <= delivered_ || header.size() != kHeaderSize ||
      entry[1].size() != 2)
    return Corrupt("entry '" + std::string(entry[0].text()) + "' is malformed"), false;
  const std::string_view bytes = entry[1][1].text();
  const auto sender = static_cast<HostId>(GetLittleEndian(header.data(), 4));
  const uint64_t number = GetLittleEndian(header.data() + 4, 8);
  ++untrimmed_entries_;
  untrimmed_bytes_ += bytes.size();
  uint64_t& last = last_numbers_[sender];
  if (number > last + 1) {
    Corrupt("messages " + std::to_string(last + 1) + " to " + std::to_string(number - 1) + " of host " +
            std::to_string(sender) + " are missing");
    return false;
  }
  if (number <= last) return delivered_ = id, true;
  last = number;
  on_message_(Message{sender, number, bytes, id});
  delivered_ = id;
  return true;
}

void InboxReader::Corrupt(const std::string& what) {
  corrupt_ = true;
  on_lost_(Error{EPROTO, "Redis key '" + key_ + "': " + what});
}

}  // namespace elsewhere::broker
