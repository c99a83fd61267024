// image_host [--flags N] [--report] [--expect N] RESTORER SHIM -- COMMAND...: runs COMMAND with every fork()
// restored in a worker: a user and pid namespace of its own whose init feeds elsewhere-restorer. Exit status
// is COMMAND's, or 99 if a child did not run in the worker (or not N of them did), 77 where
// there can be no such worker.

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <map>
#include <string>

#include "shim/wire/image_view.h"
#include "shim/wire/restore_request.h"
#include "tests/unit/image/arena_file.h"
#include "tests/unit/image/harness.h"

namespace elsewhere::harness {
namespace {

constexpr uint64_t kArenaSize = 4ULL << 30;
constexpr int kSkipped = 77;

[[noreturn]] void Die(const char* what) {
  perror(what);
  _exit(98);
}

uint64_t Now() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000000000U + static_cast<uint64_t>(now.tv_nsec);
}

struct JobMessage {
  uint64_t id;
  uint64_t size;
};

struct StartedMessage {
  uint64_t id;
  int32_t status;  // -2: entered; -1: failed; otherwise the end
  uint64_t restore_nanoseconds;
  char problem[128];
};

// ---- Worker

class Worker {
 public:
  Worker(int home, const char* restorer, int arena, uint32_t flags)
      : home_(home), arena_(arena), flags_(flags) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) != 0) Die("socketpair");
    if (fork() == 0) {
      dup2(pair[1], 3);
      execl(restorer, "elsewhere-restorer", nullptr);
      Die(restorer);
    }
    close(pair[1]);
    zygote_ = pair[0];
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, nullptr);
    children_ = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  }

  [[noreturn]] void Run() {
    for (;;) {
      pollfd polled[] = {{home_, POLLIN, 0}, {zygote_, POLLIN, 0}, {children_, POLLIN, 0}};
      poll(polled, 3, -1);
      if (polled[1].revents != 0) TakeReport();
      if (polled[2].revents != 0) Reap();
      if (polled[0].revents != 0) TakeJob();
    }
  }

 private:
  void TakeJob() {
    JobMessage job;
    std::vector<int> descriptors;
    if (Receive(home_, &job, sizeof(job), &descriptors) != sizeof(job)) _exit(0);
    void* bytes = mmap(nullptr, job.size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptors[0], 0);
    image::View view;
    if (const char* wrong = image::View::Open(bytes, job.size, &view)) {
      Answer(job.id, -1, wrong);
    } else {
      const uint64_t now = Now();
      started_[job.id] = now;
      Patch(image::Editor(view));
      descriptors.insert(descriptors.begin() + 1, arena_);
      restore::RestoreRequest request{};
      request.magic = restore::kRequestMagic;
      request.flags = flags_;
      request.id = job.id;
      request.manifest_size = job.size;
      request.descriptor_count = static_cast<uint32_t>(descriptors.size());
      request.table_source = restore::kNone;
      request.note_size = 6;
      memcpy(request.note, "hello", 6);
      if (!Send(zygote_, &request, sizeof(request), descriptors)) Die("send to the zygote");
      descriptors.erase(descriptors.begin() + 1);
    }
    munmap(bytes, job.size);
    for (const int descriptor : descriptors) close(descriptor);
  }

  // The arena is descriptor 1 of the request, the process's own descriptors follow.
  static void Patch(const image::Editor& editor) {
    for (image::Chunk& chunk : editor.chunks()) chunk.source = 1;
    for (image::Descriptor& descriptor : editor.descriptors()) descriptor.source = 2 + descriptor.attached;
  }

  void TakeReport() {
    restore::RestoreReport report;
    const ssize_t got = Receive(zygote_, &report, sizeof(report), nullptr);
    if (got != sizeof(report)) Die("the zygote is gone");
    const auto event = static_cast<restore::Event>(report.event);
    if (event == restore::Event::kForked) {
      running_[report.value] = report.id;
    } else if (event == restore::Event::kEntered) {
      Answer(report.id, -2, "");
    } else {
      char text[128];
      snprintf(text, sizeof(text), "%.60s: %.40s at %#lx", report.text, strerror(report.value),
               report.address);
      Answer(report.id, -1, text);
      failed_[report.id] = true;
    }
  }

  void Answer(uint64_t id, int status, const char* problem) {
    StartedMessage message{};
    message.id = id;
    message.status = status;
    message.restore_nanoseconds = Now() - started_[id];
    snprintf(message.problem, sizeof(message.problem), "%s", problem);
    if (!Send(home_, &message, sizeof(message), {})) Die("send home");
  }

  void Reap() {
    signalfd_siginfo info;
    while (read(children_, &info, sizeof(info)) > 0) {
    }
    // Reports of children that have just ended are in the socket already.
    pollfd polled{zygote_, POLLIN, 0};
    while (poll(&polled, 1, 0) > 0) TakeReport();
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
      while (poll(&polled, 1, 0) > 0) TakeReport();
      const auto found = running_.find(pid);
      if (found == running_.end()) continue;
      if (!failed_[found->second]) Answer(found->second, status, "");
      running_.erase(found);
    }
  }

  int home_;
  int arena_;
  uint32_t flags_;
  int zygote_ = -1;
  int children_ = -1;
  std::map<pid_t, uint64_t> running_;
  std::map<uint64_t, uint64_t> started_;
  std::map<uint64_t, bool> failed_;
};

void WriteFile(const char* path, const std::string& text) {
  const int file = open(path, O_WRONLY);
  if (file < 0 || write(file, text.data(), text.size()) != static_cast<ssize_t>(text.size())) Die(path);
  close(file);
}

// A worker in its own namespaces, with the same user.
[[noreturn]] void RunWorker(int home, const char* restorer, int arena, uint32_t flags) {
  const uid_t user = getuid();
  const gid_t group = getgid();
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (unshare(CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC) != 0) Die("unshare");
  WriteFile("/proc/self/setgroups", "deny");
  WriteFile("/proc/self/uid_map", std::to_string(user) + " " + std::to_string(user) + " 1");
  WriteFile("/proc/self/gid_map", std::to_string(group) + " " + std::to_string(group) + " 1");
  const pid_t init = fork();
  if (init == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (mount("proc", "/proc", "proc", 0, nullptr) != 0) Die("mount /proc");
    Worker(home, restorer, arena, flags).Run();
  }
  close(home);
  waitpid(init, nullptr, 0);
  _exit(0);
}

// ---- Home

struct Options {
  uint32_t flags = 0;
  bool report = false;
  int expect = -1;
  const char* restorer = nullptr;
  const char* shim = nullptr;
  char** command = nullptr;
};

class Home {
 public:
  Home(const Options& options, int worker, int listener, int commands)
      : options_(options), worker_(worker), listener_(listener), commands_(commands) {}

  int Run(pid_t command) {
    for (;;) {
      std::vector<pollfd> polled = {{worker_, POLLIN, 0}, {listener_, POLLIN, 0}, {commands_, POLLIN, 0}};
      for (const int deputy : silent_) polled.push_back({deputy, POLLIN, 0});
      poll(polled.data(), polled.size(), -1);
      for (size_t i = 3; i < polled.size(); ++i) {
        if (polled[i].revents != 0) TakeCapture(polled[i].fd);
      }
      if (polled[0].revents != 0) TakeAnswer();
      if (polled[1].revents != 0) silent_.push_back(accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC));
      if (polled[2].revents != 0) {
        int status;
        if (waitpid(command, &status, WNOHANG) == command) return Finish(status);
      }
    }
  }

 private:
  void TakeCapture(int deputy) {
    silent_.erase(std::find(silent_.begin(), silent_.end(), deputy));
    CaptureMessage capture;
    std::vector<int> descriptors;
    if (Receive(deputy, &capture, sizeof(capture), &descriptors) != sizeof(capture)) {
      close(deputy);
      return;
    }
    ++forks_;
    captures_.push_back(capture.capture_nanoseconds);
    const uint64_t id = next_id_++;
    deputies_[id] = deputy;
    forked_[id] = capture.fork_nanoseconds;
    if (capture.problem[0] != '\0') {
      End(id, -1, capture.problem);
      return;
    }
    const JobMessage job{id, capture.size};
    if (!Send(worker_, &job, sizeof(job), descriptors)) Die("send to the worker");
    for (const int descriptor : descriptors) close(descriptor);
  }

  void End(uint64_t id, int status, const char* problem) {
    if (status == -1) {
      fprintf(stderr, "image_host: ran locally: %s\n", problem);
      ++local_;
    }
    EndMessage end{};
    end.id = id;
    end.status = status;
    Send(deputies_[id], &end, sizeof(end), {});
    close(deputies_[id]);
    deputies_.erase(id);
  }

  void TakeAnswer() {
    StartedMessage answer;
    if (Receive(worker_, &answer, sizeof(answer), nullptr) != sizeof(answer)) Die("the worker is gone");
    if (answer.status != -2) {
      End(answer.id, answer.status, answer.problem);
      return;
    }
    ++entered_;
    restores_.push_back(answer.restore_nanoseconds);
    wholes_.push_back(Now() - forked_[answer.id]);
  }

  // The first, the least, and the median of the others.
  static void PrintTimes(const char* name, const std::vector<uint64_t>& times, const char* end) {
    if (times.empty()) {
      fprintf(stderr, "\"%s\": null%s", name, end);
      return;
    }
    std::vector<uint64_t> others(times.begin() + (times.size() > 1 ? 1 : 0), times.end());
    std::sort(others.begin(), others.end());
    fprintf(stderr, "\"%s\": {\"first\": %.3f, \"least\": %.3f, \"median\": %.3f}%s", name,
            static_cast<double>(times[0]) / 1e6, static_cast<double>(others[0]) / 1e6,
            static_cast<double>(others[others.size() / 2]) / 1e6, end);
  }

  int Finish(int status) {
    if (options_.report) {
      fprintf(stderr, "{\"forks\": %lu, \"remote\": %lu, ", forks_, entered_);
      PrintTimes("capture_ms", captures_, ", ");
      PrintTimes("restore_ms", restores_, ", ");
      PrintTimes("fork_to_running_ms", wholes_, "}\n");
    }
    const bool missing = options_.expect >= 0 && entered_ != static_cast<uint64_t>(options_.expect);
    if (local_ != 0 || missing) {
      fprintf(stderr, "image_host: %lu of %lu forks ran in the worker\n", entered_, forks_);
      return 99;
    }
    if (WIFSIGNALED(status)) fprintf(stderr, "image_host: the command got signal %d\n", WTERMSIG(status));
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

  Options options_;
  int worker_;
  int listener_;
  int commands_;
  std::vector<int> silent_;
  std::map<uint64_t, int> deputies_;
  std::map<uint64_t, uint64_t> forked_;
  uint64_t next_id_ = 1;
  uint64_t forks_ = 0, entered_ = 0, local_ = 0;
  std::vector<uint64_t> captures_, restores_, wholes_;
};

// Inherited by the tested program, high enough not to be in its way.
int MakeArena() {
  const int arena = MakeArenaFile(kArenaSize);
  const int high = fcntl(arena, F_DUPFD, 900);
  if (high < 0) Die("arena");
  close(arena);
  return high;
}

int Listen(const std::string& path) {
  const int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  if (bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0 ||
      listen(listener, 4096) != 0) {
    Die(path.c_str());
  }
  return listener;
}

pid_t StartCommand(const Options& options, const std::string& path, int arena) {
  const pid_t command = fork();
  if (command != 0) return command;
  setenv(kSocketVariable, path.c_str(), 1);
  setenv(kArenaVariable, std::to_string(arena).c_str(), 1);
  setenv("LD_PRELOAD", options.shim, 1);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  execvp(options.command[0], options.command);
  Die(options.command[0]);
}

// Whether this host lets us make a worker's namespaces at all.
bool NamespacesWork() {
  const pid_t probe = fork();
  if (probe == 0) _exit(unshare(CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC) == 0 ? 0 : 1);
  int status = 0;
  return waitpid(probe, &status, 0) == probe && status == 0;
}

int Run(const Options& options) {
  if (!NamespacesWork()) {
    fprintf(stderr, "image_host: user namespaces are forbidden here\n");
    return kSkipped;
  }
  char directory[] = "/tmp/image-test-XXXXXX";
  if (mkdtemp(directory) == nullptr) Die("mkdtemp");
  const std::string path = std::string(directory) + "/socket";
  const int arena = MakeArena();
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) Die("socketpair");
  const pid_t worker = fork();
  if (worker == 0) {
    close(pair[0]);
    RunWorker(pair[1], options.restorer, arena, options.flags);
  }
  close(pair[1]);
  const int listener = Listen(path);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  const int commands = signalfd(-1, &set, SFD_CLOEXEC);
  const pid_t command = StartCommand(options, path, arena);
  const int result = Home(options, pair[0], listener, commands).Run(command);
  unlink(path.c_str());
  rmdir(directory);
  kill(worker, SIGKILL);
  waitpid(worker, nullptr, 0);
  return result;
}

}  // namespace
}  // namespace elsewhere::harness

int main(int argc, char** argv) {
  elsewhere::harness::Options options;
  int at = 1;
  for (; at < argc && argv[at][0] == '-'; ++at) {
    const std::string name = argv[at];
    if (name == "--report") {
      options.report = true;
    } else if (name == "--flags" && at + 1 < argc) {
      options.flags = static_cast<uint32_t>(atoi(argv[++at]));
    } else if (name == "--expect" && at + 1 < argc) {
      options.expect = atoi(argv[++at]);
    }
  }
  if (argc - at < 4) return 2;
  options.restorer = argv[at];
  options.shim = argv[at + 1];
  options.command = argv + at + 3;
  return elsewhere::harness::Run(options);
}
