// What the preload costs a program that it does nothing for.
//
//   wrapper     a call through the wrapper to a no-op target against a bare call to the same target: both
//   through a
//               pointer, in rounds that alternate, median of the rounds
//   call        the whole system call, in two children of this program, one native and one under the preload,
//   again in
//               alternating rounds
//   open        the same of opening and closing a file that is not mapped, in a session that has maps; and of
//   looking
//               for one that is not there
//   start-up    /bin/true, natively and under the preload
//
// Exit status 1 when a figure misses its limit.
#include <dlfcn.h>
#include <fcntl.h>
#include <semaphore.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
using Function = long (*)(long, void*, long);

constexpr int kRounds = 61;
constexpr int kNoopCalls = 200'000;
constexpr int kSystemCalls = 20'000;
constexpr int kStarts = 151;

double Nanoseconds(Clock::duration duration) {
  return std::chrono::duration<double, std::nano>(duration).count();
}

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<long>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

struct Pair {
  double native, preloaded;
};

bool all_within_limits = true;

void Print(const char* what, const char* name, Pair pair, const char* unit, double limit) {
  const double difference = pair.preloaded - pair.native;
  std::printf("%-10s %-12s %10.2f %10.2f %+9.2f %s", what, name, pair.native, pair.preloaded, difference,
              unit);
  if (limit > 0) {
    const bool good = difference < limit;
    all_within_limits &= good;
    std::printf("  limit +%.1f %s", limit, good ? "ok" : "MISSED");
  }
  std::printf("\n");
}

void* Need(void* pointer, const char* what) {
  if (pointer == nullptr) {
    std::fprintf(stderr, "bench_calls: %s: %s\n", what, dlerror());
    std::exit(1);
  }
  return pointer;
}

[[gnu::noinline]] double PerCall(Function function, void* object) {
  const auto start = Clock::now();
  for (int i = 0; i < kNoopCalls; ++i) {
    function(reinterpret_cast<long>(object), object, 1);
    asm volatile("" ::: "memory");
  }
  return Nanoseconds(Clock::now() - start) / kNoopCalls;
}

// `first` is the first argument: a descriptor number or an object's address.
Pair MeasureWrapper(void* wrappers, Function noop, const char* name, void* first) {
  const auto set =
      reinterpret_cast<bool (*)(const char*, void*)>(Need(dlsym(wrappers, "SetRealFunction"), "hooks"));
  if (!set(name, reinterpret_cast<void*>(noop))) Need(nullptr, name);
  const auto wrapper = reinterpret_cast<Function>(Need(dlsym(wrappers, name), name));
  std::vector<double> bare, wrapped;
  for (int round = 0; round < kRounds; ++round) {
    bare.push_back(PerCall(noop, first));
    wrapped.push_back(PerCall(wrapper, first));
  }
  return {Median(bare), Median(wrapped)};
}

// ---- The whole call: a child answers each byte on its standard input with one line of figures.
// -----------------------

template <class Call>
double Measure(Call call) {
  const auto start = Clock::now();
  for (int i = 0; i < kSystemCalls; ++i) call();
  return Nanoseconds(Clock::now() - start) / kSystemCalls;
}

[[noreturn]] void Child() {
  const int zero = open("/dev/zero", O_RDONLY), null = open("/dev/null", O_WRONLY),
            file = open("/proc/self/exe", O_RDONLY);
  static sem_t semaphore;
  sem_init(&semaphore, 0, 0);
  char byte = 0;
  while (read(0, &byte, 1) == 1) {
    char line[192];
    struct stat status;
    const int size = std::snprintf(line, sizeof line, "%.3f %.3f %.3f %.3f %.3f %.3f %.3f\n",
                                   Measure([&] { return read(zero, &byte, 1); }),
                                   Measure([&] { return write(null, &byte, 1); }),
                                   Measure([&] { return lseek(file, 0, SEEK_SET); }),
                                   Measure([&] { return sem_post(&semaphore) + sem_wait(&semaphore); }),
                                   Measure([] { return close(open("/dev/null", O_RDONLY)); }),
                                   Measure([] { return open("/usr/lib/none", O_RDONLY); }),
                                   Measure([&] { return stat("/usr/lib/none", &status); }));
    if (write(1, line, static_cast<size_t>(size)) != size) _exit(1);
  }
  _exit(0);
}

std::vector<char*> Environment(bool preloaded) {
  // A path below the map would need an agent; all others are told apart by their text.
  static char preload[] = "LD_PRELOAD=" PRELOAD, maps[] = "ELSEWHERE_MAPS=/mapped/data";
  std::vector<char*> result;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    if (std::strncmp(*entry, "LD_PRELOAD=", 11) != 0) result.push_back(*entry);
  }
  if (preloaded) result.insert(result.end(), {preload, maps});
  result.push_back(nullptr);
  return result;
}

struct Partner {
  int request = -1;
  FILE* answer = nullptr;
};

Partner Start(bool preloaded) {
  int to[2], from[2];
  if (pipe2(to, O_CLOEXEC) != 0 || pipe2(from, O_CLOEXEC) != 0) std::abort();
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, to[0], 0);
  posix_spawn_file_actions_adddup2(&actions, from[1], 1);
  char self[] = "/proc/self/exe", mode[] = "--child";
  char* arguments[] = {self, mode, nullptr};
  pid_t child;
  if (posix_spawn(&child, self, &actions, nullptr, arguments, Environment(preloaded).data()) != 0)
    std::abort();
  posix_spawn_file_actions_destroy(&actions);
  close(to[0]);
  close(from[1]);
  return {to[1], fdopen(from[0], "r")};
}

void MeasureCalls() {
  struct Row {
    const char* name;
    double limit;
  };
  constexpr Row kRows[] = {{"read", 0},          {"write", 0},          {"lseek", 0},       {"sem pair", 0},
                           {"open, close", 100}, {"open nothing", 100}, {"stat nothing", 0}};
  constexpr size_t kCount = std::size(kRows);
  const Partner partners[] = {Start(false), Start(true)};
  std::vector<double> figures[2][kCount];
  for (int round = 0; round < kRounds; ++round) {
    for (int side = 0; side < 2; ++side) {
      if (write(partners[side].request, "x", 1) != 1) std::abort();
      for (auto& figure : figures[side]) {
        double value;
        if (std::fscanf(partners[side].answer, "%lf", &value) != 1) std::abort();
        figure.push_back(value);
      }
    }
  }
  for (const Partner& partner : partners) {
    close(partner.request);
    std::fclose(partner.answer);
    wait(nullptr);
  }
  for (size_t i = 0; i < kCount; ++i)
    Print("call", kRows[i].name, {Median(figures[0][i]), Median(figures[1][i])}, "ns", kRows[i].limit);
}

double StartTrue(char* const* environment) {
  char program[] = "/bin/true";
  char* arguments[] = {program, nullptr};
  pid_t child;
  const auto start = Clock::now();
  if (posix_spawn(&child, program, nullptr, nullptr, arguments, environment) != 0) std::abort();
  waitpid(child, nullptr, 0);
  return Nanoseconds(Clock::now() - start) / 1e6;
}

Pair MeasureStart() {
  const auto native = Environment(false), preloaded = Environment(true);
  std::vector<double> figures[2];
  for (int i = 0; i < kStarts; ++i) {
    figures[0].push_back(StartTrue(native.data()));
    figures[1].push_back(StartTrue(preloaded.data()));
  }
  return {Median(figures[0]), Median(figures[1])};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && std::strcmp(argv[1], "--child") == 0) Child();
  void* noop_library = Need(dlopen(NOOP, RTLD_NOW | RTLD_LOCAL), NOOP);
  void* wrappers = Need(dlopen(WRAPPERS, RTLD_NOW | RTLD_LOCAL), WRAPPERS);
  const auto noop = reinterpret_cast<Function>(Need(dlsym(noop_library, "NoOperation"), NOOP));
  std::printf("%-10s %-12s %10s %10s %9s\n", "figure", "function", "native", "preload", "difference");
  void* const descriptor = reinterpret_cast<void*>(5L);
  for (const char* name : {"read", "write", "lseek"}) {
    Print("wrapper", name, MeasureWrapper(wrappers, noop, name, descriptor), "ns", 1.0);
  }
  static sem_t semaphore;
  sem_init(&semaphore, 0, 0);
  for (const char* name : {"sem_wait", "sem_post", "sem_trywait"}) {
    Print("wrapper", name, MeasureWrapper(wrappers, noop, name, &semaphore), "ns", 1.0);
  }
  MeasureCalls();
  Print("start-up", "/bin/true", MeasureStart(), "ms", 0.3);
  return all_within_limits ? 0 : 1;
}
