#include "shim/broker/redis_connection.h"

#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "shim/broker/server_errors.h"

namespace elsewhere::broker {
namespace {

constexpr size_t kLazyAnswers = 32;
constexpr size_t kLazyBytes = 64 * 1024;
constexpr std::chrono::milliseconds kLazyDelay{5};
constexpr size_t kCompactAbove = 64 * 1024;
constexpr size_t kKeepCapacity = 8 * 1024 * 1024;
constexpr std::chrono::milliseconds kFirstBackoff{20};
constexpr std::chrono::milliseconds kLongestBackoff{1'000};
constexpr std::chrono::milliseconds kAttemptLimit{5'000};
constexpr int kSilentLooks = 3;

void SetTimerOf(int timer_fd, std::chrono::nanoseconds delay) {
  itimerspec when{};
  when.it_value.tv_sec = static_cast<time_t>(delay.count() / 1'000'000'000);
  when.it_value.tv_nsec = static_cast<long>(delay.count() % 1'000'000'000);
  timerfd_settime(timer_fd, 0, &when, nullptr);
}

}  // namespace

Result<std::unique_ptr<RedisConnection>> RedisConnection::Open(ConnectionOptions options,
                                                               LostCallback on_lost) {
  std::unique_ptr<RedisConnection> connection(new RedisConnection(std::move(options), std::move(on_lost)));
  if (Status prepared = connection->Prepare(); !prepared) return prepared.error();
  return connection;
}

RedisConnection::RedisConnection(ConnectionOptions options, LostCallback on_lost)
    : options_(std::move(options)), on_lost_(std::move(on_lost)) {}

RedisConnection::~RedisConnection() {
  transport_.reset();
  if (timer_fd_ >= 0) close(timer_fd_);
  if (silence_fd_ >= 0) close(silence_fd_);
  if (epoll_fd_ >= 0) close(epoll_fd_);
}

Status RedisConnection::Prepare() {
  auto addresses = Resolve(options_.url);
  if (!addresses) return addresses.error();
  addresses_ = std::move(*addresses);
  epoll_fd_ = epoll_create1(EPOLL_CLOEXEC);
  for (int* const timer : {&timer_fd_, &silence_fd_}) {
    *timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    epoll_event event{.events = EPOLLIN, .data = {.fd = *timer}};
    if (epoll_fd_ < 0 || *timer < 0 || epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, *timer, &event) < 0)
      return Error{errno, std::string("epoll: ") + strerror(errno)};
  }
  give_up_at_ = Clock::now() + options_.patience;
  backoff_ = kFirstBackoff;
  if (Status started = StartAttempt(); !started) {
    if (started.error().code == EINVAL || options_.patience.count() == 0)
      return Error{started.error().code,
                   "Redis at " + options_.url.Display() + " cannot be reached: " + started.error().message};
    Drop(started.error());
  }
  return Ok{};
}

Status RedisConnection::StartAttempt() {
  auto transport = Transport::Start(options_.url, addresses_[next_address_++ % addresses_.size()]);
  if (!transport) return transport.error();
  transport_ = std::move(*transport);
  wanted_events_ = EPOLLIN | EPOLLOUT;
  epoll_event event{.events = wanted_events_, .data = {.fd = transport_->fd()}};
  if (epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, transport_->fd(), &event) < 0) return Error{errno, strerror(errno)};
  state_ = State::kConnecting;
  SetTimer(kAttemptLimit);
  return Ok{};
}

void RedisConnection::Attempt() {
  if (Status started = StartAttempt(); !started) return Drop(started.error());
  Connect();
}

void RedisConnection::Connect() {
  switch (transport_->Advance()) {
    case Io::kDone:
      return Greet();
    case Io::kWantRead:
      return Wants(EPOLLIN);
    case Io::kWantWrite:
      return Wants(EPOLLIN | EPOLLOUT);
    case Io::kClosed:
      return Drop(Error{ECONNREFUSED, transport_->failure()});
  }
}

void RedisConnection::Greet() {
  state_ = State::kGreeting;
  reader_.Reset();
  greeting_.clear();
  greeting_sent_ = 0;
  greeting_replies_.clear();
  const RedisUrl& url = options_.url;
  if (!url.password.empty()) {
    if (url.user.empty()) {
      AppendCommand(&greeting_, {"AUTH", url.password});
    } else {
      AppendCommand(&greeting_, {"AUTH", url.user, url.password});
    }
    greeting_replies_.push_back(&RedisConnection::OnAuthenticated);
  }
  if (url.database != 0) {
    AppendCommand(&greeting_, {"SELECT", std::to_string(url.database)});
    greeting_replies_.push_back(&RedisConnection::OnSelected);
  }
  if (!options_.marker_key.empty()) {
    AppendCommand(&greeting_, {"GET", options_.marker_key});
    greeting_replies_.push_back(&RedisConnection::OnMarker);
    AppendCommand(&greeting_, {"INFO", "server"});
    greeting_replies_.push_back(&RedisConnection::OnServerInfo);
  }
  for (const std::string_view script : options_.scripts) {
    AppendCommand(&greeting_, {"SCRIPT", "LOAD", script});
    greeting_replies_.push_back(&RedisConnection::OnScriptLoaded);
  }
  if (greeting_replies_.empty()) return BecomeReady();
  Flush();
}

void RedisConnection::OnGreetingReply(const Reply& reply) {
  const auto handler = greeting_replies_.front();
  greeting_replies_.pop_front();
  (this->*handler)(reply);
  if (state_ == State::kGreeting && greeting_replies_.empty()) BecomeReady();
}

void RedisConnection::OnAuthenticated(const Reply& reply) {
  if (!reply.IsError()) return;
  const Error error = ExplainServerError(options_.url, reply.text());
  error.code == EAGAIN ? Drop(error) : Lose(error);
}

void RedisConnection::OnSelected(const Reply& reply) {
  OnAuthenticated(reply);
}
void RedisConnection::OnScriptLoaded(const Reply& reply) {
  OnAuthenticated(reply);
}

void RedisConnection::OnMarker(const Reply& reply) {
  if (reply.IsError()) return OnAuthenticated(reply);
  if (reply.text() == options_.marker_value && reply.IsString()) return;
  Lose(Error{ESTALE, "Redis at " + options_.url.Display() + " does not hold this session (key '" +
                         options_.marker_key +
                         "' is missing): it was restarted, flushed, or is another server"});
}

void RedisConnection::OnServerInfo(const Reply& reply) {
  const std::string run_id(InfoField(reply.text(), "run_id"));
  if (run_id.empty()) return;  // an ACL may forbid INFO; then only the marker tells
  if (run_id_.empty()) run_id_ = run_id;
  if (run_id == run_id_) return;
  Lose(Error{ESTALE, "Redis at " + options_.url.Display() +
                         " was restarted during the session: what it holds may be out of date"});
}

void RedisConnection::BecomeReady() {
  state_ = State::kReady;
  ever_ready_ = true;
  backoff_ = kFirstBackoff;
  SetTimer(Clock::duration::zero());
  sent_ = answered_;
  lazy_timer_ = false;
  lazy_due_ = !pending_.empty();
  WatchSilence();
  Wants(EPOLLIN);
  Flush();
}

void RedisConnection::OnReadable() {
  if (TimerExpired()) OnTimer();
  if (state_ == State::kConnecting) Connect();
  if (state_ != State::kGreeting && state_ != State::kReady) return;
  ++corks_;
  const bool alive = ReadReplies();
  --corks_;
  if (pending_.empty()) lazy_due_ = false;
  if (alive) Flush();
  LookForSilence();
}

bool RedisConnection::ReadReplies() {
  for (;;) {
    const std::span<char> room = reader_.Room();
    size_t got = 0;
    const Io io = transport_->Read(room.data(), room.size(), &got);
    if (io == Io::kClosed) return Drop(Error{ECONNRESET, transport_->failure()}), false;
    if (io != Io::kDone) return true;
    reader_.Commit(got);
    for (;;) {
      const Result<Reply> reply = reader_.Next();
      if (!reply && reply.error().code == ENODATA) break;
      if (!reply) return Lose(reply.error()), false;
      Dispatch(*reply);
      if (state_ != State::kGreeting && state_ != State::kReady) return false;
    }
    if (got < room.size() && transport_->ShortReadMeansEmpty()) return true;
  }
}

void RedisConnection::Dispatch(const Reply& reply) {
  if (state_ == State::kGreeting) return OnGreetingReply(reply);
  if (pending_.empty()) return Lose(Error{EPROTO, "Redis sent an answer that nobody asked for"});
  answered_since_look_ = true;
  const Callback callback = std::move(pending_.front().callback);
  answered_ += pending_.front().size;
  if (pending_.front().wake == Wake::kPromptly) --prompt_;
  pending_.pop_front();
  if (answered_ == out_.size()) {
    out_.clear();
    answered_ = sent_ = 0;
    if (out_.capacity() > kKeepCapacity) out_.shrink_to_fit();
  } else if (answered_ > kCompactAbove && answered_ > out_.size() / 2) {
    out_.erase(0, answered_);
    sent_ -= answered_;
    answered_ = 0;
  }
  if (callback) callback(reply);
}

void RedisConnection::Command(std::span<const std::string_view> arguments, Callback callback, Repeat repeat,
                              Wake wake) {
  if (lost()) return;
  const size_t before = out_.size();
  AppendCommand(&out_, arguments);
  Enqueue(out_.size() - before, std::move(callback), repeat, wake);
}

void RedisConnection::Command(std::initializer_list<std::string_view> arguments, Callback callback,
                              Repeat repeat, Wake wake) {
  Command(std::span(arguments.begin(), arguments.size()), std::move(callback), repeat, wake);
}

void RedisConnection::Submit(std::string_view wire, Callback callback, Repeat repeat, Wake wake) {
  if (lost()) return;
  out_.append(wire);
  Enqueue(wire.size(), std::move(callback), repeat, wake);
}

void RedisConnection::Enqueue(size_t size, Callback callback, Repeat repeat, Wake wake) {
  pending_.push_back({std::move(callback), size, repeat, wake});
  if (wake == Wake::kPromptly) {
    ++prompt_;
  } else if (!lazy_timer_ && ready()) {
    lazy_timer_ = true;
    SetTimer(kLazyDelay);
  }
  if (ready()) WatchSilence();
  if (ready() && corks_ == 0) Flush();
}

RedisConnection::Batch::~Batch() {
  if (--connection_.corks_ == 0 && connection_.ready()) connection_.Flush();
}

// False when nothing more can be written for now.
bool RedisConnection::Write(const std::string& bytes, size_t* sent) {
  while (*sent < bytes.size()) {
    size_t done = 0;
    const Io io = transport_->Write(bytes.data() + *sent, bytes.size() - *sent, &done);
    *sent += done;
    if (io == Io::kDone) continue;
    if (io == Io::kWantWrite) Wants(EPOLLIN | EPOLLOUT);
    if (io == Io::kWantRead) Wants(EPOLLIN);
    if (io == Io::kClosed) {
      // Not handled here: a command must not call back. The timer makes fd() readable.
      broken_in_write_ = true;
      last_failure_ = Error{ECONNRESET, transport_->failure()};
      SetTimer(std::chrono::nanoseconds(1));
    }
    return false;
  }
  return true;
}

void RedisConnection::Flush() {
  if (broken_in_write_) return;
  if (state_ != State::kGreeting && state_ != State::kReady) return;
  const bool all = state_ == State::kGreeting ? Write(greeting_, &greeting_sent_) : Write(out_, &sent_);
  if (all) Wants(ReadEvents());
}

// Without EPOLLIN the end of the connection still shows.
uint32_t RedisConnection::ReadEvents() const {
  if (state_ != State::kReady) return EPOLLIN;
  if (pending_.empty()) return wanted_events_ & ~static_cast<uint32_t>(EPOLLOUT);
  const bool wake =
      prompt_ > 0 || lazy_due_ || pending_.size() >= kLazyAnswers || unanswered_bytes() >= kLazyBytes;
  return wake ? EPOLLIN : EPOLLRDHUP;
}

void RedisConnection::Wants(uint32_t events) {
  if (events == wanted_events_ || transport_ == nullptr) return;
  wanted_events_ = events;
  epoll_event event{.events = events, .data = {.fd = transport_->fd()}};
  epoll_ctl(epoll_fd_, EPOLL_CTL_MOD, transport_->fd(), &event);
}

void RedisConnection::SetTimer(Clock::duration delay) {
  SetTimerOf(timer_fd_, delay);
}

// A server that is stopped, or on a machine that is, holds its connections: nothing but its silence tells.
void RedisConnection::WatchSilence() {
  if (options_.silence.count() == 0 || next_look_ != Clock::time_point{} || pending_.empty()) return;
  answered_since_look_ = false;
  next_look_ = Clock::now() + options_.silence / kSilentLooks;
  SetTimerOf(silence_fd_, options_.silence / kSilentLooks);
}

void RedisConnection::EndWatch() {
  next_look_ = {};
  silent_looks_ = 0;
  SetTimerOf(silence_fd_, Clock::duration::zero());
}

// After what has come was read: this process may be the one that was stopped.
void RedisConnection::LookForSilence() {
  if (next_look_ == Clock::time_point{} || Clock::now() < next_look_) return;
  const int silent_looks = answered_since_look_ || pending_.empty() ? 0 : silent_looks_ + 1;
  EndWatch();
  silent_looks_ = silent_looks;
  if (silent_looks < kSilentLooks) return WatchSilence();
  Lose(Error{ETIMEDOUT, "Redis at " + options_.url.Display() + " was lost: no answer for " +
                            std::to_string(options_.silence.count() / 1000) + " s"});
}

bool RedisConnection::TimerExpired() {
  // Spare every wake-up the system call.
  if (state_ == State::kReady && !broken_in_write_ && !lazy_timer_) return false;
  uint64_t expirations = 0;
  return read(timer_fd_, &expirations, sizeof expirations) == sizeof expirations;
}

void RedisConnection::OnTimer() {
  if (broken_in_write_) return Drop(Error(last_failure_));
  if (state_ == State::kReady) {
    lazy_timer_ = false;
    lazy_due_ = !pending_.empty();
    return;
  }
  if (state_ == State::kWaiting) return Attempt();
  if (state_ == State::kConnecting || state_ == State::kGreeting)
    Drop(Error{ETIMEDOUT, "no answer within 5 s"});
}

// The connection is gone: wait and try again, or give up.
void RedisConnection::Drop(const Error& why) {
  if (state_ == State::kLost) return;
  if (state_ == State::kReady) give_up_at_ = Clock::now() + options_.patience;
  EndWatch();
  transport_.reset();  // closing takes it out of the epoll
  broken_in_write_ = false;
  state_ = State::kWaiting;
  last_failure_ = Error(why);
  const auto left = give_up_at_ - Clock::now();
  const bool final = options_.patience.count() == 0 ? ever_ready_ || next_address_ >= addresses_.size()
                                                    : left <= Clock::duration::zero();
  if (final) {
    std::string text =
        "Redis at " + options_.url.Display() + (ever_ready_ ? " was lost: " : " cannot be reached: ");
    text += why.message;
    if (options_.patience.count() != 0) {
      text += " (tried for " + std::to_string(options_.patience.count() / 1000) + " s)";
    }
    return Lose(Error{why.code, std::move(text)});
  }
  const bool try_next_address_now = !ever_ready_ && next_address_ % addresses_.size() != 0;
  SetTimer(try_next_address_now ? Clock::duration(std::chrono::nanoseconds(1))
                                : std::min(Clock::duration(backoff_), left));
  backoff_ = std::min(backoff_ * 2, kLongestBackoff);

  std::vector<Callback> refused;
  RefuseUnsafe(&refused);
  for (const Callback& callback : refused) callback(ConnectionLostReply());
}

void RedisConnection::Lose(const Error& why) {
  if (state_ == State::kLost) return;
  state_ = State::kLost;
  transport_.reset();
  SetTimer(Clock::duration::zero());
  EndWatch();
  pending_.clear();
  prompt_ = 0;
  out_.clear();
  answered_ = sent_ = 0;
  if (on_lost_) on_lost_(why);
}

// Takes out what may have been executed and must not be executed twice.
void RedisConnection::RefuseUnsafe(std::vector<Callback>* refused) {
  std::string kept_bytes;
  std::deque<Pending> kept;
  size_t at = answered_;
  for (Pending& pending : pending_) {
    const size_t end = at + pending.size;
    if (pending.repeat == Repeat::kUnsafe && end <= sent_) {
      if (pending.wake == Wake::kPromptly) --prompt_;
      if (pending.callback) refused->push_back(std::move(pending.callback));
    } else {
      kept_bytes.append(out_, at, pending.size);
      kept.push_back(std::move(pending));
    }
    at = end;
  }
  out_ = std::move(kept_bytes);
  pending_ = std::move(kept);
  answered_ = sent_ = 0;
}

}  // namespace elsewhere::broker
