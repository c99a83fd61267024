// A non-blocking byte stream to a Redis: Unix socket, TCP, or TLS over TCP. Thread-safety: none.
//
// A peer that vanishes without a word is noticed by the kernel (TCP keep-alive, TCP_USER_TIMEOUT), within 20
// s: a connection blocked in XREAD has no other sign of life.
#pragma once

#include <sys/socket.h>

#include <memory>
#include <string>
#include <vector>

#include "shim/broker/redis_url.h"
#include "shim/broker/tls.h"
#include "shim/wire/result.h"

namespace elsewhere::broker {

struct Address {
  sockaddr_storage storage;
  socklen_t length;
};

// Every address of the URL's host, in the resolver's order; may block in the resolver. EHOSTUNREACH and one
// line.
Result<std::vector<Address>> Resolve(const RedisUrl& url);

class Transport {
 public:
  // Starts connecting; errors that no waiting can heal (bad certificate files) are EINVAL, others may be
  // retried.
  static Result<std::unique_ptr<Transport>> Start(const RedisUrl& url, const Address& address);
  ~Transport();
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;

  // Goes on with connect and handshake; kDone when bytes may flow. Call again when fd() is ready for what it
  // wants.
  Io Advance();
  Io Read(char* buffer, size_t size, size_t* done);
  Io Write(const char* bytes, size_t size, size_t* done);
  // A read that gave less than was asked for has emptied the stream (not so under TLS, which hands out
  // records).
  bool ShortReadMeansEmpty() const { return tls_ == nullptr; }

  int fd() const { return fd_; }
  // Why the last call said kClosed; one line.
  const std::string& failure() const { return failure_; }

 private:
  Transport(const RedisUrl& url, int fd) : url_(url), fd_(fd) {}
  Io Fail(std::string why);
  Io Adopt(Io result);

  const RedisUrl url_;
  const int fd_;
  bool connected_ = false;
  std::unique_ptr<Tls> tls_;
  std::string failure_;
};

}  // namespace elsewhere::broker
