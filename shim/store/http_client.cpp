#include "shim/store/http_client.h"

#include <curl/curl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <cstring>
#include <latch>

namespace elsewhere::store {
namespace {

CURLM* NewMulti(unsigned connections) {
  static const CURLcode initialised = curl_global_init(CURL_GLOBAL_DEFAULT);
  CURLM* multi = initialised == CURLE_OK ? curl_multi_init() : nullptr;
  if (!multi) std::abort();  // only for want of memory or descriptors
  curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, long(connections));
  curl_multi_setopt(multi, CURLMOPT_PIPELINING, long{CURLPIPE_NOTHING});
  return multi;
}

UniqueFd Made(int fd) {
  if (fd < 0) std::abort();
  return UniqueFd(fd);
}

int CodeOf(CURLcode code) {
  switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
      return EHOSTUNREACH;
    case CURLE_COULDNT_CONNECT:
      return ECONNREFUSED;
    case CURLE_OPERATION_TIMEDOUT:
      return ETIMEDOUT;
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_PARTIAL_FILE:
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_WRITE_ERROR:
      return ECONNRESET;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
      return EPROTO;
    default:
      return EIO;
  }
}

}  // namespace

struct HttpClient::Transfer {
  const HttpRequest& request;
  std::latch* done;  // of all that its caller waits for; nullptr: he does it himself
  HttpResponse response{};
  CURL* easy = nullptr;
  curl_slist* headers = nullptr;
  size_t piece = 0, piece_offset = 0;  // of the request's body
  char message[CURL_ERROR_SIZE] = "";
  std::optional<Result<HttpResponse>> result{};
  unsigned sendings = 0;

  // curl repeats a request by itself when a kept-alive connection breaks under it.
  static int BeforeSending(void* self, char*, char*, int, int) {
    ++static_cast<Transfer*>(self)->sendings;
    return CURL_PREREQFUNC_OK;
  }

  Result<HttpResponse> Ended(CURLcode code) {
    if (code != CURLE_OK) return Error{CodeOf(code), message[0] ? message : curl_easy_strerror(code)};
    response.sendings = sendings;
    return std::move(response);
  }

  void Rewind() { piece = piece_offset = 0; }

  static size_t Read(char* buffer, size_t size, size_t count, void* self) {
    auto* transfer = static_cast<Transfer*>(self);
    auto& pieces = transfer->request.body;
    size_t room = size * count, filled = 0;
    while (filled < room && transfer->piece < pieces.size()) {
      std::string_view rest = pieces[transfer->piece].substr(transfer->piece_offset);
      size_t taken = rest.copy(buffer + filled, room - filled);
      filled += taken;
      transfer->piece_offset += taken;
      if (taken == rest.size()) {
        ++transfer->piece;
        transfer->piece_offset = 0;
      }
    }
    return filled;
  }

  // curl asks for the beginning again when a kept-alive connection turns out to be closed.
  static int Seek(void* self, curl_off_t offset, int origin) {
    if (offset != 0 || origin != SEEK_SET) return CURL_SEEKFUNC_CANTSEEK;
    static_cast<Transfer*>(self)->Rewind();
    return CURL_SEEKFUNC_OK;
  }

  static size_t Write(char* data, size_t size, size_t count, void* self) {
    auto* transfer = static_cast<Transfer*>(self);
    auto& response = transfer->response;
    size_t length = size * count;
    if (!transfer->request.into || response.status / 100 != 2) {
      response.body.append(data, length);
      return length;
    }
    if (length > transfer->request.into->size() - response.into_size) return 0;
    memcpy(transfer->request.into->data() + response.into_size, data, length);
    response.into_size += length;
    return length;
  }

  static size_t Header(char* data, size_t size, size_t count, void* self) {
    auto& response = static_cast<Transfer*>(self)->response;
    std::string_view line(data, size * count);
    if (line.starts_with("HTTP/")) {  // also after 100 Continue
      response = {};
      size_t space = line.find(' ');
      if (space != line.npos) response.status = atoi(line.data() + space);
      return line.size();
    }
    size_t colon = line.find(':');
    if (colon == line.npos) return line.size();
    std::string name(line.substr(0, colon));
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return char(tolower(c)); });
    size_t from = line.find_first_not_of(" \t", colon + 1), to = line.find_last_not_of(" \t\r\n");
    response.headers[name] = from == line.npos || to < from ? "" : line.substr(from, to - from + 1);
    if (name == "content-length" && !static_cast<Transfer*>(self)->request.into)
      response.body.reserve(std::min<size_t>(strtoull(response.headers[name].c_str(), nullptr, 10), 1 << 30));
    return size * count;
  }
};

struct HttpClient::Line {
  Line() : multi(NewMulti(1)), easy(curl_easy_init()) {
    if (!easy) std::abort();
  }
  ~Line() {
    curl_easy_cleanup(easy);
    curl_multi_cleanup(multi);
  }
  Line(const Line&) = delete;
  Line& operator=(const Line&) = delete;

  CURLM* const multi;
  CURL* const easy;
};

HttpClient::HttpClient(HttpOptions options)
    : options_(std::move(options)),
      multi_(NewMulti(options_.connections)),
      epoll_(Made(epoll_create1(EPOLL_CLOEXEC))),
      wake_(Made(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK))) {
  epoll_event event{.events = EPOLLIN, .data = {.fd = wake_.get()}};
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, wake_.get(), &event) != 0) std::abort();
  curl_multi_setopt(multi_, CURLMOPT_SOCKETFUNCTION, Watch);
  curl_multi_setopt(multi_, CURLMOPT_SOCKETDATA, this);
  curl_multi_setopt(multi_, CURLMOPT_TIMERFUNCTION, SetTimer);
  curl_multi_setopt(multi_, CURLMOPT_TIMERDATA, this);
  // Signals belong to the program's own threads.
  sigset_t all, saved;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &saved);
  thread_ = std::thread([this] { Loop(); });
  pthread_sigmask(SIG_SETMASK, &saved, nullptr);
}

HttpClient::~HttpClient() {
  Interrupt();
  thread_.join();
  {
    std::unique_lock lock(mutex_);
    given_back_.wait(lock, [this] { return idle_lines_.size() == lines_.size(); });
  }
  for (void* easy : idle_) curl_easy_cleanup(easy);
  curl_multi_cleanup(multi_);
}

void HttpClient::Interrupt() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    for (auto& line : lines_) curl_multi_wakeup(line->multi);
  }
  interrupted_.notify_all();
  Wake();
}

void HttpClient::Wake() {
  const uint64_t one = 1;
  (void)!write(wake_.get(), &one, sizeof one);
}

int HttpClient::Watch(void*, int socket, int what, void* self, void* watched) {
  auto* client = static_cast<HttpClient*>(self);
  if (what == CURL_POLL_REMOVE) {
    epoll_ctl(client->epoll_.get(), EPOLL_CTL_DEL, socket, nullptr);
    return 0;
  }
  epoll_event event{};
  if (what & CURL_POLL_IN) event.events |= EPOLLIN;
  if (what & CURL_POLL_OUT) event.events |= EPOLLOUT;
  event.data.fd = socket;
  epoll_ctl(client->epoll_.get(), watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, socket, &event);
  curl_multi_assign(client->multi_, socket, client);  // `watched` from now on
  return 0;
}

int HttpClient::SetTimer(void*, long milliseconds, void* self) {
  using Clock = std::chrono::steady_clock;
  auto* client = static_cast<HttpClient*>(self);
  client->timer_ =
      milliseconds < 0 ? Clock::time_point::max() : Clock::now() + std::chrono::milliseconds(milliseconds);
  return 0;
}

bool HttpClient::Sleep(unsigned milliseconds) {
  std::unique_lock lock(mutex_);
  return !interrupted_.wait_for(lock, std::chrono::milliseconds(milliseconds),
                                [this] { return stopping_.load(); });
}

HttpClient::Line* HttpClient::TakeLine() {
  std::lock_guard lock(mutex_);
  if (stopping_ || !queue_.empty() || in_use_ >= options_.connections) return nullptr;
  ++in_use_;
  if (idle_lines_.empty()) return lines_.emplace_back(std::make_unique<Line>()).get();
  Line* line = idle_lines_.back();
  idle_lines_.pop_back();
  return line;
}

void HttpClient::GiveBack(Line* line) {
  // All under the lock: the client may be gone afterwards.
  std::lock_guard lock(mutex_);
  --in_use_;
  idle_lines_.push_back(line);
  if (!queue_.empty()) Wake();
  if (stopping_) given_back_.notify_all();
}

Result<HttpResponse> HttpClient::Perform(const HttpRequest& request) {
  Line* line = TakeLine();
  if (!line) return std::move(PerformAll({&request, 1}).front());
  auto result = PerformOn(*line, request);
  GiveBack(line);
  return result;
}

Result<HttpResponse> HttpClient::PerformOn(Line& line, const HttpRequest& request) {
  Transfer transfer{request, nullptr};
  transfer.easy = line.easy;
  Prepare(&transfer);
  curl_multi_add_handle(line.multi, line.easy);
  Result<HttpResponse> result = Error{ECANCELED, "interrupted"};
  for (bool going_on = true; going_on && !stopping_;) {
    int running = 0, left;
    curl_multi_perform(line.multi, &running);
    if (const CURLMsg* message = curl_multi_info_read(line.multi, &left)) {
      result = transfer.Ended(message->data.result);
      going_on = false;
    } else {
      // Also ends when curl has a time to keep, and when Interrupt wakes it.
      curl_multi_poll(line.multi, nullptr, 0, 60'000, nullptr);
    }
  }
  curl_multi_remove_handle(line.multi, line.easy);
  curl_slist_free_all(transfer.headers);
  return result;
}

std::vector<Result<HttpResponse>> HttpClient::PerformAll(std::span<const HttpRequest> requests) {
  std::vector<Result<HttpResponse>> results;
  std::latch done(std::ptrdiff_t(requests.size()));
  std::deque<Transfer> transfers;
  for (auto& request : requests) transfers.emplace_back(request, &done);
  {
    std::lock_guard lock(mutex_);
    if (stopping_) {
      results.assign(requests.size(), Error{ECANCELED, "interrupted"});
      return results;
    }
    for (auto& transfer : transfers) queue_.push_back(&transfer);
  }
  Wake();
  done.wait();
  for (auto& transfer : transfers) results.push_back(std::move(*transfer.result));
  return results;
}

void HttpClient::Loop() {
  for (;;) {
    StartQueued();
    {
      std::lock_guard lock(mutex_);
      if (stopping_) break;
    }
    Step();
    FinishDone();
  }
  while (!active_.empty()) Finish(active_.back(), Error{ECANCELED, "interrupted"});
  std::lock_guard lock(mutex_);
  for (Transfer* transfer : queue_) {
    transfer->result = Error{ECANCELED, "interrupted"};
    transfer->done->count_down();
  }
  queue_.clear();
}

int HttpClient::MillisecondsToTimer() const {
  if (timer_ == std::chrono::steady_clock::time_point::max()) return -1;
  const auto left = timer_ - std::chrono::steady_clock::now();
  return int(std::max<int64_t>(0, std::chrono::ceil<std::chrono::milliseconds>(left).count()));
}

void HttpClient::Step() {
  epoll_event events[64];
  const int count = epoll_wait(epoll_.get(), events, std::size(events), MillisecondsToTimer());
  int running = 0;
  for (int i = 0; i < count; ++i) {
    if (events[i].data.fd == wake_.get()) {
      uint64_t calls;
      (void)!read(wake_.get(), &calls, sizeof calls);
      continue;
    }
    // What is wrong with a socket shows when it is read or written.
    const bool wrong = (events[i].events & (EPOLLERR | EPOLLHUP)) != 0;
    int happened = 0;
    if (wrong || (events[i].events & EPOLLIN) != 0) happened |= CURL_CSELECT_IN;
    if (wrong || (events[i].events & EPOLLOUT) != 0) happened |= CURL_CSELECT_OUT;
    curl_multi_socket_action(multi_, events[i].data.fd, happened, &running);
  }
  if (MillisecondsToTimer() != 0) return;
  timer_ = std::chrono::steady_clock::time_point::max();
  curl_multi_socket_action(multi_, CURL_SOCKET_TIMEOUT, 0, &running);
}

void HttpClient::StartQueued() {
  for (;;) {
    Transfer* transfer;
    {
      std::lock_guard lock(mutex_);
      if (queue_.empty() || stopping_ || in_use_ >= options_.connections) return;
      ++in_use_;
      transfer = queue_.front();
      queue_.pop_front();
    }
    if (idle_.empty()) {
      transfer->easy = curl_easy_init();
      if (!transfer->easy) std::abort();
    } else {
      transfer->easy = idle_.back();
      idle_.pop_back();
    }
    Prepare(transfer);
    active_.push_back(transfer);
    curl_multi_add_handle(multi_, transfer->easy);
  }
}

void HttpClient::Prepare(Transfer* transfer) const {
  CURL* easy = transfer->easy;
  curl_easy_reset(easy);
  const HttpRequest& request = transfer->request;
  for (auto& header : request.headers)
    transfer->headers = curl_slist_append(transfer->headers, header.c_str());
  // The answer to a request is never worth a round trip of its own.
  transfer->headers = curl_slist_append(transfer->headers, "Expect:");
  curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
  curl_easy_setopt(easy, CURLOPT_URL, request.url.c_str());
  curl_easy_setopt(easy, CURLOPT_HTTPHEADER, transfer->headers);
  curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer->message);
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
  curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, long{CURL_HTTP_VERSION_1_1});
  curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, long(options_.connect_timeout_ms));
  curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
  curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, long((options_.stall_timeout_ms + 999) / 1000));
  curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, 256L << 10);
  curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, 256L << 10);
  if (!options_.ca_file.empty()) curl_easy_setopt(easy, CURLOPT_CAINFO, options_.ca_file.c_str());
  curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, Transfer::BeforeSending);
  curl_easy_setopt(easy, CURLOPT_PREREQDATA, transfer);
  curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, Transfer::Header);
  curl_easy_setopt(easy, CURLOPT_HEADERDATA, transfer);
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, Transfer::Write);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
  if (request.method == "HEAD") {
    curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
  } else if (request.method == "PUT" || request.method == "POST") {
    curl_off_t size = 0;
    for (auto piece : request.body) size += curl_off_t(piece.size());
    curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(easy, CURLOPT_INFILESIZE_LARGE, size);
    curl_easy_setopt(easy, CURLOPT_READFUNCTION, Transfer::Read);
    curl_easy_setopt(easy, CURLOPT_READDATA, transfer);
    curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, Transfer::Seek);
    curl_easy_setopt(easy, CURLOPT_SEEKDATA, transfer);
  }
  if (request.method != "HEAD" && request.method != "GET")
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request.method.c_str());
}

void HttpClient::FinishDone() {
  int left;
  while (CURLMsg* message = curl_multi_info_read(multi_, &left)) {
    if (message->msg != CURLMSG_DONE) continue;
    Transfer* transfer = nullptr;
    curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &transfer);
    Finish(transfer, transfer->Ended(message->data.result));
  }
}

// After count_down() the transfer belongs to its waiting caller again and may be gone.
void HttpClient::Finish(Transfer* transfer, Result<HttpResponse> result) {
  curl_multi_remove_handle(multi_, transfer->easy);
  curl_slist_free_all(transfer->headers);
  idle_.push_back(transfer->easy);
  std::erase(active_, transfer);
  {
    std::lock_guard lock(mutex_);
    --in_use_;
  }
  transfer->result = std::move(result);
  transfer->done->count_down();
}

}  // namespace elsewhere::store
