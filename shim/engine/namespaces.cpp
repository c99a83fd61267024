// How a process gets into its namespaces without privilege:
//   1. Parent: clone3 with the namespace flags. The child, in the new user namespace, has every capability
//   there and
//      none outside; it waits for one byte.
//   2. Parent: writes the child's id maps. An ordinary user may map only itself, and must give up setgroups
//   before it
//      maps its group; root maps every id that its own namespace knows to itself, so that files of other
//      users keep their owners.
//   3. Child: makes mounts private, mounts its own /proc, executes the worker. An exec by an ordinary user
//   drops all
//      capabilities, so nothing that the worker starts has more than at home.
// Between clone and exec the child makes system calls only: the parent may be a process with locked
// allocators. A failed step is reported through a close-on-exec pipe as {step, errno}; end of file means that
// exec happened.
#include "shim/engine/namespaces.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <span>
#include <sstream>

namespace elsewhere::engine {
namespace {

constexpr uint64_t kNamespaces = CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS;

enum class Step : int { kSession, kMounts, kProc, kStandard, kExec };

const char* Describe(Step step) {
  switch (step) {
    case Step::kSession:
      return "set up the worker's session";
    case Step::kMounts:
      return "make mounts private in a new mount namespace";
    case Step::kProc:
      return "mount /proc in a new pid namespace";
    case Step::kStandard:
      return "open /dev/null";
    case Step::kExec:
      return "execute the worker";
  }
  return "start the worker";
}

struct Failure {
  Step step;
  int code;
};

Error SystemError(const std::string& what, int code = errno) {
  return {code, "cannot " + what + ": " + std::strerror(code)};
}

struct Pipe {
  int read = -1;
  int write = -1;
  Pipe() = default;
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  ~Pipe() {
    CloseRead();
    CloseWrite();
  }
  bool Open() {
    std::array<int, 2> ends;
    if (pipe2(ends.data(), O_CLOEXEC) != 0) return false;
    read = ends[0];
    write = ends[1];
    return true;
  }
  void CloseRead() { Close(read); }
  void CloseWrite() { Close(write); }

 private:
  static void Close(int& descriptor) {
    if (descriptor >= 0) close(descriptor);
    descriptor = -1;
  }
};

// Everything the child needs, made before the clone.
struct ChildPlan {
  char** arguments;
  char** environment;
  std::span<const int> descriptors;
  int go;        // one byte: the id maps are written; end of file: the parent is gone
  int go_write;  // the child's copy of the other end, to be closed
  int report;    // where a Failure goes
  bool isolated;
  std::string most_pids;  // the limit of this process's namespace
};

[[noreturn]] void ReportAndExit(const ChildPlan& plan, Step step) {
  Failure failure{step, errno};
  ssize_t written = write(plan.report, &failure, sizeof failure);
  _exit(written == sizeof failure ? 126 : 127);
}

void PrepareStandardDescriptors(const ChildPlan& plan) {
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0) ReportAndExit(plan, Step::kStandard);
  syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC);
  for (int descriptor : plan.descriptors) fcntl(descriptor, F_SETFD, 0);
}

void ResetSignals() {
  struct sigaction standard = {};
  standard.sa_handler = SIG_DFL;
  for (int signal = 1; signal < NSIG; ++signal) sigaction(signal, &standard, nullptr);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

// A program's pids are home's, so their limit is, too (and the width of a column of ps). New kernels have one
// for each namespace; where this one cannot be set it is larger.
void LimitPids(const ChildPlan& plan) {
  const int limit = open("/proc/sys/kernel/pid_max", O_WRONLY | O_CLOEXEC);
  if (limit < 0) return;
  [[maybe_unused]] const ssize_t written = write(limit, plan.most_pids.data(), plan.most_pids.size());
  close(limit);
}

[[noreturn]] void RunChild(const ChildPlan& plan) {
  ResetSignals();
  // Set before the byte is awaited: a parent that dies earlier closes the pipe, one that dies later sends the
  // signal.
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) ReportAndExit(plan, Step::kSession);
  close(plan.go_write);
  char go;
  if (read(plan.go, &go, 1) != 1) _exit(127);
  setsid();
  if (plan.isolated) {
    if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) ReportAndExit(plan, Step::kMounts);
    if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) != 0)
      ReportAndExit(plan, Step::kProc);
    LimitPids(plan);
  } else if (prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) {
    ReportAndExit(plan, Step::kSession);
  }
  PrepareStandardDescriptors(plan);
  execve(plan.arguments[0], plan.arguments, plan.environment);
  ReportAndExit(plan, Step::kExec);
}

Status WriteFile(const std::string& path, const std::string& content) {
  int file = open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (file < 0) return SystemError("open " + path);
  ssize_t written = write(file, content.data(), content.size());
  int code = errno;
  close(file);
  if (written != static_cast<ssize_t>(content.size())) return SystemError("write " + path, code);
  return Ok{};
}

// Every id that this process's own namespace knows, mapped to itself.
std::string IdentityOfOwnMap(const char* own_map) {
  std::ifstream map(own_map);
  std::ostringstream identity;
  unsigned long first = 0;
  unsigned long outside = 0;
  unsigned long count = 0;
  while (map >> first >> outside >> count) identity << first << ' ' << first << ' ' << count << '\n';
  return identity.str();
}

std::string FirstLine(const char* path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

Status WriteIdMaps(pid_t child) {
  const std::string directory = "/proc/" + std::to_string(child);
  if (geteuid() == 0 && WriteFile(directory + "/uid_map", IdentityOfOwnMap("/proc/self/uid_map")).ok() &&
      WriteFile(directory + "/gid_map", IdentityOfOwnMap("/proc/self/gid_map")).ok())
    return Ok{};
  const std::string user = std::to_string(geteuid());
  const std::string group = std::to_string(getegid());
  if (Status done = WriteFile(directory + "/uid_map", user + " " + user + " 1\n"); !done.ok()) return done;
  if (Status done = WriteFile(directory + "/setgroups", "deny"); !done.ok()) return done;
  return WriteFile(directory + "/gid_map", group + " " + group + " 1\n");
}

std::vector<char*> Pointers(const std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  pointers.reserve(strings.size() + 1);
  for (const std::string& string : strings) pointers.push_back(const_cast<char*>(string.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

Error Abandon(const StartedProcess& process, Error error) {
  kill(process.pid, SIGKILL);
  waitpid(process.pid, nullptr, 0);
  close(process.pidfd);
  return error;
}

Result<StartedProcess> Clone(const ChildPlan& plan) {
  StartedProcess process;
  clone_args arguments = {};
  arguments.flags = CLONE_PIDFD | (plan.isolated ? kNamespaces : 0);
  arguments.pidfd = reinterpret_cast<uint64_t>(&process.pidfd);
  arguments.exit_signal = SIGCHLD;
  long pid = syscall(SYS_clone3, &arguments, sizeof arguments);
  if (pid == 0) RunChild(plan);
  if (pid < 0)
    return SystemError(plan.isolated ? "make user, pid, IPC, UTS and mount namespaces" : "start a process");
  process.pid = static_cast<pid_t>(pid);
  return process;
}

}  // namespace

Result<StartedProcess> StartProcess(const WorkerCommand& command, bool isolated) {
  Pipe go;
  Pipe report;
  if (!go.Open() || !report.Open()) return SystemError("make a pipe");
  std::vector<char*> arguments = Pointers(command.arguments);
  std::vector<char*> environment = Pointers(command.environment);
  ChildPlan plan{arguments.data(),
                 environment.data(),
                 command.descriptors,
                 go.read,
                 go.write,
                 report.write,
                 isolated,
                 FirstLine("/proc/sys/kernel/pid_max")};
  Result<StartedProcess> process = Clone(plan);
  if (!process.ok()) return process;
  report.CloseWrite();
  if (isolated) {
    if (Status mapped = WriteIdMaps(process->pid); !mapped.ok()) return Abandon(*process, mapped.error());
  }
  if (write(go.write, "g", 1) != 1) return Abandon(*process, SystemError("start the worker"));
  Failure failure;
  ssize_t size = 0;
  do {
    size = read(report.read, &failure, sizeof failure);
  } while (size < 0 && errno == EINTR);
  if (size == sizeof failure) return Abandon(*process, SystemError(Describe(failure.step), failure.code));
  return process;
}

}  // namespace elsewhere::engine
