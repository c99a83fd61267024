#include "shim/broker/private_redis.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>
#include <vector>

namespace elsewhere::broker {
namespace {

constexpr int kCannotExecute = 127;

// The server tells systemd's way, by a datagram, that it accepts connections.
Result<int> OpenNotifySocket(const std::string& path) {
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  if (path.size() >= sizeof name.sun_path)
    return Error{ENAMETOOLONG, "session directory has too long a path: '" + path + "'"};
  std::memcpy(name.sun_path, path.c_str(), path.size() + 1);
  const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0 || bind(fd, reinterpret_cast<const sockaddr*>(&name), sizeof name) < 0) {
    const int error = errno;
    if (fd >= 0) close(fd);
    return Error{error, "cannot make '" + path + "': " + strerror(error)};
  }
  return fd;
}

std::string FindProgram(const std::string& program) {
  if (program.find('/') != std::string::npos) return program;
  const char* const path = getenv("PATH");
  std::string rest = path == nullptr ? "" : path;
  rest += ":/usr/bin:/bin:/usr/sbin:/sbin";
  for (size_t at = 0; at < rest.size();) {
    size_t end = std::min(rest.find(':', at), rest.size());
    std::string candidate = rest.substr(at, end - at) + "/" + program;
    if (end > at && access(candidate.c_str(), X_OK) == 0) return candidate;
    at = end + 1;
  }
  return "";
}

// Between fork and exec: async-signal-safe calls only.
[[noreturn]] void BecomeServer(const char* program, char* const* arguments, char* const* environment,
                               pid_t parent) {
  setsid();
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(kCannotExecute);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  for (const int number : {SIGINT, SIGTERM, SIGQUIT, SIGPIPE, SIGHUP, SIGCHLD}) signal(number, SIG_DFL);
  const int null = open("/dev/null", O_RDWR);
  for (int fd = 0; fd <= 2; ++fd) dup2(null, fd);
  close_range(3, ~0U, 0);
  execve(program, arguments, environment);
  _exit(kCannotExecute);
}

std::vector<char*> Pointers(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  pointers.reserve(texts.size() + 1);
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

}  // namespace

Result<std::unique_ptr<PrivateRedis>> PrivateRedis::Start(const Options& options) {
  auto redis = Begin(options);
  if (!redis) return redis;
  if (Status ready = (*redis)->AwaitReady(); !ready) return ready.error();
  return redis;
}

Result<std::unique_ptr<PrivateRedis>> PrivateRedis::Begin(const Options& options) {
  std::unique_ptr<PrivateRedis> redis(new PrivateRedis);
  redis->url_.kind = RedisUrl::Kind::kUnix;
  redis->url_.path = options.directory + "/redis.sock";
  redis->log_path_ = options.directory + "/redis.log";
  redis->start_limit_ = options.start_limit;
  // The server would make it as its mask says.
  const int log = open(redis->log_path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  if (log >= 0) close(log);
  const std::string notify_path = options.directory + "/redis.ready";
  auto notify = OpenNotifySocket(notify_path);
  if (!notify) return notify.error();
  redis->notify_path_ = notify_path;
  redis->notify_socket_ = *notify;
  if (Status started = redis->Spawn(options); !started) return started.error();
  return redis;
}

Status PrivateRedis::Spawn(const Options& options) {
  std::string program = FindProgram(options.program);
  if (program.empty())
    return Error{ENOENT, "'" + options.program +
                             "' is not installed (Debian: redis-server); or name a Redis by --redis"};
  std::vector<std::string> arguments{program,
                                     "--port",
                                     "0",
                                     "--unixsocket",
                                     url_.path,
                                     "--unixsocketperm",
                                     "700",
                                     "--save",
                                     "",
                                     "--appendonly",
                                     "no",
                                     "--daemonize",
                                     "no",
                                     "--supervised",
                                     "systemd",
                                     "--dir",
                                     options.directory,
                                     "--logfile",
                                     log_path_,
                                     "--loglevel",
                                     "warning",
                                     "--maxmemory",
                                     std::to_string(options.memory_bytes),
                                     "--maxmemory-policy",
                                     "noeviction",
                                     "--databases",
                                     "1",
                                     "--maxclients",
                                     "10000",
                                     "--tcp-backlog",
                                     "128",
                                     "--always-show-logo",
                                     "no"};
  std::vector<std::string> environment{"NOTIFY_SOCKET=" + notify_path_, "PATH=/usr/bin:/bin", "LC_ALL=C"};
  environment.insert(environment.end(), options.environment.begin(), options.environment.end());
  const std::vector<char*> argument_pointers = Pointers(arguments);
  const std::vector<char*> environment_pointers = Pointers(environment);
  const pid_t parent = getpid();
  pid_ = fork();
  if (pid_ == 0) BecomeServer(program.c_str(), argument_pointers.data(), environment_pointers.data(), parent);
  if (pid_ < 0) return Error{errno, std::string("cannot start redis-server: ") + strerror(errno)};
  pidfd_ = static_cast<int>(syscall(SYS_pidfd_open, pid_, 0));
  if (pidfd_ < 0) return Error{errno, std::string("pidfd_open: ") + strerror(errno)};
  return Ok{};
}

Status PrivateRedis::AwaitReady() {
  const auto until = std::chrono::steady_clock::now() + start_limit_;
  for (;;) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(until - std::chrono::steady_clock::now()).count();
    std::array<pollfd, 2> entries{pollfd{notify_socket_, POLLIN, 0}, pollfd{pidfd_, POLLIN, 0}};
    const int ready =
        poll(entries.data(), entries.size(), static_cast<int>(std::max<decltype(left)>(left, 0)));
    if (ready < 0 && errno == EINTR) continue;
    if (ready == 0) return Error{ETIMEDOUT, "redis-server did not start in time: " + LastLogLine()};
    if (entries[1].revents != 0) return Error{ECHILD, "redis-server ended at its start: " + LastLogLine()};
    char text[512];
    const ssize_t got = recv(notify_socket_, text, sizeof text, 0);
    if (got <= 0 ||
        std::string_view(text, static_cast<size_t>(got)).find("READY=1") == std::string_view::npos)
      continue;
    CloseNotifySocket();
    return Ok{};
  }
}

void PrivateRedis::CloseNotifySocket() {
  if (notify_socket_ < 0) return;
  close(notify_socket_);
  notify_socket_ = -1;
  unlink(notify_path_.c_str());
}

std::string PrivateRedis::LastLogLine() const {
  std::ifstream log(log_path_);
  std::string line, last = "it wrote no log";
  while (std::getline(log, line)) {
    if (!line.empty()) last = line;
  }
  return last;
}

PrivateRedis::~PrivateRedis() {
  CloseNotifySocket();
  if (pidfd_ >= 0) {
    // Nothing to save; SIGTERM would be noticed up to 100 ms later.
    syscall(SYS_pidfd_send_signal, pidfd_, SIGKILL, nullptr, 0);
    close(pidfd_);
  }
  if (pid_ > 0) {
    int status = 0;
    while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
  }
  unlink(url_.path.c_str());
  unlink(log_path_.c_str());
}

}  // namespace elsewhere::broker
