// What a pipe between a parent and its child on a worker reaches, against bare Redis clients in the same run.
//
//   bare        two processes, blocking sockets: LPUSH 1 KB, its answer, BLPOP; there and back
//   relay       pipe - client - Redis - client - pipe: messages of 1 MB and of 100 MB one way, read and
//   pushed
//               in pieces of 64 KiB
//   elsewhere   this program under `LAUNCHER run --workers 1`: the same between a process and its child
//
//   bench_pipes LAUNCHER          everything, rounds alternating, medians; status 1 when a limit is missed
//   bench_pipes trip N | up N [MB] | down N [MB]    what runs under the launcher: microseconds, or MB/s
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "shim/broker/private_redis.h"

namespace {

using elsewhere::broker::PrivateRedis;
using Clock = std::chrono::steady_clock;

constexpr int kRounds = 7;
constexpr int kTurns = 2000;
constexpr int kMegabytes = 100;  // in each transfer: as many messages, or one
constexpr size_t kSmall = 1024;
constexpr size_t kMegabyte = 1 << 20;
constexpr double kTripLimit = 1.5;  // of bare clients
constexpr double kRateLimit = 0.8;  // of the relay
constexpr size_t kPiece = 64 << 10;

[[noreturn]] void Die(const char* why) {
  perror(why);
  std::_Exit(1);
}

void ReadAll(int fd, char* to, size_t size) {
  for (size_t got = 0; got < size;) {
    const ssize_t done = read(fd, to + got, size - got);
    if (done <= 0) Die("read");
    got += static_cast<size_t>(done);
  }
}
void WriteAll(int fd, const char* from, size_t size) {
  for (size_t sent = 0; sent < size;) {
    const ssize_t done = write(fd, from + sent, size - sent);
    if (done <= 0) Die("write");
    sent += static_cast<size_t>(done);
  }
}

struct Pipe {
  Pipe() {
    if (pipe(ends) != 0) Die("pipe");
  }
  int ends[2];
};

double Since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

pid_t Child(const std::function<void()>& run, bool die_with_parent) {
  const pid_t child = fork();
  if (child < 0) Die("fork");
  if (child > 0) return child;
  if (die_with_parent) prctl(PR_SET_PDEATHSIG, SIGKILL);
  run();
  std::_Exit(0);
}

// ---- Under the launcher ----

double Trip(int turns) {
  Pipe there, back;
  static char message[kSmall];
  Child(
      [&] {
        close(there.ends[1]);
        for (ssize_t size; (size = read(there.ends[0], message, sizeof message)) > 0;) {
          WriteAll(back.ends[1], message, static_cast<size_t>(size));
        }
      },
      false);
  const auto turn = [&] {
    WriteAll(there.ends[1], message, sizeof message);
    ReadAll(back.ends[0], message, sizeof message);
  };
  for (int i = 0; i < 200; ++i) turn();
  const auto start = Clock::now();
  for (int i = 0; i < turns; ++i) turn();
  const double each = Since(start) / turns * 1e6;
  close(there.ends[1]);
  wait(nullptr);
  return each;
}

// Messages of so many megabytes, each sent whole by one side; `up`: the child sends. MB/s.
double OneWay(int messages, int megabytes, bool up) {
  Pipe data, ready;
  std::vector<char> message(megabytes * kMegabyte, 'm');
  char byte = 0;
  const auto send = [&] {
    for (int i = 0; i < messages; ++i) WriteAll(data.ends[1], message.data(), message.size());
  };
  const auto receive = [&] {
    for (int i = 0; i < messages; ++i) ReadAll(data.ends[0], message.data(), message.size());
  };
  Child(
      [&] {
        WriteAll(ready.ends[1], &byte, 1);
        up ? send() : receive();
        WriteAll(ready.ends[1], &byte, 1);
      },
      false);
  ReadAll(ready.ends[0], &byte, 1);
  const auto start = Clock::now();
  up ? receive() : send();
  ReadAll(ready.ends[0], &byte, 1);
  const double rate = messages * megabytes / Since(start);
  wait(nullptr);
  return rate;
}

// ---- Bare clients ----

class Client {
 public:
  explicit Client(const std::string& path) : fd_(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    std::memcpy(name.sun_path, path.c_str(), path.size() + 1);
    if (connect(fd_, reinterpret_cast<sockaddr*>(&name), sizeof name) != 0) Die("connect");
  }
  void Push(char key, const char* value, size_t size) {
    const std::string head =
        "*3\r\n$5\r\nLPUSH\r\n$1\r\n" + std::string(1, key) + "\r\n$" + std::to_string(size) + "\r\n";
    wire_.assign(head);
    wire_.append(value, size).append("\r\n");
    WriteAll(fd_, wire_.data(), wire_.size());
    Line();
  }
  // The oldest value, in value().
  void Pop(char key) {
    const std::string command = "*3\r\n$5\r\nBRPOP\r\n$1\r\n" + std::string(1, key) + "\r\n$1\r\n0\r\n";
    WriteAll(fd_, command.data(), command.size());
    for (int line = 0; line < 3; ++line) Line();
    const auto size = static_cast<size_t>(std::atol(Line().c_str() + 1));
    value_.resize(size + 2);
    for (size_t got = 0; got < value_.size();) got += Take(value_.data() + got, value_.size() - got);
  }
  const char* value() const { return value_.data(); }
  size_t size() const { return value_.size() - 2; }

 private:
  size_t Take(char* to, size_t wanted) {
    if (at_ == filled_) {
      if (wanted >= sizeof buffer_) {
        const ssize_t got = read(fd_, to, wanted);
        if (got <= 0) Die("read");
        return static_cast<size_t>(got);
      }
      const ssize_t got = read(fd_, buffer_, sizeof buffer_);
      if (got <= 0) Die("read");
      at_ = 0;
      filled_ = static_cast<size_t>(got);
    }
    const size_t size = std::min(wanted, filled_ - at_);
    std::memcpy(to, buffer_ + at_, size);
    at_ += size;
    return size;
  }
  std::string Line() {
    std::string line;
    for (char byte = 0; byte != '\n';) {
      Take(&byte, 1);
      line += byte;
    }
    return line;
  }

  int fd_;
  std::string wire_;
  std::vector<char> value_;
  char buffer_[16384];
  size_t at_ = 0, filled_ = 0;
};

double BareTrip(const std::string& socket) {
  const pid_t echo = Child(
      [&] {
        Client client(socket);
        for (;;) {
          client.Pop('a');
          client.Push('b', client.value(), client.size());
        }
      },
      true);
  Client client(socket);
  static char message[kSmall];
  const auto turn = [&] {
    client.Push('a', message, sizeof message);
    client.Pop('b');
  };
  for (int i = 0; i < 200; ++i) turn();
  const auto start = Clock::now();
  for (int i = 0; i < kTurns; ++i) turn();
  const double each = Since(start) / kTurns * 1e6;
  kill(echo, SIGKILL);
  waitpid(echo, nullptr, 0);
  return each;
}

double Relay(const std::string& socket, int messages, int megabytes) {
  Pipe in, out;
  const pid_t sender = Child(
      [&] {
        const std::vector<char> message(megabytes * kMegabyte, 'm');
        for (int i = 0; i < messages; ++i) WriteAll(in.ends[1], message.data(), message.size());
      },
      true);
  const auto start = Clock::now();
  const pid_t first = Child(
      [&] {
        Client client(socket);
        std::vector<char> piece(kPiece);
        for (;;) {
          const ssize_t size = read(in.ends[0], piece.data(), piece.size());
          if (size <= 0) return;
          client.Push('r', piece.data(), static_cast<size_t>(size));
        }
      },
      true);
  const pid_t second = Child(
      [&] {
        Client client(socket);
        for (;;) {
          client.Pop('r');
          WriteAll(out.ends[1], client.value(), client.size());
        }
      },
      true);
  std::vector<char> message(megabytes * kMegabyte);
  for (int i = 0; i < messages; ++i) ReadAll(out.ends[0], message.data(), message.size());
  const double rate = messages * megabytes / Since(start);
  for (const pid_t child : {sender, first, second}) {
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
  }
  for (const int end : {in.ends[0], in.ends[1], out.ends[0], out.ends[1]}) close(end);
  return rate;
}

// ---- The comparison ----

double Elsewhere(const std::string& launcher, const std::string& what) {
  const std::string self = std::filesystem::read_symlink("/proc/self/exe");
  const std::string command = launcher + " run --workers 1 --strict -- " + self + " " + what;
  FILE* output = popen(command.c_str(), "r");
  double figure = 0;
  if (output == nullptr || fscanf(output, "%lf", &figure) != 1 || pclose(output) != 0) Die(command.c_str());
  return figure;
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

struct Transfer {
  const char* what;
  int messages;
  int megabytes;  // each
  std::vector<double> relay{}, up{}, down{};

  void Run(const std::string& launcher, const std::string& socket) {
    const std::string numbers = " " + std::to_string(messages) + " " + std::to_string(megabytes);
    relay.push_back(Relay(socket, messages, megabytes));
    up.push_back(Elsewhere(launcher, "up" + numbers));
    down.push_back(Elsewhere(launcher, "down" + numbers));
  }
  // True: both directions are within the limit.
  bool Judge() const {
    bool good = true;
    for (const auto& [way, rates] : {std::pair{" from the child", &up}, std::pair{" to the child", &down}}) {
      const double rate = Median(*rates), ratio = rate / Median(relay);
      std::printf("%-44s %5.0f MB/s %5.0f MB/s %8.2f   >= %.1f\n", (what + std::string(way)).c_str(), rate,
                  Median(relay), ratio, kRateLimit);
      good &= ratio >= kRateLimit;
    }
    return good;
  }
};

int Compare(const std::string& launcher) {
  char directory[] = "/tmp/elsewhere-bench-XXXXXX";
  if (mkdtemp(directory) == nullptr) Die("mkdtemp");
  auto redis = PrivateRedis::Start({.directory = directory});
  if (!redis) Die(redis.error().message.c_str());
  const std::string socket = (*redis)->url().path;
  const std::string turns = std::to_string(kTurns);
  std::vector<double> bare, trip;
  std::vector<Transfer> transfers{{"1 MB messages", kMegabytes, 1}, {"100 MB messages", 1, kMegabytes}};
  for (int round = 0; round < kRounds; ++round) {
    bare.push_back(BareTrip(socket));
    trip.push_back(Elsewhere(launcher, "trip " + turns));
    for (Transfer& transfer : transfers) transfer.Run(launcher, socket);
  }
  redis->reset();
  std::filesystem::remove_all(directory);
  const double trips = Median(trip) / Median(bare);
  std::printf("%-44s %10s %10s %8s %8s\n", "", "elsewhere", "bare", "ratio", "limit");
  std::printf("%-44s %7.1f us %7.1f us %8.2f   <= %.1f\n", "1 KB there and back", Median(trip), Median(bare),
              trips, kTripLimit);
  bool good = trips <= kTripLimit;
  for (const Transfer& transfer : transfers) good &= transfer.Judge();
  return good ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string mode = argc > 1 ? argv[1] : "";
  const int count = argc > 2 ? std::atoi(argv[2]) : 0;
  const int megabytes = argc > 3 ? std::atoi(argv[3]) : 1;
  if (mode == "trip") return std::printf("%.2f\n", Trip(count)) < 0;
  if (mode == "up") return std::printf("%.2f\n", OneWay(count, megabytes, true)) < 0;
  if (mode == "down") return std::printf("%.2f\n", OneWay(count, megabytes, false)) < 0;
  if (argc == 2) return Compare(mode);
  std::fprintf(stderr, "usage: bench_pipes LAUNCHER\n");
  return 2;
}
