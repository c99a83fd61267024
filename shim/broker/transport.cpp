#include "shim/broker/transport.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

namespace elsewhere::broker {
namespace {

Result<std::vector<Address>> UnixAddress(const RedisUrl& url) {
  Address address{};
  auto* const name = reinterpret_cast<sockaddr_un*>(&address.storage);
  if (url.path.size() >= sizeof name->sun_path)
    return Error{EINVAL, "socket path too long: '" + url.path + "'"};
  name->sun_family = AF_UNIX;
  std::memcpy(name->sun_path, url.path.c_str(), url.path.size() + 1);
  address.length = sizeof *name;
  return std::vector<Address>{address};
}

void SetTcpOptions(int fd) {
  const auto set = [fd](int level, int option, int value) {
    setsockopt(fd, level, option, &value, sizeof value);
  };
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 5);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 5);
  set(IPPROTO_TCP, TCP_KEEPCNT, 3);
  set(IPPROTO_TCP, TCP_USER_TIMEOUT, 20'000);  // milliseconds
}

}  // namespace

Result<std::vector<Address>> Resolve(const RedisUrl& url) {
  if (url.kind == RedisUrl::Kind::kUnix) return UnixAddress(url);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_ADDRCONFIG;
  addrinfo* found = nullptr;
  const int failed = getaddrinfo(url.host.c_str(), std::to_string(url.port).c_str(), &hints, &found);
  if (failed != 0)
    return Error{EHOSTUNREACH, "cannot find the Redis host '" + url.host + "': " + gai_strerror(failed)};
  std::vector<Address> addresses;
  for (const addrinfo* entry = found; entry != nullptr; entry = entry->ai_next) {
    Address address{};
    std::memcpy(&address.storage, entry->ai_addr, entry->ai_addrlen);
    address.length = entry->ai_addrlen;
    addresses.push_back(address);
  }
  freeaddrinfo(found);
  return addresses;
}

Result<std::unique_ptr<Transport>> Transport::Start(const RedisUrl& url, const Address& address) {
  const int family = address.storage.ss_family;
  const int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return Error{errno, std::string("socket: ") + strerror(errno)};
  std::unique_ptr<Transport> transport(new Transport(url, fd));
  if (family != AF_UNIX) SetTcpOptions(fd);
  if (url.kind == RedisUrl::Kind::kTls) {
    auto tls = Tls::Create(url, fd);
    if (!tls) return tls.error();
    transport->tls_ = std::move(*tls);
  }
  int result = 0;
  do {
    result = connect(fd, reinterpret_cast<const sockaddr*>(&address.storage), address.length);
  } while (result < 0 && errno == EINTR);
  if (result == 0) transport->connected_ = true;
  // A Unix socket whose backlog is full says EAGAIN and connects later or never: retry like any refusal.
  if (result < 0 && errno != EINPROGRESS) return Error{errno, strerror(errno)};
  return transport;
}

Transport::~Transport() {
  close(fd_);
}

Io Transport::Fail(std::string why) {
  failure_ = std::move(why);
  return Io::kClosed;
}

Io Transport::Adopt(Io result) {
  if (result == Io::kClosed) failure_ = tls_->failure();
  return result;
}

Io Transport::Advance() {
  if (!connected_) {
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error != 0) return Fail(strerror(error));
    sockaddr_storage peer{};
    length = sizeof peer;
    if (getpeername(fd_, reinterpret_cast<sockaddr*>(&peer), &length) < 0) {
      return errno == ENOTCONN ? Io::kWantWrite : Fail(strerror(errno));
    }
    connected_ = true;
  }
  return tls_ == nullptr ? Io::kDone : Adopt(tls_->Handshake());
}

Io Transport::Read(char* buffer, size_t size, size_t* done) {
  if (tls_ != nullptr) return Adopt(tls_->Read(buffer, size, done));
  *done = 0;
  const ssize_t got = recv(fd_, buffer, size, 0);
  if (got > 0) {
    *done = static_cast<size_t>(got);
    return Io::kDone;
  }
  if (got == 0) return Fail("connection closed by the server");
  if (errno == EAGAIN || errno == EINTR) return Io::kWantRead;
  return Fail(strerror(errno));
}

Io Transport::Write(const char* bytes, size_t size, size_t* done) {
  if (tls_ != nullptr) return Adopt(tls_->Write(bytes, size, done));
  *done = 0;
  const ssize_t sent = send(fd_, bytes, size, MSG_NOSIGNAL);
  if (sent >= 0) {
    *done = static_cast<size_t>(sent);
    return Io::kDone;
  }
  if (errno == EAGAIN || errno == EINTR) return Io::kWantWrite;
  return Fail(strerror(errno));
}

}  // namespace elsewhere::broker
