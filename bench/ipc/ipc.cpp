// A semaphore posted to another host and one posted back, and a message sent there and one sent back through
// POSIX message queues, by programs under `elsewhere run`, against two bare clients of a Redis of their own
// that hand over by LPUSH and BLPOP, in the same run.
//
//   bench_ipc               the driver; rounds of all variants alternate, medians of the rounds are compared
//   bench_ipc semaphores    the program: parent and child, two process-shared semaphores; a round for each
//   bench_ipc queues        the same with two message queues
//   input line bench_ipc bare SOCKET   the two clients, likewise
//
// Variants: native (the program without elsewhere), alone (under elsewhere, before any fork went elsewhere:
// what a semaphore costs that only one host uses), elsewhere (the child on a worker), bare. Exit status 1
// when the limit is missed.
#include <fcntl.h>
#include <mqueue.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "shim/broker/private_redis.h"

namespace {

using Clock = std::chrono::steady_clock;

constexpr int kRounds = 31;
constexpr int kTurns = 300;
constexpr double kLimit = 1.5;

// For each line of standard input: runs `turn` kTurns times and prints the microseconds of one.
template <class Turn>
int Serve(Turn turn) {
  char line[16];
  while (std::fgets(line, sizeof line, stdin) != nullptr) {
    const auto start = Clock::now();
    for (int i = 0; i < kTurns; ++i) turn();
    const std::chrono::duration<double, std::micro> took = Clock::now() - start;
    std::printf("%.3f\n", took.count() / kTurns);
    std::fflush(stdout);
  }
  return 0;
}

int Semaphores() {
  void* memory = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  auto* there = static_cast<sem_t*>(memory);
  sem_t* back = there + 1;
  sem_init(there, 1, 0);
  sem_init(back, 1, 0);
  const pid_t child = fork();
  if (child == 0) {
    for (;;) {
      sem_wait(there);
      sem_post(back);
    }
  }
  const int status = Serve([&] {
    sem_post(there);
    sem_wait(back);
  });
  kill(child, SIGTERM);
  waitpid(child, nullptr, 0);
  return status;
}

int Queues() {
  const auto open = [](const char* what) {
    const std::string name = "/elsewhere-bench-" + std::to_string(getpid()) + what;
    mq_attr attributes{};
    attributes.mq_maxmsg = 1;
    attributes.mq_msgsize = 64;
    const mqd_t queue = mq_open(name.c_str(), O_RDWR | O_CREAT | O_EXCL, 0600, &attributes);
    if (queue < 0) std::exit(1);
    mq_unlink(name.c_str());
    return queue;
  };
  const mqd_t there = open("-there"), back = open("-back");
  char message[64] = "";
  const pid_t child = fork();
  if (child == 0) {
    for (;;) {
      mq_receive(there, message, sizeof message, nullptr);
      mq_send(back, message, sizeof message, 0);
    }
  }
  const int status = Serve([&] {
    mq_send(there, message, sizeof message, 0);
    mq_receive(back, message, sizeof message, nullptr);
  });
  kill(child, SIGTERM);
  waitpid(child, nullptr, 0);
  return status;
}

class BareClient {
 public:
  explicit BareClient(const char* path) : fd_(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    std::strncpy(name.sun_path, path, sizeof name.sun_path - 1);
    if (connect(fd_, reinterpret_cast<sockaddr*>(&name), sizeof name) != 0) std::exit(1);
  }
  void Push(const char* key) {
    const std::string wire = std::string("*3\r\n$5\r\nLPUSH\r\n$1\r\n") + key + "\r\n$1\r\nx\r\n";
    Ask(wire, std::strlen(":1\r\n"));
  }
  void Pop(const char* key) {
    const std::string wire = std::string("*3\r\n$5\r\nBLPOP\r\n$1\r\n") + key + "\r\n$1\r\n0\r\n";
    Ask(wire, std::strlen("*2\r\n$1\r\nA\r\n$1\r\nx\r\n"));
  }

 private:
  void Ask(const std::string& wire, size_t answer) {
    if (write(fd_, wire.data(), wire.size()) != static_cast<ssize_t>(wire.size())) std::exit(1);
    char buffer[64];
    for (size_t got = 0; got < answer;) {
      const ssize_t done = read(fd_, buffer, answer - got);
      if (done <= 0) std::exit(1);
      got += static_cast<size_t>(done);
    }
  }
  int fd_;
};

int Bare(const char* path) {
  const pid_t child = fork();
  BareClient client(path);
  if (child == 0) {
    for (;;) {
      client.Pop("A");
      client.Push("B");
    }
  }
  const int status = Serve([&] {
    client.Push("A");
    client.Pop("B");
  });
  kill(child, SIGTERM);
  waitpid(child, nullptr, 0);
  return status;
}

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
  double Round() {
    char line[64];
    if (write(input_, "\n", 1) != 1 || std::fgets(line, sizeof line, output_) == nullptr) {
      std::fprintf(stderr, "bench_ipc: a program of the benchmark ended early\n");
      std::exit(1);
    }
    rounds_.push_back(std::atof(line));
    return rounds_.back();
  }
  double Median() {
    std::sort(rounds_.begin(), rounds_.end());
    return rounds_[rounds_.size() / 2];
  }
  void Forget() { rounds_.clear(); }
  ~Player() {
    close(input_);
    waitpid(pid_, nullptr, 0);
    std::fclose(output_);
  }

 private:
  pid_t pid_;
  int input_;
  FILE* output_;
  std::vector<double> rounds_;
};

// One kind of object: the table of its round trips. True: within the limit.
bool Compare(const std::string& self, const char* kind, const char* title, const std::string& redis) {
  Player native({self, kind});
  Player alone({LAUNCHER, "run", "--fork", "local", "--", self, kind});
  Player remote({LAUNCHER, "run", "--workers", "1", "--strict", "--", self, kind});
  Player bare({self, "bare", redis});
  Player* all[] = {&native, &alone, &remote, &bare};
  for (Player* player : all) player->Round();  // until the child is where it will be
  for (Player* player : all) player->Forget();
  for (int round = 0; round < kRounds; ++round) {
    for (Player* player : all) player->Round();
  }
  const double floor = bare.Median();
  const double ratio = remote.Median() / floor;
  const bool good = ratio <= kLimit;
  std::printf("%-52s %9s\n", title, "us");
  std::printf("%-52s %9.1f\n", "native", native.Median());
  std::printf("%-52s %9.1f\n", "under elsewhere, both on one host", alone.Median());
  std::printf("%-52s %9.1f\n", "two bare clients, LPUSH and BLPOP (floor)", floor);
  std::printf("%-52s %9.1f   %.2f of the floor, limit %.1f%s\n", "under elsewhere, child on a worker",
              remote.Median(), ratio, kLimit, good ? "" : "  MISSED");
  return good;
}

int Drive(const std::string& self) {
  char directory[] = "/tmp/bench-ipc-XXXXXX";
  if (mkdtemp(directory) == nullptr) return 1;
  auto redis = elsewhere::broker::PrivateRedis::Start({.directory = directory});
  if (!redis) {
    std::fprintf(stderr, "bench_ipc: %s\n", redis.error().message.c_str());
    return 1;
  }
  setenv("ELSEWHERE_HOME", HOME_OF_BUILD, 1);
  const std::string path = (*redis)->url().path;
  bool good = Compare(self, "semaphores", "semaphore there and back, two processes", path);
  good = Compare(self, "queues", "message there and back, two queues", path) && good;
  redis->reset();
  rmdir(directory);
  return good ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::strcmp(argv[1], "semaphores") == 0) return Semaphores();
  if (argc == 2 && std::strcmp(argv[1], "queues") == 0) return Queues();
  if (argc == 3 && std::strcmp(argv[1], "bare") == 0) return Bare(argv[2]);
  char self[4096];
  const ssize_t size = readlink("/proc/self/exe", self, sizeof self);
  return size <= 0 ? 1 : Drive({self, static_cast<size_t>(size)});
}
