#include "runtime/launch/launched_session.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "runtime/file/maps.h"
#include "shim/wire/abi.h"

namespace elsewhere::runtime {
namespace {

constexpr int kListenBacklog = 4096;
constexpr int kOwnDescriptorsNearLimit = 16;
constexpr std::chrono::milliseconds kKillMayTake{5000};

Error SystemError(const std::string& what, int code = errno) {
  return {code, "cannot " + what + ": " + std::strerror(code)};
}

// What is handed over to the two processes and then closed here.
struct Descriptors {
  int listener = -1;
  int agent_control = -1;
  int lifeline_write = -1;
  Descriptors() = default;
  Descriptors(const Descriptors&) = delete;
  Descriptors& operator=(const Descriptors&) = delete;
  ~Descriptors() {
    for (int descriptor : {listener, agent_control, lifeline_write})
      if (descriptor >= 0) close(descriptor);
  }
};

// Listening before the agent runs: who connects early waits in the queue instead of failing.
Result<int> Listen(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return Error{ENAMETOOLONG, "the path " + path + " is too long for a socket"};
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (listener < 0) return SystemError("make a socket");
  if (bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      (geteuid() == 0 && chmod(path.c_str(), 0666) != 0) || listen(listener, kListenBacklog) != 0) {
    Error error = SystemError("listen on " + path);
    close(listener);
    return error;
  }
  return listener;
}

// Out of the way of the program's own numbers: at kFirstOwnDescriptor or, below a low limit, near its end.
int OwnDescriptorNumber() {
  rlimit limit = {};
  getrlimit(RLIMIT_NOFILE, &limit);
  rlim_t near_limit =
      limit.rlim_cur > kOwnDescriptorsNearLimit ? limit.rlim_cur - kOwnDescriptorsNearLimit : 3;
  return static_cast<int>(std::min<rlim_t>(abi::kFirstOwnDescriptor, near_limit));
}

Status OpenLifeline(LaunchedSession& session, Descriptors& descriptors) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return SystemError("make a pipe");
  session.lifeline_read = ends[0];
  descriptors.lifeline_write = fcntl(ends[1], F_DUPFD_CLOEXEC, OwnDescriptorNumber());
  close(ends[1]);
  struct stat status;
  if (descriptors.lifeline_write < 0 || fstat(ends[0], &status) != 0) return SystemError("make the lifeline");
  session.mark.lifeline_number = descriptors.lifeline_write;
  session.mark.lifeline_inode = status.st_ino;
  return Ok{};
}

Status OpenControl(LaunchedSession& session, Descriptors& descriptors) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
    return SystemError("make a socket pair");
  session.control = ends[0];
  descriptors.agent_control = ends[1];
  return Ok{};
}

uint32_t NumberOfCores() {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  if (sched_getaffinity(0, sizeof cores, &cores) != 0) return 1;
  return std::clamp<uint32_t>(static_cast<uint32_t>(CPU_COUNT(&cores)), 1, kMostWorkers);
}

std::vector<std::string> AgentArguments(const Options& options, const LaunchedSession& session,
                                        const Descriptors& descriptors) {
  std::vector<std::string> arguments{
      "--session",   session.mark.id,
      "--directory", session.directory.layout().directory(),
      "--listen",    std::to_string(descriptors.listener),
      "--control",   std::to_string(descriptors.agent_control),
      "--lifeline",  std::to_string(session.lifeline_read),
      "--workers",   std::to_string(options.workers > 0 ? options.workers : NumberOfCores()),
      "--fork",      options.fork_remote ? "remote" : "local",
      "--messages",  options.direct_messages ? "direct" : "broker"};
  if (!options.store.empty()) arguments.insert(arguments.end(), {"--store", options.store});
  if (!options.maps.empty()) {
    arguments.insert(arguments.end(), {"--maps", options.maps, "--file-cache", DefaultFileCache(),
                                       "--cache-size", std::to_string(options.cache_bytes)});
    if (options.write_back) arguments.insert(arguments.end(), {"--write-back", "1"});
    if (!options.endpoint.empty()) arguments.insert(arguments.end(), {"--endpoint", options.endpoint});
  }
  if (options.colocate) arguments.push_back("--colocate");
  if (options.strict) arguments.push_back("--strict");
  if (options.stats != Stats::kNone) arguments.push_back("--count-objects");
  if (options.verbose) arguments.push_back("--verbose");
  return arguments;
}

Status StartAgent(LaunchedSession& session, const Options& options, const Installation& installation,
                  const Descriptors& descriptors) {
  AgentStart start;
  start.runtime = installation.runtime;
  start.arguments = AgentArguments(options, session, descriptors);
  start.descriptors = {descriptors.listener, descriptors.agent_control, session.lifeline_read};
  start.environment = MakeEnvironment(environ, {{abi::kEnvSession, session.mark.id},
                                                {kEnvRedis, options.redis},
                                                {abi::kEnvPreload, ""},
                                                {abi::kEnvAgent, ""}});
  start.keep_standard_error = options.verbose;
  Result<pid_t> pid = SpawnAgent(start);
  if (!pid.ok()) return pid.error();
  session.agent = *pid;
  session.agent_pidfd = static_cast<int>(syscall(SYS_pidfd_open, *pid, 0));
  if (session.agent_pidfd < 0) return SystemError("watch the agent");
  return Ok{};
}

// LD_PRELOAD separates by spaces and colons and knows no quoting.
Result<std::string> PreloadPath(const Installation& installation, const SessionLayout& layout) {
  if (installation.preload.find_first_of(" :") == std::string::npos) return installation.preload;
  const std::string link = layout.directory() + "/libelsewhere.so";
  if (symlink(installation.preload.c_str(), link.c_str()) != 0) return SystemError("make the link " + link);
  return link;
}

std::string DirectoriesOf(const Options& options) {
  auto rules = ParseMaps(options.maps);
  return rules.ok() ? MapDirectories(*rules) : "";
}

std::vector<std::string> CommandEnvironment(const LaunchedSession& session, const Options& options,
                                            const std::string& preload) {
  const char* others = std::getenv(abi::kEnvPreload);
  const bool has_others = others != nullptr && *others != '\0';
  return MakeEnvironment(environ, {{abi::kEnvPreload, has_others ? preload + ":" + others : preload},
                                   {abi::kEnvAgent, session.directory.layout().AgentSocket(0)},
                                   {abi::kEnvSession, session.mark.id},
                                   {abi::kEnvLifeline, std::to_string(session.mark.lifeline_number)},
                                   {abi::kEnvFork, options.fork_remote ? "remote" : "local"},
                                   {abi::kEnvHost, ""},
                                   {abi::kEnvMaps, DirectoriesOf(options)},
                                   // They may hold passwords, which never enter a user's process.
                                   {kEnvRedis, ""},
                                   {"ELSEWHERE_STORE", ""}});
}

LaunchError StartCommand(LaunchedSession& session, const Options& options, const Program& program,
                         const Installation& installation, const Inherited& inherited, int lifeline) {
  Result<std::string> preload = PreloadPath(installation, session.directory.layout());
  if (!preload.ok()) return {kExitFailure, preload.error().message};
  CommandStart start;
  start.path = program.path;
  start.arguments = options.command;
  start.environment = CommandEnvironment(session, options, *preload);
  start.lifeline = lifeline;
  start.inherited = inherited;
  SpawnedCommand spawned = SpawnCommand(start);
  if (!spawned.ok) return spawned.error;
  session.root = spawned.pid;
  return {0, ""};
}

Result<std::unique_ptr<LaunchedSession>> MakeSession() {
  std::vector<std::string> bases = SessionBases();
  Error last{ENOENT, "no directory for the session: make /dev/shm, $TMPDIR or /tmp writable"};
  const std::string id = MakeSessionId();
  for (const std::string& base : bases) {
    Result<SessionDirectory> directory = SessionDirectory::Make(base, id);
    if (directory.ok()) {
      auto session = std::make_unique<LaunchedSession>(std::move(directory).value());
      session->mark.id = id;
      return session;
    }
    last = directory.error();
  }
  return last;
}

// What was started of a session that cannot begin.
LaunchResult Undo(LaunchResult launched) {
  LaunchedSession& session = *launched.session;
  if (session.agent > 0) KillWithChildren(session.agent, kKillMayTake);
  session.directory.Remove();
  return {nullptr, std::move(launched.error)};
}

// Everything but COMMAND.
LaunchResult StartSession(const Options& options, const Installation& installation,
                          Descriptors& descriptors) {
  Result<std::unique_ptr<LaunchedSession>> made = MakeSession();
  if (!made.ok()) return {nullptr, {kExitFailure, made.error().message}};
  LaunchResult launched{std::move(*made), {0, ""}};
  LaunchedSession& session = *launched.session;
  Status done = OpenLifeline(session, descriptors);
  if (done.ok()) done = OpenControl(session, descriptors);
  if (done.ok()) {
    Result<int> listener = Listen(session.directory.layout().AgentSocket(0));
    if (listener.ok()) descriptors.listener = *listener;
    if (!listener.ok()) done = listener.error();
  }
  if (done.ok()) done = StartAgent(session, options, installation, descriptors);
  if (done.ok()) return launched;
  launched.error = {kExitFailure, done.error().message};
  return Undo(std::move(launched));
}

// "ID SOCKET" and the lifeline.
bool Reply(int socket, const LaunchedSession& session, int lifeline) {
  std::string text = session.mark.id + " " + session.directory.layout().AgentSocket(0);
  iovec part{text.data(), text.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof lifeline)] = {};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* rights = CMSG_FIRSTHDR(&message);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(sizeof lifeline);
  std::memcpy(CMSG_DATA(rights), &lifeline, sizeof lifeline);
  return sendmsg(socket, &message, MSG_NOSIGNAL) == static_cast<ssize_t>(text.size());
}

}  // namespace

LaunchedSession::~LaunchedSession() {
  for (int descriptor : {control, lifeline_read, agent_pidfd, root_pidfd})
    if (descriptor >= 0) close(descriptor);
}

LaunchResult LaunchSession(const Options& options, const Program& program, const Installation& installation,
                           const Inherited& inherited) {
  Descriptors descriptors;
  LaunchResult launched = StartSession(options, installation, descriptors);
  if (launched.session == nullptr) return launched;
  launched.error =
      StartCommand(*launched.session, options, program, installation, inherited, descriptors.lifeline_write);
  return launched.error.status == 0 ? std::move(launched) : Undo(std::move(launched));
}

LaunchResult AdoptSession(const Options& options, const Installation& installation, pid_t root,
                          int root_pidfd, int reply) {
  Descriptors descriptors;
  LaunchResult adopted = StartSession(options, installation, descriptors);
  if (adopted.session == nullptr) return adopted;
  adopted.session->root = root;
  adopted.session->root_pidfd = root_pidfd;
  adopted.session->mark.lifeline_number = -1;
  if (!Reply(reply, *adopted.session, descriptors.lifeline_write)) {
    adopted.error = {kExitFailure, "the program ended before its session began"};
    return Undo(std::move(adopted));
  }
  return adopted;
}

}  // namespace elsewhere::runtime
