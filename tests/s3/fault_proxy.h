// A proxy in front of an HTTP server that does what bad networks and busy servers do, by a seeded plan: it
// delays, resets connections before or within a request or an answer, cuts answers short, and answers 500,
// 503 or 429 itself.
#pragma once

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace elsewhere {

class FaultProxy {
 public:
  // `rate`: how many of a thousand pieces of traffic meet a fault.
  FaultProxy(int server_port, unsigned seed, unsigned rate)
      : server_port_(server_port), seed_(seed), rate_(rate) {
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address = Loopback(0);
    socklen_t size = sizeof address;
    if (bind(listener_, reinterpret_cast<sockaddr*>(&address), size) != 0 || listen(listener_, 64) != 0 ||
        getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) != 0)
      abort();
    url_ = "http://127.0.0.1:" + std::to_string(ntohs(address.sin_port));
    acceptor_ = std::thread([this] { Accept(); });
  }
  ~FaultProxy() {
    stopping_ = true;
    shutdown(listener_, SHUT_RDWR);
    acceptor_.join();
    for (auto& thread : threads_) thread.join();
    close(listener_);
  }

  const std::string& url() const { return url_; }
  unsigned faults() const { return faults_; }

 private:
  static sockaddr_in Loopback(int port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<uint16_t>(port));
    return address;
  }

  void Accept() {
    for (int client; (client = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC)) >= 0;) {
      unsigned number = ++connections_;
      threads_.emplace_back([this, client, number] { Serve(client, number); });
    }
  }

  // Pieces of traffic are forwarded as they come; the plan decides for each what becomes of it.
  void Serve(int client, unsigned number) {
    std::minstd_rand random(seed_ * 7919 + number);
    int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address = Loopback(server_port_);
    bool going = connect(server, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
    while (going && !stopping_) {
      pollfd ends[2] = {{client, POLLIN, 0}, {server, POLLIN, 0}};
      if (poll(ends, 2, 100) < 0) break;
      for (int i = 0; going && i < 2; ++i)
        if (ends[i].revents) going = Forward(ends[i].fd, i == 0 ? server : client, i == 0, random);
    }
    if (reset_) {
      linger now{1, 0};
      setsockopt(client, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    }
    close(client);
    close(server);
  }

  bool Forward(int from, int to, bool request, std::minstd_rand& random) {
    char buffer[65536];
    ssize_t got = read(from, buffer, sizeof buffer);
    if (got <= 0) return false;
    auto size = size_t(got);
    if (random() % 1000 < rate_) {
      ++faults_;
      switch (random() % 5) {
        case 0:
          std::this_thread::sleep_for(std::chrono::milliseconds(random() % 60));
          break;
        case 1:
          return false;
        case 2:  // a part of it arrives
          (void)!send(to, buffer, random() % size, MSG_NOSIGNAL);
          return false;
        default: {
          if (!request) return false;
          static const char* const kAnswers[] = {"500 Internal Server Error", "503 Slow Down",
                                                 "429 Too Many Requests"};
          std::string answer = std::string("HTTP/1.1 ") + kAnswers[random() % 3] +
                               "\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
          (void)!send(from, answer.data(), answer.size(), MSG_NOSIGNAL);
          return false;
        }
      }
    }
    for (size_t sent = 0; sent < size;) {
      ssize_t done = send(to, buffer + sent, size - sent, MSG_NOSIGNAL);
      if (done <= 0) return false;
      sent += size_t(done);
    }
    return true;
  }

  const int server_port_;
  const unsigned seed_, rate_;
  const bool reset_ = true;
  int listener_;
  std::string url_;
  std::atomic<bool> stopping_{false};
  std::atomic<unsigned> connections_{0}, faults_{0};
  std::thread acceptor_;
  std::vector<std::thread> threads_;
};

}  // namespace elsewhere
