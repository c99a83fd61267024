// An HTTP server that gives prepared answers, one per request, and remembers what it was asked. "@mark@" in
// an answer becomes the write mark of the first request.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <deque>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace elsewhere::store {

class ScriptedServer {
 public:
  static constexpr char kNothing[] = "nothing";

  // Answers: whole HTTP responses; "" closes the connection without one, kNothing leaves it without one.
  explicit ScriptedServer(std::deque<std::string> answers) : answers_(std::move(answers)) {
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    if (bind(listener_, reinterpret_cast<sockaddr*>(&address), size) != 0 || listen(listener_, 16) != 0 ||
        getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) != 0)
      abort();
    url_ = "http://127.0.0.1:" + std::to_string(ntohs(address.sin_port));
    thread_ = std::thread([this] { Serve(); });
  }
  ~ScriptedServer() {
    shutdown(listener_, SHUT_RDWR);
    thread_.join();
    for (int peer : peers_) shutdown(peer, SHUT_RDWR);
    for (auto& thread : peer_threads_) thread.join();
    for (int peer : peers_) close(peer);
    close(listener_);
  }

  static std::string Answer(int status, const std::string& body, const std::string& headers = "") {
    return "HTTP/1.1 " + std::to_string(status) + " X\r\nContent-Length: " + std::to_string(body.size()) +
           "\r\n" + headers + "\r\n" + body;
  }

  const std::string& url() const { return url_; }
  std::vector<std::string> requests() {
    std::lock_guard lock(mutex_);
    return requests_;
  }

  // Requests that were read and not yet answered, at most.
  size_t connections_at_once() {
    std::lock_guard lock(mutex_);
    return most_busy_;
  }

 private:
  void Serve() {
    for (int peer; (peer = accept(listener_, nullptr, nullptr)) >= 0;) {
      std::lock_guard lock(mutex_);
      peers_.push_back(peer);
      peer_threads_.emplace_back([this, peer] { ServeOne(peer); });
    }
  }

  void ServeOne(int peer) {
    for (std::string request; ReadRequest(peer, &request);) {
      const size_t busy = ++busy_;
      std::lock_guard lock(mutex_);
      most_busy_ = std::max(most_busy_, busy);
      requests_.push_back(request);
      std::string answer = answers_.empty() ? "" : answers_.front();
      if (!answers_.empty()) answers_.pop_front();
      if (size_t at = answer.find("@mark@"); at != answer.npos)
        answer.replace(at, 6, MarkOf(requests_.front()));
      --busy_;
      if (answer == kNothing) continue;
      if (answer.empty() || send(peer, answer.data(), answer.size(), MSG_NOSIGNAL) < 0) break;
      // A body that is announced longer than it is: the connection breaks midway.
      if (answer.find("X-Break: 1") != answer.npos) break;
    }
    shutdown(peer, SHUT_RDWR);
  }

  static std::string MarkOf(const std::string& request) {
    const std::string name = "x-amz-meta-elsewhere-put: ";
    size_t at = request.find(name);
    return at == request.npos ? "none" : request.substr(at + name.size(), 16);
  }

  static bool ReadRequest(int peer, std::string* request) {
    request->clear();
    char buffer[4096];
    size_t wanted = std::string::npos;
    while (request->size() < wanted) {
      ssize_t got = read(peer, buffer, sizeof buffer);
      if (got <= 0) return false;
      request->append(buffer, size_t(got));
      size_t end = request->find("\r\n\r\n");
      if (end == std::string::npos) continue;
      size_t length = request->find("Content-Length: ");
      wanted = end + 4 + (length < end ? strtoul(request->c_str() + length + 16, nullptr, 10) : 0);
    }
    return true;
  }

  std::deque<std::string> answers_;
  std::mutex mutex_;
  std::vector<std::string> requests_;
  std::atomic<size_t> busy_ = 0;
  size_t most_busy_ = 0;
  std::string url_;
  int listener_;
  std::vector<int> peers_;
  std::vector<std::thread> peer_threads_;
  std::thread thread_;
};

}  // namespace elsewhere::store
