#include "bench/ipc/programs.h"

#include <fcntl.h>
#include <mqueue.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

namespace bench {
namespace {

using Clock = std::chrono::steady_clock;
using Action = std::function<void()>;

constexpr int kTurns = 300;
constexpr int kTurnsAlone = 100'000;  // a turn takes nanoseconds
constexpr int kTurnsTogether =
    1'000'000;  // for so long that both are at it, though one has to be woken first
constexpr size_t kPipeMessage = 1024;

[[noreturn]] void Die(const char* why) {
  std::perror(why);
  std::_Exit(1);
}

template <class Turn>
int Serve(int turns, const Action& start_round, const Turn& turn) {
  char line[16];
  while (std::fgets(line, sizeof line, stdin) != nullptr) {
    start_round();
    const auto start = Clock::now();
    for (int i = 0; i < turns; ++i) turn();
    const std::chrono::duration<double, std::micro> took = Clock::now() - start;
    std::printf("%.4f\n", took.count() / turns);
    std::fflush(stdout);
  }
  return 0;
}

void* Shared(size_t size) {
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) Die("mmap");
  return memory;
}

pid_t Fork(const Action& child) {
  const pid_t pid = fork();
  if (pid < 0) Die("fork");
  if (pid > 0) return pid;
  child();
  std::_Exit(0);
}

// `echo` runs until it is killed; `serve` until standard input ends.
// Whoever does not play does `leave` first.
int Play(
    Pair pair, const Action& echo, const std::function<int()>& serve, const Action& leave = [] {}) {
  const pid_t other = Fork(echo);
  int status = 0;
  if (pair == Pair::kTwoChildren) {
    const pid_t server = Fork([&] { std::_Exit(serve()); });
    leave();
    waitpid(server, &status, 0);
  } else {
    status = serve();
  }
  kill(other, SIGKILL);
  waitpid(other, nullptr, 0);
  return status == 0 ? 0 : 1;
}

// ---- Semaphores and mutexes

int Semaphores(Pair pair) {
  auto* there = static_cast<sem_t*>(Shared(4096));
  sem_t* back = there + 1;
  sem_init(there, 1, 0);
  sem_init(back, 1, 0);
  if (pair == Pair::kNobody) {
    return Serve(
        kTurnsAlone, [] {},
        [there] {
          sem_post(there);
          sem_wait(there);
        });
  }
  const auto echo = [=] {
    for (;;) {
      sem_wait(there);
      sem_post(back);
    }
  };
  return Play(pair, echo, [=] {
    return Serve(
        kTurns, [] {},
        [=] {
          sem_post(there);
          sem_wait(back);
        });
  });
}

struct Locks {
  pthread_mutex_t mutex;
  pthread_rwlock_t read_write;
  pthread_spinlock_t spin;
  pthread_barrier_t start;
};

Locks* MakeLocks() {
  auto* locks = static_cast<Locks*>(Shared(sizeof(Locks)));
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_mutex_init(&locks->mutex, &attributes);
  pthread_rwlockattr_t read_write;
  pthread_rwlockattr_init(&read_write);
  pthread_rwlockattr_setpshared(&read_write, PTHREAD_PROCESS_SHARED);
  pthread_rwlock_init(&locks->read_write, &read_write);
  pthread_spin_init(&locks->spin, PTHREAD_PROCESS_SHARED);
  pthread_barrierattr_t barrier;
  pthread_barrierattr_init(&barrier);
  pthread_barrierattr_setpshared(&barrier, PTHREAD_PROCESS_SHARED);
  pthread_barrier_init(&locks->start, &barrier, 2);
  return locks;
}

// Both make turns, each a lock and its unlock, as fast as they can: it goes from one to the other.
template <class Turn>
int PlayLock(Pair pair, Locks* locks, const Turn& turn) {
  if (pair == Pair::kNobody)
    return Serve(
        kTurnsAlone, [] {}, turn);
  const Action start = [locks] { pthread_barrier_wait(&locks->start); };
  const auto echo = [=] {
    for (;;) {
      start();
      for (int i = 0; i < kTurnsTogether; ++i) turn();
    }
  };
  return Play(pair, echo, [=] { return Serve(kTurnsTogether, start, turn); });
}

int Mutex(Pair pair) {
  Locks* locks = MakeLocks();
  return PlayLock(pair, locks, [locks] {
    pthread_mutex_lock(&locks->mutex);
    pthread_mutex_unlock(&locks->mutex);
  });
}

int Readers(Pair pair) {
  Locks* locks = MakeLocks();
  return PlayLock(pair, locks, [locks] {
    pthread_rwlock_rdlock(&locks->read_write);
    pthread_rwlock_unlock(&locks->read_write);
  });
}

int Spinning(Pair pair) {
  Locks* locks = MakeLocks();
  return PlayLock(pair, locks, [locks] {
    pthread_spin_lock(&locks->spin);
    pthread_spin_unlock(&locks->spin);
  });
}

// ---- Message queues and pipes

mqd_t OpenQueue(const char* what) {
  const std::string name = "/elsewhere-bench-" + std::to_string(getpid()) + what;
  mq_attr attributes{};
  attributes.mq_maxmsg = 1;
  attributes.mq_msgsize = 64;
  const mqd_t queue = mq_open(name.c_str(), O_RDWR | O_CREAT | O_EXCL, 0600, &attributes);
  if (queue < 0) Die("mq_open");
  mq_unlink(name.c_str());
  return queue;
}

int Queues(Pair pair) {
  const mqd_t there = OpenQueue("-there"), back = OpenQueue("-back");
  const auto send = [](mqd_t queue) {
    const char message[64] = "";
    if (mq_send(queue, message, sizeof message, 0) != 0) Die("mq_send");
  };
  const auto receive = [](mqd_t queue) {
    char message[64];
    if (mq_receive(queue, message, sizeof message, nullptr) < 0) Die("mq_receive");
  };
  const auto echo = [=] {
    for (;;) {
      receive(there);
      send(back);
    }
  };
  return Play(pair, echo, [=] {
    return Serve(
        kTurns, [] {},
        [=] {
          send(there);
          receive(back);
        });
  });
}

void WriteAll(int fd, const char* from, size_t size) {
  for (size_t sent = 0; sent < size;) {
    const ssize_t done = write(fd, from + sent, size - sent);
    if (done <= 0) Die("write");
    sent += static_cast<size_t>(done);
  }
}
void ReadAll(int fd, char* to, size_t size) {
  for (size_t got = 0; got < size;) {
    const ssize_t done = read(fd, to + got, size - got);
    if (done <= 0) Die("read");
    got += static_cast<size_t>(done);
  }
}

int Pipes(Pair pair, bool kept) {
  int there[2], back[2];
  if (pipe(there) != 0 || pipe(back) != 0) Die("pipe");
  const int echo_from = there[0], echo_to = back[1], send_to = there[1], receive_from = back[0];
  const auto echo = [=] {
    char message[kPipeMessage];
    for (;;) {
      ReadAll(echo_from, message, sizeof message);
      WriteAll(echo_to, message, sizeof message);
    }
  };
  const auto serve = [=] {
    char message[kPipeMessage] = "";
    return Serve(
        kTurns, [] {},
        [&] {
          WriteAll(send_to, message, sizeof message);
          ReadAll(receive_from, message, sizeof message);
        });
  };
  return Play(pair, echo, serve, [=] {
    for (const int end : {there[0], there[1], back[0], back[1]}) {
      if (!kept) close(end);
    }
  });
}

// ---- The floor

class BareClient {
 public:
  BareClient(const char* path, size_t size)
      : fd_(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)), value_(size, 'x') {
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    std::strncpy(name.sun_path, path, sizeof name.sun_path - 1);
    if (connect(fd_, reinterpret_cast<sockaddr*>(&name), sizeof name) != 0) Die("connect");
    buffer_.resize(size + 64);
  }
  void Push(const char* key) {
    Ask(std::string("*3\r\n$5\r\nLPUSH\r\n$1\r\n") + key + "\r\n" + Bulk(value_), std::strlen(":1\r\n"));
  }
  void Pop(const char* key) {
    Ask(std::string("*3\r\n$5\r\nBLPOP\r\n$1\r\n") + key + "\r\n$1\r\n0\r\n",
        std::strlen("*2\r\n$1\r\nA\r\n") + Bulk(value_).size());
  }

 private:
  static std::string Bulk(const std::string& value) {
    return "$" + std::to_string(value.size()) + "\r\n" + value + "\r\n";
  }
  void Ask(const std::string& wire, size_t answer) {
    WriteAll(fd_, wire.data(), wire.size());
    ReadAll(fd_, buffer_.data(), answer);
  }
  int fd_;
  std::string value_;
  std::vector<char> buffer_;
};

}  // namespace

int RunProgram(std::string_view what, Pair pair) {
  if (what == "semaphores") return Semaphores(pair);
  if (what == "mutex") return Mutex(pair);
  if (what == "readers") return Readers(pair);
  if (what == "spin") return Spinning(pair);
  if (what == "queues" && pair != Pair::kNobody) return Queues(pair);
  if (what == "pipe" && pair != Pair::kNobody) return Pipes(pair, false);
  if (what == "kept-pipe" && pair != Pair::kNobody) return Pipes(pair, true);
  return 2;
}

int RunBareClients(const char* path, size_t size) {
  const pid_t child = Fork([=] {
    BareClient client(path, size);
    for (;;) {
      client.Pop("A");
      client.Push("B");
    }
  });
  BareClient client(path, size);
  const int status = Serve(
      kTurns, [] {},
      [&] {
        client.Push("A");
        client.Pop("B");
      });
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  return status;
}

}  // namespace bench
