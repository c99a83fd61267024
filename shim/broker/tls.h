// TLS on a socket that we own. Thread-safety: none. Errors are one line.
#pragma once

#include <memory>
#include <string>

#include "shim/broker/redis_url.h"
#include "shim/wire/result.h"

struct ssl_ctx_st;
struct ssl_st;

namespace elsewhere::broker {

enum class Io { kDone, kWantRead, kWantWrite, kClosed };

class Tls {
 public:
  // `socket` is borrowed, connected and non-blocking. The peer's certificate must be valid for url.host.
  static Result<std::unique_ptr<Tls>> Create(const RedisUrl& url, int socket);

  Io Handshake();
  // *done: bytes moved, > 0 exactly when kDone.
  Io Read(char* buffer, size_t size, size_t* done);
  Io Write(const char* bytes, size_t size, size_t* done);
  const std::string& failure() const { return failure_; }

 private:
  struct Free {
    void operator()(ssl_ctx_st* context) const;
    void operator()(ssl_st* session) const;
  };
  Tls() = default;
  Io Judge(int result);

  std::unique_ptr<ssl_ctx_st, Free> context_;
  std::unique_ptr<ssl_st, Free> session_;
  std::string failure_;
};

}  // namespace elsewhere::broker
