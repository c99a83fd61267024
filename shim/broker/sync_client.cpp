#include "shim/broker/sync_client.h"

#include <poll.h>

#include <algorithm>
#include <charconv>
#include <cstring>

#include "shim/broker/server_errors.h"

namespace elsewhere::broker {
namespace {

using Clock = std::chrono::steady_clock;

short EventsFor(Io io) {
  return io == Io::kWantWrite ? POLLOUT : POLLIN;
}

}  // namespace

Result<std::unique_ptr<SyncClient>> SyncClient::Connect(const RedisUrl& url,
                                                        std::chrono::milliseconds limit) {
  auto addresses = Resolve(url);
  if (!addresses) return addresses.error();
  std::unique_ptr<SyncClient> client(new SyncClient(url, limit));
  Status connected = Error{EHOSTUNREACH, "Redis at " + url.Display() + " has no address"};
  for (const Address& address : *addresses) {
    connected = client->ConnectTo(address);
    if (connected) break;
  }
  if (!connected) return connected.error();
  if (Status greeted = client->Greet(); !greeted) return greeted.error();
  return client;
}

Error SyncClient::Unreachable(const std::string& why) const {
  return Error{EIO, "Redis at " + url_.Display() + " cannot be reached: " + why};
}

Status SyncClient::Wait(short events, Clock::time_point until) {
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()).count();
    pollfd entry{.fd = transport_->fd(), .events = events, .revents = 0};
    const int ready = poll(&entry, 1, static_cast<int>(std::max<decltype(left)>(left, 0)));
    if (ready > 0) return Ok{};
    if (ready == 0) return Unreachable("no answer within " + std::to_string(limit_.count()) + " ms");
    if (errno != EINTR) return Unreachable(strerror(errno));
  }
}

Status SyncClient::ConnectTo(const Address& address) {
  auto transport = Transport::Start(url_, address);
  if (!transport)
    return transport.error().code == EINVAL ? transport.error() : Unreachable(transport.error().message);
  transport_ = std::move(*transport);
  const auto until = Clock::now() + limit_;
  for (;;) {
    const Io io = transport_->Advance();
    if (io == Io::kDone) return Ok{};
    if (io == Io::kClosed) return Unreachable(transport_->failure());
    if (Status ready = Wait(EventsFor(io), until); !ready) return ready;
  }
}

Status SyncClient::Greet() {
  Result<OwnedReply> reply = Error{};
  if (!url_.password.empty()) {
    reply =
        url_.user.empty() ? Command({"AUTH", url_.password}) : Command({"AUTH", url_.user, url_.password});
    if (!reply) return reply.error();
  }
  if (url_.database != 0) {
    reply = Command({"SELECT", std::to_string(url_.database)});
    if (!reply) return reply.error();
  }
  reply = Command({"PING"});
  if (!reply) return reply.error();
  return Ok{};
}

Result<OwnedReply> SyncClient::Command(std::initializer_list<std::string_view> arguments) {
  return Command(std::span(arguments.begin(), arguments.size()));
}

Result<OwnedReply> SyncClient::Command(std::span<const std::string_view> arguments) {
  std::string wire;
  AppendCommand(&wire, arguments);
  Result<OwnedReply> reply = Exchange(wire);
  if (reply && reply->view().IsError()) return ExplainServerError(url_, reply->view().text());
  return reply;
}

Result<OwnedReply> SyncClient::Exchange(const std::string& wire) {
  const auto until = Clock::now() + limit_;
  for (size_t sent = 0; sent < wire.size();) {
    size_t done = 0;
    const Io io = transport_->Write(wire.data() + sent, wire.size() - sent, &done);
    sent += done;
    if (io == Io::kClosed) return Unreachable(transport_->failure());
    if (io == Io::kDone) continue;
    if (Status ready = Wait(EventsFor(io), until); !ready) return ready.error();
  }
  for (;;) {
    Result<Reply> reply = reader_.Next();
    if (reply) return reader_.Own();
    if (reply.error().code != ENODATA) return reply.error();
    const std::span<char> room = reader_.Room();
    size_t done = 0;
    const Io io = transport_->Read(room.data(), room.size(), &done);
    if (io == Io::kClosed) return Unreachable(transport_->failure());
    if (io == Io::kDone) {
      reader_.Commit(done);
    } else if (Status ready = Wait(EventsFor(io), until); !ready) {
      return ready.error();
    }
  }
}

Result<std::string> SyncClient::CheckVersion() {
  Result<OwnedReply> info = Command({"INFO", "server"});
  if (!info) return info.error();
  const std::string_view version = InfoField(info->view().text(), "redis_version");
  int major = 0;
  std::from_chars(version.data(), version.data() + version.size(), major);
  if (major >= 7) return std::string(version);
  return Error{ENOTSUP, "Redis at " + url_.Display() + " has version '" + std::string(version) +
                            "'; a session needs 7 or later"};
}

}  // namespace elsewhere::broker
