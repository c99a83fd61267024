// What two agents reach through the broker, against two bare clients on the same server in the same run.
//
//   bare        two processes, blocking sockets: LPUSH, its answer, BLPOP; the floor that limits refer to
//   bare, fused the same with LPUSH and BLPOP in one write
//   inbox       two processes, each an epoll loop with a command connection and an inbox: 1 KB there and back
//   throughput  1 MB messages one way: LPUSH to BLPOP against inbox to inbox
//
// Rounds of all variants alternate; medians of the rounds. Exit status 1 when a figure misses its limit.
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "shim/broker/inbox.h"
#include "shim/broker/private_redis.h"
#include "shim/broker/session_keys.h"

namespace {

using namespace elsewhere;
using namespace elsewhere::broker;
using Clock = std::chrono::steady_clock;

constexpr int kRounds = 15;
constexpr int kTurns = 1000;
constexpr int kLargeMessages = 60;
constexpr size_t kLarge = 1 << 20;
constexpr size_t kWindow = 4;  // large messages on their way at once
const SessionKeys kKeys("be");

[[noreturn]] void Die(const std::string& why) {
  std::fprintf(stderr, "bench_broker: %s\n", why.c_str());
  std::_Exit(1);
}

// A client as bare as can be: one blocking socket, replies counted by their lines.
class BareClient {
 public:
  explicit BareClient(const std::string& path) : fd_(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    std::memcpy(name.sun_path, path.c_str(), path.size() + 1);
    if (connect(fd_, reinterpret_cast<sockaddr*>(&name), sizeof name) != 0) Die("connect");
  }
  ~BareClient() { close(fd_); }
  void Write(const std::string& wire) {
    for (size_t sent = 0; sent < wire.size();) {
      const ssize_t done = write(fd_, wire.data() + sent, wire.size() - sent);
      if (done <= 0) Die("write");
      sent += static_cast<size_t>(done);
    }
  }
  // Reads until exactly `size` bytes of replies have come; a ping-pong knows their length.
  void Read(size_t size) {
    if (buffer_.size() < size) buffer_.resize(size);
    for (size_t got = 0; got < size;) {
      const ssize_t done = read(fd_, buffer_.data() + got, size - got);
      if (done <= 0) Die("read");
      got += static_cast<size_t>(done);
    }
  }

  // Reads one reply of one line.
  void ReadLine() {
    do {
      Read(1);
    } while (buffer_[0] != '\n');
  }

 private:
  int fd_;
  std::vector<char> buffer_;
};

std::string Push(const char* key, size_t size) {
  std::string wire;
  AppendCommand(&wire, {"LPUSH", key, std::string(size, 'x')});
  return wire;
}
std::string Pop(const char* key) {
  std::string wire;
  AppendCommand(&wire, {"BLPOP", key, "0"});
  return wire;
}
constexpr size_t kPushed = 4;  // ":1\r\n"
size_t PoppedSize(size_t size) {
  const std::string digits = std::to_string(size);
  return std::strlen("*2\r\n$1\r\nA\r\n$") + digits.size() + 2 + size + 2;
}

// An agent of the benchmark.
class Agent {
 public:
  Agent(const RedisUrl& url, HostId self) : peer_(1 - self), epoll_(epoll_create1(EPOLL_CLOEXEC)) {
    ConnectionOptions options;
    options.url = url;
    options.patience = std::chrono::milliseconds(0);
    const auto on_lost = [](const Error& why) { Die(why.message); };
    ConnectionOptions commands = options;
    commands.scripts = SessionScripts();
    connection_ = std::move(RedisConnection::Open(commands, on_lost).value());
    Watch(connection_->fd(), 0);
    const auto on_message = [this](const InboxReader::Message&) { ++received_; };
    inbox_ = std::move(InboxReader::Open(options, kKeys, self, on_message, on_lost).value());
    Watch(inbox_->fd(), 1);
    sender_ = std::make_unique<InboxSender>(*connection_, kKeys, self,
                                            [](HostId, const Error& why) { Die(why.message); });
  }

  void Send(const std::string& message) { sender_->Send(peer_, message); }
  void AwaitReceived(uint64_t count) {
    RunUntil([&] { return received_ >= count; });
  }
  void AwaitAnswers(size_t at_most_bytes) {
    RunUntil([&] { return connection_->unanswered_bytes() <= at_most_bytes; });
  }
  uint64_t received() const { return received_; }

 private:
  void Watch(int fd, uint32_t which) {
    epoll_event event{.events = EPOLLIN, .data = {.u32 = which}};
    epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
  }
  void RunUntil(const std::function<bool()>& done) {
    while (!done()) {
      std::array<epoll_event, 4> events;
      const int count = epoll_wait(epoll_, events.data(), events.size(), -1);
      for (int i = 0; i < count; ++i) {
        if (events[static_cast<size_t>(i)].data.u32 == 0) {
          connection_->OnReadable();
        } else {
          inbox_->OnReadable();
        }
      }
    }
  }

  const HostId peer_;
  const int epoll_;
  std::unique_ptr<InboxSender> sender_;
  std::unique_ptr<RedisConnection> connection_;
  std::unique_ptr<InboxReader> inbox_;
  uint64_t received_ = 0;
};

// Both processes run the same rounds in the same order; `leader` starts each turn.
class Bench {
 public:
  Bench(const RedisUrl& url, bool leader) : leader_(leader), bare_(url.path), agent_(url, leader ? 0 : 1) {}

  void Run() {
    agent_.Send("up");  // both are there
    agent_.AwaitReceived(++expected_);
    for (int round = 0; round < kRounds; ++round) {
      bare_turn.push_back(Timed([this] { BareTurns(false); }) / kTurns);
      fused_turn.push_back(Timed([this] { BareTurns(true); }) / kTurns);
      inbox_turn.push_back(Timed([this] { InboxTurns(); }) / kTurns);
      bare_large.push_back(Timed([this] { BareLarge(); }));
      inbox_large.push_back(Timed([this] { InboxLarge(); }));
    }
  }

  std::vector<double> bare_turn, fused_turn, inbox_turn, bare_large,
      inbox_large;  // microseconds

 private:
  template <class F>
  static double Timed(F run) {
    const auto start = Clock::now();
    run();
    return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
  }

  void BareTurns(bool fused) {
    const std::string push = Push(leader_ ? "A" : "B", 1024);
    const std::string pop = Pop(leader_ ? "B" : "A");
    if (!leader_) {
      bare_.Write(pop);
      bare_.Read(PoppedSize(1024));
    }
    for (int turn = 0; turn < kTurns; ++turn) {
      const bool last = !leader_ && turn == kTurns - 1;
      if (fused && !last) {
        bare_.Write(push + pop);
        bare_.Read(kPushed + PoppedSize(1024));
        continue;
      }
      bare_.Write(push);
      bare_.Read(kPushed);
      if (last) break;
      bare_.Write(pop);
      bare_.Read(PoppedSize(1024));
    }
  }

  void InboxTurns() {
    const std::string message(1024, 'x');
    for (int turn = 0; turn < kTurns; ++turn) {
      if (leader_) agent_.Send(message);
      agent_.AwaitReceived(++expected_);
      if (!leader_) agent_.Send(message);
    }
  }

  void BareLarge() {
    const std::string push = Push("A", kLarge), pop = Pop("A"), done_push = Push("B", 1), done_pop = Pop("B");
    if (leader_) {
      for (int i = 0; i < kLargeMessages; ++i) {
        bare_.Write(push);
        bare_.ReadLine();
      }
      bare_.Write(done_pop);
      bare_.Read(PoppedSize(1));
    } else {
      for (int i = 0; i < kLargeMessages; ++i) {
        bare_.Write(pop);
        bare_.Read(PoppedSize(kLarge));
      }
      bare_.Write(done_push);
      bare_.Read(kPushed);
    }
  }

  void InboxLarge() {
    if (leader_) {
      const std::string message(kLarge, 'x');
      for (int i = 0; i < kLargeMessages; ++i) {
        agent_.AwaitAnswers(kWindow * kLarge);
        agent_.Send(message);
      }
      agent_.AwaitReceived(++expected_);
    } else {
      agent_.AwaitReceived(expected_ += kLargeMessages);
      agent_.Send("done");
    }
  }

  const bool leader_;
  BareClient bare_;
  Agent agent_;
  uint64_t expected_ = 0;
};

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

bool all_within_limits = true;

void PrintTurn(const char* name, const std::vector<double>& values, double floor, double limit) {
  const double value = Median(values);
  std::printf("%-28s %9.1f us %7.2f x", name, value, value / floor);
  if (limit > 0) {
    const bool good = value <= limit * floor;
    all_within_limits &= good;
    std::printf("   limit %.1f x %s", limit, good ? "ok" : "MISSED");
  }
  std::printf("\n");
}

void PrintThroughput(const char* name, const std::vector<double>& values, double floor, double limit) {
  const double rate = kLargeMessages * static_cast<double>(kLarge) / Median(values);
  std::printf("%-28s %6.0f MB/s %7.2f x", name, rate, rate / floor);
  if (limit > 0) {
    const bool good = rate >= limit * floor;
    all_within_limits &= good;
    std::printf("   limit %.1f x %s", limit, good ? "ok" : "MISSED");
  }
  std::printf("\n");
}

}  // namespace

int main() {
  char directory[] = "/tmp/elsewhere-bench-XXXXXX";
  if (mkdtemp(directory) == nullptr) Die("mkdtemp");
  auto redis = PrivateRedis::Start({.directory = directory});
  if (!redis) Die(redis.error().message);
  auto client = SyncClient::Connect((*redis)->url(), std::chrono::seconds(5));
  if (!client || !CreateSession(**client, kKeys, "bench") || !JoinHost(**client, kKeys, 0) ||
      !JoinHost(**client, kKeys, 1))
    Die("cannot set up the session");

  const RedisUrl url = (*redis)->url();
  const pid_t child = fork();
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    Bench(url, false).Run();
    std::_Exit(0);
  }
  Bench bench(url, true);
  bench.Run();
  int status = 0;
  waitpid(child, &status, 0);
  redis->reset();
  std::filesystem::remove_all(directory);
  if (status != 0) Die("the other side failed");

  const double floor = Median(bench.bare_turn);
  std::printf("round trip, 1 KB\n");
  PrintTurn("  bare clients", bench.bare_turn, floor, 0);
  PrintTurn("  bare clients, fused writes", bench.fused_turn, floor, 0);
  PrintTurn("  inbox to inbox", bench.inbox_turn, floor, 1.5);
  std::printf("one way, 1 MB messages\n");
  const double rate = kLargeMessages * static_cast<double>(kLarge) / Median(bench.bare_large);
  PrintThroughput("  bare clients", bench.bare_large, rate, 0);
  PrintThroughput("  inbox to inbox", bench.inbox_large, rate, 0.8);
  return all_within_limits ? 0 : 1;
}
