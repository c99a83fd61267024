// PrivateRedis: Debian's redis-server for one session, on a Unix socket in the session's 0700 directory.
//
// No TCP port, no configuration file, no persistence; memory bounded (what does not fit is refused, never
// evicted); own session, so that the terminal's signals do not reach it; it dies with the thread that started
// it (PR_SET_PDEATHSIG). Its death shows on pidfd(): the session cannot go on without it. Thread-safety:
// none.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "shim/broker/redis_url.h"
#include "shim/wire/result.h"

namespace elsewhere::broker {

class PrivateRedis {
 public:
  struct Options {
    std::string directory;                 // exists, 0700; holds redis.sock, redis.log
    std::string program = "redis-server";  // found in PATH
    size_t memory_bytes = 1ULL << 30;
    std::chrono::milliseconds start_limit{10'000};
    std::vector<std::string> environment = {};  // NAME=VALUE, beside PATH
  };

  // Returns when the server accepts connections. One line that says why it does not, from its own log if it
  // wrote one.
  static Result<std::unique_ptr<PrivateRedis>> Start(const Options& options);
  // The two halves of Start, for whoever has something else to do while the server starts (about 5 ms).
  // Between them ready_fd() becomes readable when AwaitReady will not block.
  static Result<std::unique_ptr<PrivateRedis>> Begin(const Options& options);
  Status AwaitReady();
  // Kills it and removes its files.
  ~PrivateRedis();
  PrivateRedis(const PrivateRedis&) = delete;
  PrivateRedis& operator=(const PrivateRedis&) = delete;

  const RedisUrl& url() const { return url_; }
  int ready_fd() const { return notify_socket_; }
  int pidfd() const { return pidfd_; }  // readable when the server has died
  pid_t pid() const { return pid_; }

 private:
  PrivateRedis() = default;
  Status Spawn(const Options& options);
  void CloseNotifySocket();
  std::string LastLogLine() const;

  RedisUrl url_;
  std::string log_path_;
  std::string notify_path_;
  int notify_socket_ = -1;
  std::chrono::milliseconds start_limit_{0};
  pid_t pid_ = -1;
  int pidfd_ = -1;
};

}  // namespace elsewhere::broker
