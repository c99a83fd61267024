// Cases of what a child of fork() may rely on. `image_cases NAME` forks once in the situation NAME; the child
// checks that it was restored in another pid namespace and that everything is as a forked child expects, and
// says so by its exit status. Each case is what native fork() gives, and passes natively too
// (IMAGE_TEST_NATIVE=1).

#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

extern "C" int image_test_restored() __attribute__((weak));
extern "C" const char* image_test_note() __attribute__((weak));

namespace {

std::string home_namespace;

std::string PidNamespace() {
  char link[64] = {};
  return readlink("/proc/self/ns/pid", link, sizeof link - 1) > 0 ? link : "";
}

#define CHECK(condition)                                                           \
  do {                                                                             \
    if (!(condition)) {                                                            \
      dprintf(2, "%s:%d: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno); \
      _exit(1);                                                                    \
    }                                                                              \
  } while (false)

bool Native() {
  return getenv("IMAGE_TEST_NATIVE") != nullptr;
}

void CheckElsewhere() {
  if (Native()) return;
  CHECK(image_test_restored != nullptr && image_test_restored() == 1);
  CHECK(PidNamespace() != home_namespace);
  CHECK(strcmp(image_test_note(), "hello") == 0);
  CHECK(syscall(SYS_gettid) == syscall(SYS_getpid));
}

// Forks, runs `child` there, and expects its exit status.
void ForkAndRun(const std::function<void()>& child, int expected = 0) {
  fflush(nullptr);
  const pid_t pid = fork();
  CHECK(pid >= 0);
  if (pid == 0) {
    CheckElsewhere();
    child();
    _exit(0);
  }
  int status = -1;
  CHECK(waitpid(pid, &status, 0) == pid);
  if (status != expected)
    dprintf(2, "status %#x, expected %#x\n", static_cast<unsigned>(status), static_cast<unsigned>(expected));
  CHECK(status == expected);
}

thread_local int thread_local_number = 17;

void ThreadLocals() {
  thread_local_number = 42;
  errno = ERANGE;
  ForkAndRun([] {
    CHECK(thread_local_number == 42);
    thread_local_number = 43;
    std::thread([] { CHECK(thread_local_number == 17); }).join();
    CHECK(thread_local_number == 43);
  });
  CHECK(thread_local_number == 42);
}

void LargeHeap() {
  const size_t size = 50 << 20;
  std::vector<unsigned> numbers(size / sizeof(unsigned));
  for (size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<unsigned>(i * 2654435761U);
  ForkAndRun([&] {
    for (size_t i = 0; i < numbers.size(); ++i) CHECK(numbers[i] == static_cast<unsigned>(i * 2654435761U));
    numbers.resize(numbers.size() * 2);
    for (size_t i = 0; i < numbers.size(); ++i) numbers[i] = 1;
  });
}

void SparseHeap() {
  const size_t size = 256 << 20;
  char* memory =
      static_cast<char*>(mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  CHECK(memory != MAP_FAILED);
  for (size_t at = 0; at < size; at += 1 << 20) memory[at] = static_cast<char>(at >> 20 | 1);
  memset(memory + 4096 * 3, 0, 4096 * 40);
  ForkAndRun([&] {
    for (size_t at = 0; at < size; at += 1 << 20) CHECK(memory[at] == static_cast<char>(at >> 20 | 1));
    for (size_t at = 1; at < size; at += 4096) CHECK(memory[at] == 0);
  });
}

void Exceptions() {
  ForkAndRun([] {
    int caught = 0;
    for (int i = 0; i < 10; ++i) {
      try {
        if (i % 2 == 0) throw std::runtime_error("even");
        std::string("short").at(10);
      } catch (const std::out_of_range&) {
        caught += 100;
      } catch (const std::exception&) {
        caught += 1;
      }
    }
    CHECK(caught == 505);
  });
}

void ThreadsInParent() {
  std::atomic<bool> stop = false;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      while (!stop) free(malloc(1000));
    });
  }
  for (int i = 0; i < 5; ++i) {
    ForkAndRun([] {
      for (int n = 0; n < 1000; ++n) free(malloc(static_cast<size_t>(n)));
      std::thread([] { free(malloc(100)); }).join();
    });
  }
  stop = true;
  for (auto& thread : threads) thread.join();
}

void ThreadsInChild() {
  ForkAndRun([] {
    std::atomic<int> sum = 0;
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; ++i) threads.emplace_back([&sum, i] { sum += i; });
    for (auto& thread : threads) thread.join();
    CHECK(sum == 28);
    sem_t semaphore;
    sem_init(&semaphore, 0, 0);
    std::thread poster([&] { sem_post(&semaphore); });
    sem_wait(&semaphore);
    poster.join();
  });
}

void* ForkFromHere(void*) {
  thread_local_number = 5;
  ForkAndRun([] {
    CHECK(thread_local_number == 5);
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    CHECK(pthread_mutex_lock(&mutex) == 0);
    CHECK(raise(0) == 0);
    std::thread([] {}).join();
  });
  return nullptr;
}

void ForkFromThread() {
  pthread_t thread;
  CHECK(pthread_create(&thread, nullptr, ForkFromHere, nullptr) == 0);
  pthread_join(thread, nullptr);
}

void ForkFromSmallThread() {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  CHECK(pthread_attr_setstacksize(&attributes, 32 << 10) == 0);
  pthread_t thread;
  CHECK(pthread_create(&thread, &attributes, ForkFromHere, nullptr) == 0);
  pthread_join(thread, nullptr);
}

volatile sig_atomic_t handled = 0;
volatile bool on_stack = false;
char signal_stack[64 << 10];

void Handle(int number) {
  handled = handled + number;
  const char here = 0;
  on_stack = &here >= signal_stack && &here < signal_stack + sizeof signal_stack;
}

void SetHandler(int number, int flags) {
  struct sigaction action {};
  action.sa_handler = Handle;
  action.sa_flags = flags;
  CHECK(sigaction(number, &action, nullptr) == 0);
}

void Handlers() {
  SetHandler(SIGUSR1, SA_RESTART);
  signal(SIGPIPE, SIG_IGN);
  sigset_t blocked;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGUSR2);
  sigprocmask(SIG_BLOCK, &blocked, nullptr);
  SetHandler(SIGUSR2, 0);
  ForkAndRun([] {
    raise(SIGUSR1);
    CHECK(handled == SIGUSR1);
    raise(SIGUSR2);
    CHECK(handled == SIGUSR1);
    sigset_t none;
    sigemptyset(&none);
    sigsuspend(&none);
    CHECK(handled == SIGUSR1 + SIGUSR2);
    int pipes[2];
    CHECK(pipe(pipes) == 0);
    close(pipes[0]);
    CHECK(write(pipes[1], "x", 1) == -1 && errno == EPIPE);
    itimerval timer{};
    timer.it_value.tv_usec = 1000;
    SetHandler(SIGALRM, 0);
    CHECK(setitimer(ITIMER_REAL, &timer, nullptr) == 0);
    sigsuspend(&none);
    CHECK(handled == SIGUSR1 + SIGUSR2 + SIGALRM);
  });
}

void SignalStack() {
  stack_t stack{};
  stack.ss_sp = signal_stack;
  stack.ss_size = sizeof signal_stack;
  CHECK(sigaltstack(&stack, nullptr) == 0);
  SetHandler(SIGUSR1, SA_ONSTACK);
  ForkAndRun([] {
    raise(SIGUSR1);
    CHECK(handled == SIGUSR1 && on_stack);
  });
}

void ForkInHandlerOnStack() {
  stack_t stack{};
  stack.ss_sp = signal_stack;
  stack.ss_size = sizeof signal_stack;
  CHECK(sigaltstack(&stack, nullptr) == 0);
  struct sigaction action {};
  action.sa_handler = [](int) {
    ForkAndRun([] {
      const char here = 0;
      CHECK(&here >= signal_stack && &here < signal_stack + sizeof signal_stack);
    });
  };
  action.sa_flags = SA_ONSTACK;
  CHECK(sigaction(SIGUSR1, &action, nullptr) == 0);
  raise(SIGUSR1);
}

void Break() {
  const auto before = reinterpret_cast<uintptr_t>(sbrk(1 << 20));
  memset(reinterpret_cast<void*>(before), 7, 1 << 20);
  ForkAndRun([=] {
    const char* old = reinterpret_cast<const char*>(before);
    CHECK(old[0] == 7 && old[(1 << 20) - 1] == 7);
    if (getenv("IMAGE_TEST_NO_BREAK") == nullptr) {
      CHECK(reinterpret_cast<uintptr_t>(sbrk(0)) == before + (1 << 20));
    }
    char* more = static_cast<char*>(sbrk(4 << 20));
    CHECK(reinterpret_cast<uintptr_t>(more) != UINTPTR_MAX);
    for (int i = 0; i < 4 << 20; ++i) CHECK(more[i] == 0);
    memset(more, 8, 4 << 20);
    std::vector<void*> blocks;
    for (int i = 0; i < 20000; ++i) {
      void* block = malloc(200);
      memset(block, i, 200);
      blocks.push_back(block);
    }
    for (void* block : blocks) free(block);
    CHECK(old[5] == 7);
  });
}

void Mappings() {
  char* pages =
      static_cast<char*>(mmap(nullptr, 64 << 12, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  for (int i = 0; i < 64; ++i) pages[i << 12] = static_cast<char>(i);
  CHECK(mprotect(pages + (8 << 12), 4 << 12, PROT_NONE) == 0);
  CHECK(mprotect(pages + (16 << 12), 4 << 12, PROT_READ) == 0);
  char name[] = "/tmp/image-case-XXXXXX";
  const int file = mkstemp(name);
  CHECK(write(file, "in the file", 11) == 11);
  char* gone = static_cast<char*>(mmap(nullptr, 3 << 12, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0));
  unlink(name);
  gone[20] = 'w';
  char* program = nullptr;
  const int self = open("/proc/self/exe", O_RDONLY);
  program = static_cast<char*>(mmap(nullptr, 1 << 12, PROT_READ | PROT_WRITE, MAP_PRIVATE, self, 0));
  program[8] = 'p';
  close(self);
  ForkAndRun([=] {
    for (int i = 0; i < 64; ++i) {
      if (i >= 8 && i < 12) continue;
      CHECK(pages[i << 12] == i);
    }
    CHECK(mprotect(pages + (8 << 12), 4 << 12, PROT_READ) == 0);
    CHECK(pages[8 << 12] == 8 && pages[11 << 12] == 11);
    int pipes[2];
    CHECK(pipe(pipes) == 0);
    CHECK(write(pipes[1], "xx", 2) == 2);
    CHECK(read(pipes[0], pages + (16 << 12), 1) == -1 && errno == EFAULT);
    CHECK(memcmp(gone, "in the file", 11) == 0 && gone[20] == 'w');
    CHECK(memcmp(program, "\177ELF", 4) == 0 && program[8] == 'p');
    char* again = static_cast<char*>(
        mmap(nullptr, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    CHECK(again != MAP_FAILED);
    memset(again, 1, 1 << 20);
    CHECK(munmap(pages, 32 << 12) == 0);
    CHECK(pages[40 << 12] == 40);
  });
}

void Code() {
  static const unsigned char kReturn42[] = {0xb8, 42, 0, 0, 0, 0xc3};
  void* code = mmap(nullptr, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(code != MAP_FAILED);
  memcpy(code, kReturn42, sizeof kReturn42);
  ForkAndRun([=] {
    CHECK(reinterpret_cast<int (*)()>(code)() == 42);
    CHECK(mprotect(code, 4096, PROT_READ | PROT_EXEC) == 0);
    CHECK(reinterpret_cast<int (*)()>(code)() == 42);
  });
}

void Stdio() {
  FILE* file = tmpfile();
  fputs("before ", file);
  ForkAndRun([=] {
    fputs("child", file);
    CHECK(fflush(file) == 0);
    rewind(file);
    char text[64] = {};
    CHECK(fgets(text, sizeof text, file) != nullptr);
    CHECK(strcmp(text, "before child") == 0);
    printf("buffered output ");
    fflush(stdout);
  });
}

int Deepen(int depth) {
  volatile char frame[4096];
  frame[0] = static_cast<char>(depth);
  return depth == 0 ? frame[0] : Deepen(depth - 1) + frame[0] - frame[0];
}

void DeepStack() {
  ForkAndRun([] { CHECK(Deepen(1500) == 0); });
}

void Nested() {
  ForkAndRun(
      [] {
        for (int i = 0; i < 3; ++i) {
          const pid_t pid = fork();
          if (pid == 0) _exit(i);
          int status;
          CHECK(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == i);
        }
        CHECK(system("exit 9") == 9 << 8);
        _exit(33);
      },
      33 << 8);
}

void Crash() {
  ForkAndRun([] { *static_cast<volatile int*>(nullptr) = 1; }, SIGSEGV | (Native() ? 0 : 0));
}

void Abort() {
  ForkAndRun([] { abort(); }, SIGABRT);
}

void Descriptors() {
  const int file = open("/etc/passwd", O_RDONLY);
  CHECK(lseek(file, 5, SEEK_SET) == 5);
  const int high = fcntl(file, F_DUPFD_CLOEXEC, 700);
  int pipes[2];
  CHECK(pipe(pipes) == 0);
  std::vector<int> many;
  for (int i = 0; i < 150; ++i) many.push_back(dup(pipes[1]));
  close(0);
  ForkAndRun([=] {
    CHECK(fcntl(0, F_GETFD) == -1);
    CHECK(lseek(file, 0, SEEK_CUR) == 5 && lseek(high, 0, SEEK_CUR) == 5);
    CHECK((fcntl(high, F_GETFD) & FD_CLOEXEC) != 0 && (fcntl(file, F_GETFD) & FD_CLOEXEC) == 0);
    for (const int descriptor : many) CHECK(fcntl(descriptor, F_GETFL) != -1);
    CHECK(write(many[77], "ok", 2) == 2);
    char text[2];
    CHECK(read(pipes[0], text, 2) == 2);
    // The next free number is what it would have been.
    CHECK(dup(file) == 0);
  });
}

void Settings() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = 333;
  CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
  umask(027);
  CHECK(chdir("/usr/lib") == 0);
  CHECK(pthread_setname_np(pthread_self(), "some name") == 0);
  char before[4096] = {};
  const int arguments = open("/proc/self/cmdline", O_RDONLY);
  CHECK(read(arguments, before, sizeof before) > 0);
  ForkAndRun([&] {
    rlimit now{};
    getrlimit(RLIMIT_NOFILE, &now);
    CHECK(now.rlim_cur == 333);
    CHECK(umask(0) == 027);
    char directory[PATH_MAX];
    CHECK(getcwd(directory, sizeof directory) != nullptr && strcmp(directory, "/usr/lib") == 0);
    char name[16];
    CHECK(pthread_getname_np(pthread_self(), name, sizeof name) == 0 && strcmp(name, "some name") == 0);
    if (getenv("IMAGE_TEST_NO_BREAK") != nullptr) return;
    char now_shown[4096] = {};
    const int shown = open("/proc/self/cmdline", O_RDONLY);
    CHECK(read(shown, now_shown, sizeof now_shown) > 0);
    CHECK(memcmp(before, now_shown, sizeof before) == 0);
  });
}

void FileSizeLimit() {
  const rlimit limit{4096, RLIM_INFINITY};
  CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
  ForkAndRun([] {
    rlimit now{};
    getrlimit(RLIMIT_FSIZE, &now);
    CHECK(now.rlim_cur == 4096);
  });
}

void FloatingPoint() {
  unsigned control = 0;
  __asm__("stmxcsr %0" : "=m"(control));
  control |= 0x6000;  // round towards zero
  __asm__("ldmxcsr %0" : : "m"(control));
  ForkAndRun([=] {
    unsigned now = 0;
    __asm__("stmxcsr %0" : "=m"(now));
    CHECK((now & 0x6000) == 0x6000);
    volatile long double third = 1.0L;
    third = third / 3.0L;
    CHECK(third > 0.333L && third < 0.334L);
  });
}

const std::map<std::string, void (*)()> kCases = {
    {"thread_locals", ThreadLocals},
    {"large_heap", LargeHeap},
    {"sparse_heap", SparseHeap},
    {"exceptions", Exceptions},
    {"threads_in_parent", ThreadsInParent},
    {"threads_in_child", ThreadsInChild},
    {"fork_from_thread", ForkFromThread},
    {"fork_from_small_thread", ForkFromSmallThread},
    {"handlers", Handlers},
    {"signal_stack", SignalStack},
    {"fork_in_handler_on_stack", ForkInHandlerOnStack},
    {"break", Break},
    {"mappings", Mappings},
    {"code", Code},
    {"stdio", Stdio},
    {"deep_stack", DeepStack},
    {"nested", Nested},
    {"crash", Crash},
    {"abort", Abort},
    {"descriptors", Descriptors},
    {"settings", Settings},
    {"file_size_limit", FileSizeLimit},
    {"floating_point", FloatingPoint},
};

}  // namespace

int main(int argc, char** argv) {
  const auto found = kCases.find(argc > 1 ? argv[1] : "");
  if (found == kCases.end()) {
    for (const auto& [name, run] : kCases) puts(name.c_str());
    return 2;
  }
  const rlimit no_core{0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  home_namespace = PidNamespace();
  found->second();
  return 0;
}
