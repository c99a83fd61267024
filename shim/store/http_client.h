// HttpClient: HTTP/1.1 requests over kept-alive connections, by libcurl's multi interface.
//
// A single request is carried out by the thread that asks, on a connection that it has to itself meanwhile
// (`Line`): handing it to another thread and the answer back would take as long as a near server. Several
// together, and what comes while all connections are in use, are carried out by one thread of the client's.
//
// Thread-safety: Perform may be called from any thread and blocks its caller until the whole answer is there;
// requests beyond the connection limit wait their turn. Ownership: what a request refers to must live until
// Perform returns. Errors of the transport (an answer of any status is a success here):
//   ECONNREFUSED, EHOSTUNREACH, ETIMEDOUT, ECONNRESET (broken midway): may be repeated
//   EPROTO the server's certificate is not trusted or TLS fails; ECANCELED after Interrupt; EIO anything else
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "shim/store/unique_fd.h"
#include "shim/wire/result.h"

namespace elsewhere::store {

struct HttpOptions {
  // In use at once; as many idle ones may be kept besides. A line has three descriptors.
  unsigned connections = 16;
  unsigned connect_timeout_ms = 5000;
  unsigned stall_timeout_ms = 30000;  // no byte moved for so long; rounded up to seconds
  std::string ca_file{};              // PEM; empty: the system's
};

struct HttpRequest {
  std::string method;
  std::string url;
  std::vector<std::string> headers{};        // "Name: value"
  std::span<const std::string_view> body{};  // with PUT and POST
  std::optional<std::span<char>> into =
      std::nullopt;  // where the body of a 2xx answer goes; ECONNRESET if it is too small
};

struct HttpResponse {
  int status = 0;
  std::map<std::string, std::string> headers{};  // names in lower case
  std::string body{};
  uint64_t into_size = 0;
  unsigned sendings = 1;  // more than one: a kept-alive connection broke, and the request was sent again

  std::string_view header(const std::string& name) const {
    auto found = headers.find(name);
    return found == headers.end() ? std::string_view() : found->second;
  }
};

class HttpClient {
 public:
  explicit HttpClient(HttpOptions options);
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  Result<HttpResponse> Perform(const HttpRequest& request);
  // All of them side by side; a result for each, in their order.
  std::vector<Result<HttpResponse>> PerformAll(std::span<const HttpRequest> requests);

  // Waits, unless interrupted: false then.
  bool Sleep(unsigned milliseconds);

  // Ends everything in progress and all that comes with ECANCELED.
  void Interrupt();

 private:
  struct Transfer;
  struct Line;
  // What curl asks for: a socket to be watched, and to be called again after a time.
  static int Watch(void* easy, int socket, int what, void* self, void* watched);
  static int SetTimer(void* multi, long milliseconds, void* self);
  // nullptr: the request has to wait for its turn.
  Line* TakeLine();
  void GiveBack(Line* line);
  Result<HttpResponse> PerformOn(Line& line, const HttpRequest& request);
  void Wake();
  void Loop();
  // Waits for sockets, curl's timer or a wake-up, and lets curl go on where something happened.
  void Step();
  int MillisecondsToTimer() const;
  void StartQueued();
  void FinishDone();
  void Finish(Transfer* transfer, Result<HttpResponse> result);
  void Prepare(Transfer* transfer) const;

  const HttpOptions options_;
  void* const multi_;  // CURLM; only the thread touches it
  // With many requests at once, looking at each of them for every answer would cost more than the answers.
  const UniqueFd epoll_, wake_;
  std::chrono::steady_clock::time_point timer_ = std::chrono::steady_clock::time_point::max();

  std::mutex mutex_;
  std::condition_variable interrupted_, given_back_;
  std::deque<Transfer*> queue_;
  std::atomic<bool> stopping_ = false;  // set under the lock
  unsigned in_use_ = 0;                 // connections, by the thread's transfers and on lines
  std::vector<std::unique_ptr<Line>> lines_;
  std::vector<Line*> idle_lines_;  // the one that was used last is taken first: its connection lives
  std::vector<Transfer*> active_;  // the thread's own
  std::vector<void*> idle_;        // CURL handles kept for reuse; the thread's own
  std::thread thread_;
};

}  // namespace elsewhere::store
