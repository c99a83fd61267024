#include "runtime/launch/spawn.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>

namespace elsewhere::runtime {
namespace {

std::vector<char*> Pointers(const std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  pointers.reserve(strings.size() + 1);
  for (const std::string& string : strings) pointers.push_back(const_cast<char*>(string.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

void KeepOpen(int descriptor) {
  fcntl(descriptor, F_SETFD, 0);
}

[[noreturn]] void BecomeAgent(const AgentStart& start, char** arguments, char** environment) {
  setsid();
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  for (int number : {SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGPIPE, SIGCHLD}) signal(number, SIG_DFL);
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  dup2(null, 0);
  dup2(null, 1);
  if (!start.keep_standard_error) dup2(null, 2);
  close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
  for (int descriptor : start.descriptors) KeepOpen(descriptor);
  execve(start.runtime.c_str(), arguments, environment);
  _exit(kExitNotExecutable);
}

[[noreturn]] void BecomeCommand(const CommandStart& start, char** arguments, char** shell_arguments,
                                char** environment, int report) {
  sigaction(SIGCHLD, &start.inherited.child, nullptr);
  sigprocmask(SIG_SETMASK, &start.inherited.signals, nullptr);
  umask(start.inherited.file_mask);
  KeepOpen(start.lifeline);
  execve(start.path.c_str(), arguments, environment);
  if (errno == ENOEXEC) execve(shell_arguments[0], shell_arguments, environment);
  int code = errno;
  ssize_t written = write(report, &code, sizeof code);
  _exit(written == sizeof code ? kExitNotExecutable : kExitFailure);
}

SpawnedCommand Fail(int status, std::string message) {
  SpawnedCommand failed;
  failed.ok = false;
  failed.error = {status, std::move(message)};
  return failed;
}

}  // namespace

Result<pid_t> SpawnAgent(const AgentStart& start) {
  std::vector<std::string> words{"elsewhere-runtime", "agent"};
  words.insert(words.end(), start.arguments.begin(), start.arguments.end());
  std::vector<char*> arguments = Pointers(words);
  std::vector<char*> environment = Pointers(start.environment);
  pid_t pid = fork();
  if (pid == 0) BecomeAgent(start, arguments.data(), environment.data());
  if (pid < 0) return Error{errno, std::string("cannot start the agent: ") + std::strerror(errno)};
  return pid;
}

SpawnedCommand SpawnCommand(const CommandStart& start) {
  int report[2];
  if (pipe2(report, O_CLOEXEC) != 0)
    return Fail(kExitFailure, std::string("cannot make a pipe: ") + std::strerror(errno));
  std::vector<char*> arguments = Pointers(start.arguments);
  std::vector<std::string> shell_words{"/bin/sh", start.path};
  shell_words.insert(shell_words.end(), start.arguments.begin() + 1, start.arguments.end());
  std::vector<char*> shell_arguments = Pointers(shell_words);
  std::vector<char*> environment = Pointers(start.environment);
  SpawnedCommand spawned;
  spawned.pid = fork();
  if (spawned.pid == 0)
    BecomeCommand(start, arguments.data(), shell_arguments.data(), environment.data(), report[1]);
  int fork_error = errno;
  close(report[1]);
  int code = 0;
  ssize_t size = 0;
  do {
    size = spawned.pid < 0 ? 0 : read(report[0], &code, sizeof code);
  } while (size < 0 && errno == EINTR);
  close(report[0]);
  if (spawned.pid < 0)
    return Fail(kExitFailure, std::string("cannot start a process: ") + std::strerror(fork_error));
  if (size != sizeof code) return spawned;
  waitpid(spawned.pid, nullptr, 0);
  return Fail(code == ENOENT ? kExitNotFound : kExitNotExecutable,
              "'" + start.path + "' cannot be executed: " + std::strerror(code));
}

std::vector<std::string> MakeEnvironment(char** base, const std::map<std::string, std::string>& changes) {
  std::vector<std::string> environment;
  for (char** entry = base; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    if (changes.count(text.substr(0, text.find('='))) == 0) environment.push_back(text);
  }
  for (const auto& [name, value] : changes)
    if (!value.empty()) environment.push_back(name + "=" + value);
  return environment;
}

}  // namespace elsewhere::runtime
