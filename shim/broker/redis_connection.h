// RedisConnection: one pipelined connection for a single-threaded event loop.
//
// Protocol with the loop: fd() is one descriptor that never changes, whatever happens to the socket behind it
// (it is an epoll of the socket and a timer). Whenever it is readable, call OnReadable(). Nothing else is
// needed: writing that must wait, connecting, reconnecting and their time limits all show as readability of
// that descriptor.
//
// Commands are answered in order, each by its callback, always from inside OnReadable(). Command() itself
// only writes; it never calls back.
//
// A lost connection: with patience 0 (a private Redis) the loss is final at once. Otherwise
// connecting is retried for `patience`; what was not answered is then sent again in its old order if it is
// Repeat::kSafe, and answered with an error ("ELSEWHERE ...") if it is Repeat::kUnsafe and may have been
// executed. A server that comes back without the session's marker, or that is another process than before
// (its memory may be an old snapshot), is a final loss. After a final loss on_lost is called once and no
// callback any more.
//
// Thread-safety: none; one loop. Callbacks may issue commands but must not destroy the connection.
#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "shim/broker/redis_url.h"
#include "shim/broker/reply.h"
#include "shim/broker/transport.h"
#include "shim/wire/result.h"

namespace elsewhere::broker {

struct ConnectionOptions {
  RedisUrl url;
  std::chrono::milliseconds patience{30'000};
  // A server that keeps the connection and leaves every command unanswered for this long (and up to a third
  // longer) is a final loss. 0: commands may wait there for ever.
  std::chrono::milliseconds silence{0};
  // When not empty: this key must hold this value on every connect. See SessionKeys::marker.
  std::string marker_key;
  std::string marker_value;
  // Bodies to SCRIPT LOAD on every connect, before anything else is sent. Static storage.
  std::vector<std::string_view> scripts;
};

// kSafe: executing the command twice does the same as once, or its receiver can tell.
enum class Repeat { kSafe, kUnsafe };

// kLater: nobody waits for the answer. It does not wake the loop by itself but is read with the next prompt
// one, after some dozens of its kind, or after 5 ms.
enum class Wake { kPromptly, kLater };

class RedisConnection {
 public:
  using Callback = std::function<void(const Reply&)>;  // the reply is valid during the call
  using LostCallback = std::function<void(const Error&)>;

  // Resolves the host (may block) and starts connecting; commands may be issued at once. Fails only for what
  // waiting cannot heal: unknown host, bad certificate files, no descriptors.
  static Result<std::unique_ptr<RedisConnection>> Open(ConnectionOptions options, LostCallback on_lost);
  ~RedisConnection();
  RedisConnection(const RedisConnection&) = delete;
  RedisConnection& operator=(const RedisConnection&) = delete;

  int fd() const { return epoll_fd_; }
  void OnReadable();

  // The arguments are copied. A null callback ignores the reply.
  void Command(std::span<const std::string_view> arguments, Callback callback, Repeat repeat = Repeat::kSafe,
               Wake wake = Wake::kPromptly);
  void Command(std::initializer_list<std::string_view> arguments, Callback callback,
               Repeat repeat = Repeat::kSafe, Wake wake = Wake::kPromptly);
  // `wire` is any number of formatted commands of which exactly one replies; sent again whole or not at all.
  void Submit(std::string_view wire, Callback callback, Repeat repeat = Repeat::kSafe,
              Wake wake = Wake::kPromptly);

  // While a Batch lives commands gather and then go out in one write. Nests.
  class Batch {
   public:
    explicit Batch(RedisConnection& connection) : connection_(connection) { ++connection_.corks_; }
    ~Batch();
    Batch(const Batch&) = delete;
    Batch& operator=(const Batch&) = delete;

   private:
    RedisConnection& connection_;
  };

  bool ready() const { return state_ == State::kReady; }
  bool lost() const { return state_ == State::kLost; }
  size_t unanswered() const { return pending_.size(); }
  // For back-pressure: what is held until Redis has answered it.
  size_t unanswered_bytes() const { return out_.size() - answered_; }

 private:
  using Clock = std::chrono::steady_clock;
  enum class State { kWaiting, kConnecting, kGreeting, kReady, kLost };
  struct Pending {
    Callback callback;
    size_t size;
    Repeat repeat;
    Wake wake;
  };

  RedisConnection(ConnectionOptions options, LostCallback on_lost);
  Status Prepare();
  Status StartAttempt();
  void Attempt();
  void Connect();
  void Greet();
  void OnGreetingReply(const Reply& reply);
  void BecomeReady();
  bool ReadReplies();
  void Dispatch(const Reply& reply);
  bool Write(const std::string& bytes, size_t* sent);
  void Flush();
  void Enqueue(size_t size, Callback callback, Repeat repeat, Wake wake);
  uint32_t ReadEvents() const;
  void Wants(uint32_t events);
  void SetTimer(Clock::duration delay);
  bool TimerExpired();
  void OnTimer();
  void WatchSilence();
  void LookForSilence();
  void EndWatch();
  void Drop(const Error& why);
  void Lose(const Error& why);
  void RefuseUnsafe(std::vector<Callback>* refused);

  const ConnectionOptions options_;
  LostCallback on_lost_;
  int epoll_fd_ = -1;
  int timer_fd_ = -1;
  int silence_fd_ = -1;
  State state_ = State::kWaiting;
  std::vector<Address> addresses_;
  size_t next_address_ = 0;
  std::unique_ptr<Transport> transport_;
  uint32_t wanted_events_ = 0;
  ReplyReader reader_;

  std::string greeting_;
  size_t greeting_sent_ = 0;
  std::deque<void (RedisConnection::*)(const Reply&)> greeting_replies_;
  std::string run_id_;  // of the server process that this session lives in

  void OnAuthenticated(const Reply& reply);
  void OnSelected(const Reply& reply);
  void OnMarker(const Reply& reply);
  void OnServerInfo(const Reply& reply);
  void OnScriptLoaded(const Reply& reply);

  // out_[answered_, sent_) awaits answers, out_[sent_, end) awaits sending.
  std::string out_;
  size_t answered_ = 0;
  size_t sent_ = 0;
  std::deque<Pending> pending_;
  size_t prompt_ = 0;      // of pending_: those that somebody waits for
  bool lazy_due_ = false;  // the others have waited long enough
  bool lazy_timer_ = false;
  int corks_ = 0;

  // Looked at every third of options_.silence while something is unanswered: how many looks found no answer
  // since the one before.
  Clock::time_point next_look_{};  // the epoch: nobody looks
  bool answered_since_look_ = false;
  int silent_looks_ = 0;

  bool ever_ready_ = false;
  bool broken_in_write_ = false;
  Clock::time_point give_up_at_{};
  std::chrono::milliseconds backoff_{0};
  Error last_failure_;
};

}  // namespace elsewhere::broker
