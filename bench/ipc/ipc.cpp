// What objects cost that two processes share: by a program under `elsewhere run`, natively, and by two bare
// clients of a Redis of their own that hand over by LPUSH and BLPOP, all in the same run.
//
//   bench_ipc [KIND...]   the driver; semaphores, mutex, locks, queues, pipe, alone; all without arguments
//   bench_ipc WHAT PAIR   the program (programs.h); PAIR: child, children, nobody
//   bench_ipc bare SOCKET SIZE   the two clients
//
// Rounds of all variants alternate, medians of the rounds are compared. Exit status 1 when a limit is missed.
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "bench/ipc/programs.h"
#include "shim/broker/private_redis.h"

namespace {

using bench::Pair;

constexpr int kRounds = 31;
constexpr double kAcrossLimit = 1.5;  // of the floor
constexpr double kNativeLimit = 2.0;  // of native
const std::map<std::string, Pair> kPairs = {
    {"child", Pair::kParentAndChild}, {"children", Pair::kTwoChildren}, {"nobody", Pair::kNobody}};

// A program of the benchmark that answers a line with a line.
class Player {
 public:
  explicit Player(std::vector<std::string> command) {
    int input[2], output[2];
    if (pipe2(input, O_CLOEXEC) != 0 || pipe2(output, O_CLOEXEC) != 0) std::exit(1);
    pid_ = fork();
    if (pid_ == 0) {
      dup2(input[0], 0);
      dup2(output[1], 1);
      std::vector<char*> arguments;
      for (std::string& argument : command) arguments.push_back(argument.data());
      arguments.push_back(nullptr);
      execv(arguments[0], arguments.data());
      _exit(127);
    }
    close(input[0]);
    close(output[1]);
    input_ = input[1];
    output_ = fdopen(output[0], "r");
  }
  Player(const Player&) = delete;
  Player& operator=(const Player&) = delete;
  ~Player() {
    close(input_);
    waitpid(pid_, nullptr, 0);
    std::fclose(output_);
  }
  void Round() {
    char line[64];
    if (write(input_, "\n", 1) != 1 || std::fgets(line, sizeof line, output_) == nullptr) {
      std::fprintf(stderr, "bench_ipc: a program of the benchmark ended early\n");
      std::exit(1);
    }
    rounds_.push_back(std::atof(line));
  }
  double Median() {
    std::sort(rounds_.begin(), rounds_.end());
    return rounds_[rounds_.size() / 2];
  }
  void Forget() { rounds_.clear(); }

 private:
  pid_t pid_;
  int input_;
  FILE* output_;
  std::vector<double> rounds_;
};

void PlayRounds(const std::vector<Player*>& all) {
  for (Player* player : all) player->Round();  // until the processes are where they will be
  for (Player* player : all) player->Forget();
  for (int round = 0; round < kRounds; ++round) {
    for (Player* player : all) player->Round();
  }
}

void Print(const char* what, double value) {
  std::printf("  %-50s %9.3f us\n", what, value);
}

// True: within the limit.
bool Judge(const char* what, double value, double of, const char* of_what, double limit) {
  const bool good = value <= limit * of;
  std::printf("  %-50s %9.3f us   %.2f of %s, limit %.1f%s\n", what, value, value / of, of_what, limit,
              good ? "" : "  MISSED");
  return good;
}

class Bench {
 public:
  Bench(std::string self, std::string redis) : self_(std::move(self)), redis_(std::move(redis)) {}

  bool Compare(const std::string& kind, const char* title, size_t bare_size) const {
    Player native({self_, kind, "child"});
    Player native_peers({self_, kind, "children"});
    Player local({LAUNCHER, "run", "--fork", "local", "--", self_, kind, "child"});
    Player across({LAUNCHER, "run", "--workers", "1", "--strict", "--", self_, kind, "child"});
    Player peers({LAUNCHER, "run", "--workers", "1", "--strict", "--", self_, kind, "children"});
    Player bare({self_, "bare", redis_, std::to_string(bare_size)});
    PlayRounds({&native, &native_peers, &local, &across, &peers, &bare});
    std::printf("%s\n", title);
    Print("native, parent and child", native.Median());
    Print("native, two children", native_peers.Median());
    Print("two bare clients, LPUSH and BLPOP (floor)", bare.Median());
    bool good = Judge("under elsewhere, child on a worker", across.Median(), bare.Median(), "the floor",
                      kAcrossLimit);
    good &= Judge("under elsewhere, both at home", local.Median(), native.Median(), "native", kNativeLimit);
    good &= Judge("under elsewhere, both on one worker", peers.Median(), native_peers.Median(), "native",
                  kNativeLimit);
    return good;
  }

  // Native and on one worker alone.
  void ShowPeers(const std::string& kind, const char* title) const {
    Player native({self_, kind, "children"});
    Player peers({LAUNCHER, "run", "--workers", "1", "--strict", "--", self_, kind, "children"});
    PlayRounds({&native, &peers});
    std::printf("%s\n", title);
    Print("native", native.Median());
    Print("under elsewhere, both on one worker", peers.Median());
  }

  bool CompareAlone(const std::string& kind, const char* title) const {
    Player native({self_, kind, "nobody"});
    Player elsewhere({LAUNCHER, "run", "--workers", "1", "--", self_, kind, "nobody"});
    PlayRounds({&native, &elsewhere});
    std::printf("%s\n", title);
    Print("native", native.Median());
    return Judge("under elsewhere", elsewhere.Median(), native.Median(), "native", kNativeLimit);
  }

 private:
  std::string self_;
  std::string redis_;
};

int Drive(const std::string& self, const std::vector<std::string>& kinds) {
  char directory[] = "/tmp/bench-ipc-XXXXXX";
  if (mkdtemp(directory) == nullptr) return 1;
  auto redis = elsewhere::broker::PrivateRedis::Start({.directory = directory});
  if (!redis) {
    std::fprintf(stderr, "bench_ipc: %s\n", redis.error().message.c_str());
    return 1;
  }
  setenv("ELSEWHERE_HOME", HOME_OF_BUILD, 1);
  const Bench bench(self, (*redis)->url().path);
  const auto wanted = [&kinds](const char* kind) {
    return kinds.empty() || std::find(kinds.begin(), kinds.end(), kind) != kinds.end();
  };
  bool good = true;
  if (wanted("semaphores")) good &= bench.Compare("semaphores", "semaphore there and back", 1);
  if (wanted("mutex")) good &= bench.Compare("mutex", "mutex that two want, lock and unlock", 1);
  if (wanted("locks")) {
    bench.ShowPeers("readers", "read-write lock that two read, lock and unlock (no limit)");
    bench.ShowPeers("spin", "spin lock that two want, lock and unlock (no limit)");
  }
  if (wanted("queues")) good &= bench.Compare("queues", "message there and back, two queues", 64);
  if (wanted("pipe")) {
    good &= bench.Compare("pipe", "1 KB there and back, two pipes", 1024);
    bench.ShowPeers("kept-pipe",
                    "1 KB there and back, two pipes whose ends the parent at home keeps (no limit)");
  }
  if (wanted("alone")) {
    good &= bench.CompareAlone("semaphores", "semaphore that nobody else wants, post and wait");
    good &= bench.CompareAlone("mutex", "mutex that nobody else wants, lock and unlock");
  }
  redis->reset();
  rmdir(directory);
  return good ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  if (arguments.size() == 2) {
    if (const auto pair = kPairs.find(arguments[1]); pair != kPairs.end()) {
      return bench::RunProgram(arguments[0], pair->second);
    }
  }
  if (arguments.size() == 3 && arguments[0] == "bare") {
    return bench::RunBareClients(argv[2], static_cast<size_t>(std::atol(argv[3])));
  }
  char self[4096];
  const ssize_t size = readlink("/proc/self/exe", self, sizeof self);
  return size <= 0 ? 1 : Drive({self, static_cast<size_t>(size)}, arguments);
}
