// Real servers and a small event loop for tests that talk to Redis.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "shim/broker/private_redis.h"
#include "shim/broker/redis_connection.h"
#include "shim/broker/sync_client.h"

namespace elsewhere::broker::testing {

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    char name[] = "/tmp/elsewhere-test-XXXXXX";
    path_ = mkdtemp(name);
  }
  ~TemporaryDirectory() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// Polls descriptors and calls their handlers until `done` or ten seconds have passed.
class Loop {
 public:
  void Add(int fd, std::function<void()> handler) { handlers_.emplace_back(fd, std::move(handler)); }

  bool RunUntil(const std::function<bool()>& done,
                std::chrono::milliseconds limit = std::chrono::seconds(10)) {
    const auto until = std::chrono::steady_clock::now() + limit;
    while (!done()) {
      const auto left =
          std::chrono::ceil<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
      if (left.count() <= 0) return false;
      std::vector<pollfd> entries;
      for (const auto& [fd, handler] : handlers_) entries.push_back({fd, POLLIN, 0});
      poll(entries.data(), entries.size(), static_cast<int>(left.count()));
      for (size_t i = 0; i < entries.size(); ++i) {
        if (entries[i].revents != 0) handlers_[i].second();
      }
    }
    return true;
  }

 private:
  std::vector<std::pair<int, std::function<void()>>> handlers_;
};

// A redis-server on a TCP port with any options; killed at the end. Connecting to it may need patience.
class TcpRedis {
 public:
  explicit TcpRedis(std::vector<std::string> options) : options_(std::move(options)) { Start(); }
  ~TcpRedis() { Kill(); }

  static std::string FreePort() {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof name;
    EXPECT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&name), length), 0);
    getsockname(fd, reinterpret_cast<sockaddr*>(&name), &length);
    close(fd);
    return std::to_string(ntohs(name.sin_port));
  }

  void Start() {
    std::vector<std::string> all{"redis-server",   "--bind", "127.0.0.1", "--save",    "",
                                 "--appendonly",   "no",     "--logfile", "/dev/null", "--dir",
                                 directory_.path()};
    all.insert(all.end(), options_.begin(), options_.end());
    std::vector<char*> arguments;
    for (std::string& text : all) arguments.push_back(text.data());
    arguments.push_back(nullptr);
    pid_ = fork();
    if (pid_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      execvp(arguments[0], arguments.data());
      _exit(127);
    }
  }

  void Kill() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }

 private:
  TemporaryDirectory directory_;
  std::vector<std::string> options_;
  pid_t pid_ = -1;
};

inline RedisUrl Url(const std::string& text) {
  auto url = ParseRedisUrl(text);
  EXPECT_TRUE(url.ok()) << text;
  return url.value();
}

// A connection with its loop, for tests that need one.
struct Client {
  explicit Client(ConnectionOptions options) {
    auto opened = RedisConnection::Open(std::move(options), [this](const Error& why) { lost = why.message; });
    if (!opened) {
      lost = opened.error().message;
      return;
    }
    connection = std::move(*opened);
    loop.Add(connection->fd(), [this] { connection->OnReadable(); });
  }

  // Waits for the answer; its text or number as text, "nil", or "lost: why".
  std::string Ask(std::initializer_list<std::string_view> arguments) {
    std::string answer;
    bool answered = false;
    connection->Command(arguments, [&](const Reply& reply) {
      answered = true;
      answer = reply.IsNil()       ? "nil"
               : reply.IsInteger() ? std::to_string(reply.integer())
                                   : std::string(reply.text());
    });
    if (!loop.RunUntil([&] { return answered || !lost.empty(); })) return "timeout";
    return answered ? answer : "lost: " + lost;
  }

  std::string lost;
  std::unique_ptr<RedisConnection> connection;
  Loop loop;
};

class PrivateRedisTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto started = PrivateRedis::Start({.directory = directory_.path()});
    ASSERT_TRUE(started.ok()) << started.error().message;
    redis_ = std::move(*started);
  }

  ConnectionOptions Options() {
    ConnectionOptions options;
    options.url = redis_->url();
    options.patience = std::chrono::milliseconds(0);
    return options;
  }

  std::unique_ptr<SyncClient> Sync() {
    auto client = SyncClient::Connect(redis_->url(), std::chrono::seconds(5));
    EXPECT_TRUE(client.ok());
    return std::move(*client);
  }

  TemporaryDirectory directory_;
  std::unique_ptr<PrivateRedis> redis_;
};

}  // namespace elsewhere::broker::testing
