#include "runtime/launch/supervisor.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstring>
#include <vector>

#include "runtime/launch/keeper.h"
#include "runtime/launch/preflight.h"
#include "runtime/launch/session_directory.h"
#include "runtime/launch/summary.h"
#include "runtime/launch/witness.h"
#include "runtime/session.h"

namespace elsewhere::runtime {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kAgentMayTake{5000};                           // to end everything when asked to
constexpr milliseconds kPutOffMayTake{std::chrono::hours(24 * 365)};  // as long as the agent lives
constexpr milliseconds kReportMayTake{5000};                          // after COMMAND has ended
constexpr milliseconds kOthersMayTake{20};  // processes that end together with COMMAND
constexpr milliseconds kKillMayTake{5000};
constexpr auto kForEver = steady_clock::time_point::max();

constexpr std::array kHandled{SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGCHLD};

// What the launcher was told to ignore stays ignored.
sigset_t HandledSignals() {
  sigset_t set;
  sigemptyset(&set);
  for (int signal : kHandled) {
    struct sigaction action = {};
    sigaction(signal, nullptr, &action);
    if (action.sa_handler != SIG_IGN) sigaddset(&set, signal);
  }
  return set;
}

class Supervisor {
 public:
  Supervisor(LaunchedSession& session, const Options& options) : session_(session), options_(options) {
    sigset_t handled = HandledSignals();
    signals_ = signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK);
  }
  ~Supervisor() { close(signals_); }
  Supervisor(const Supervisor&) = delete;
  Supervisor& operator=(const Supervisor&) = delete;

  int Run() {
    Detail("session " + session_.mark.id + " in " + session_.directory.layout().directory() + ", agent " +
           std::to_string(session_.agent) + ", command " + std::to_string(session_.root));
    Tell(std::string(control::kRoot) + " " + std::to_string(session_.root));
    RemoveLeftovers();
    while (!root_ended_ && !must_kill_) HandleEvents(deadline_);
    if (!must_kill_) FinishAfterRoot();
    if (must_kill_) KillEverything();
    return ExitStatus();
  }

 private:
  // Of this user's earlier sessions. COMMAND runs already, so nobody waits for it.
  void RemoveLeftovers() {
    for (const std::string& base : SessionBases())
      RemoveDeadSessions(base, [](const std::string& id) { KillProcesses({id, -1, 0}, kKillMayTake); });
  }

  // With --verbose only.
  void Detail(const std::string& text) const {
    if (options_.verbose) Say(text);
  }

  std::string Elapsed() const {
    return std::to_string(std::chrono::duration_cast<milliseconds>(steady_clock::now() - begin_).count()) +
           " ms";
  }

  void Tell(const std::string& message) {
    if (control_open_) (void)send(session_.control, message.data(), message.size(), MSG_NOSIGNAL);
  }

  // Waits for one round of events, at most until `limit`.
  void HandleEvents(steady_clock::time_point limit) {
    auto left = std::chrono::ceil<milliseconds>(limit - steady_clock::now());
    int timeout = limit == kForEver ? -1 : static_cast<int>(std::max(left, milliseconds(0)).count());
    std::array<pollfd, 3> events{{{signals_, POLLIN, 0},
                                  {control_open_ ? session_.control : -1, POLLIN, 0},
                                  {agent_alive_ ? session_.agent_pidfd : -1, POLLIN, 0}}};
    int ready = poll(events.data(), events.size(), timeout);
    if (ready == 0) return TimeIsOver();
    // The agent's last words before its end, so that its reason is the one that is told.
    if (events[1].revents != 0) ReadControl();
    if (events[0].revents != 0) ReadSignals();
    if (events[2].revents != 0) AgentEnded();
  }

  void TimeIsOver() {
    if (deadline_ != kForEver && steady_clock::now() >= deadline_) must_kill_ = true;
  }

  void ReadSignals() {
    signalfd_siginfo signal;
    while (read(signals_, &signal, sizeof signal) == sizeof signal) {
      const int number = static_cast<int>(signal.ssi_signo);
      if (number == SIGCHLD) {
        ReapRoot();
        continue;
      }
      // A terminal's keys are for its foreground group, but its hangup is for the session's leader alone, as
      // a program is that a terminal emulator or sshd has started.
      const bool by_key = signal.ssi_code == SI_KERNEL && number != SIGHUP;
      const bool whole_group = witness_.Saw(number) || by_key;
      if (!whole_group && !root_ended_) kill(session_.root, number);
      if (whole_group && number == SIGINT && ++interrupts_ == 2) {
        EndAll("interrupted twice: everything is ended");
      }
    }
  }

  void ReapRoot() {
    int status = 0;
    if (root_ended_ || waitpid(session_.root, &status, WNOHANG) != session_.root) return;
    root_ended_ = true;
    root_status_ = status;
    Detail("the command " + HowItEnded(status) + " after " + Elapsed());
    Tell(std::string(control::kRootEnded) + " " + std::to_string(status));
  }

  void ReadControl() {
    std::vector<char> buffer(kControlMessageSize);
    ssize_t size = recv(session_.control, buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (size <= 0) {
      control_open_ = false;
      return;
    }
    std::string message(buffer.data(), static_cast<size_t>(size));
    size_t space = message.find(' ');
    const std::string word = message.substr(0, space);
    const std::string text = space == std::string::npos ? "" : message.substr(space + 1);
    if (word == control::kReady) {
      ready_ = true;
      Detail("workers run, " + Elapsed() + " after the command was started");
    }
    if (word == control::kFailed) AgentFailed(text);
    if (word == control::kReport) report_ = text;
    if (word == control::kEnded) {
      ended_ = true;
      if (!root_ended_) must_kill_ = true;  // COMMAND is being ended with the rest
    }
  }

  void AgentFailed(const std::string& reason) {
    if (!failed_) Say(reason);
    failed_ = true;
    SetDeadline();
  }

  void AgentEnded() {
    int status = 0;
    agent_alive_ = false;
    waitpid(session_.agent, &status, 0);
    while (control_open_ && !ended_) ReadControlToItsEnd();
    if (ended_) return;
    if (!failed_) Say("the session's agent " + HowItEnded(status) + ": everything is ended");
    failed_ = must_kill_ = true;
  }

  void ReadControlToItsEnd() {
    pollfd event{session_.control, POLLIN, 0};
    if (poll(&event, 1, 0) <= 0) control_open_ = false;
    if (control_open_) ReadControl();
  }

  static std::string HowItEnded(int status) {
    if (WIFSIGNALED(status)) return "was killed by signal " + std::to_string(WTERMSIG(status));
    return "ended with status " + std::to_string(WEXITSTATUS(status));
  }

  void EndAll(const std::string& reason) {
    Say(reason);
    failed_ = true;
    Tell(std::string(control::kEnd) + " " + reason);
    SetDeadline();
  }

  void SetDeadline() {
    if (deadline_ == kForEver) deadline_ = steady_clock::now() + kAgentMayTake;
  }

  // COMMAND has ended, and the agent has been told.
  void FinishAfterRoot() {
    if (!ready_ && !failed_ && IsPrivate() && options_.stats == Stats::kNone && NobodyIsLeft())
      return Abandon();
    // What was put off is sent before the report.
    const auto report_limit = steady_clock::now() + (options_.write_back ? kPutOffMayTake : kReportMayTake);
    while (!report_ && !ended_ && agent_alive_ && steady_clock::now() < report_limit)
      HandleEvents(report_limit);
    if (report_) PrintReport(*report_, options_.stats);
    if (failed_ || WIFSIGNALED(root_status_) || NobodyIsLeft()) return AwaitEnd();
    if (agent_alive_ && !ended_) StayInBackground(session_, options_.redis);
  }

  // Nothing outside the session's directory and the agent's children knows of the session.
  bool IsPrivate() const { return options_.redis.empty() && options_.store.empty(); }

  // COMMAND was faster than the agent, so nothing can have run elsewhere: no need to wait for workers to
  // start.
  void Abandon() {
    KillWithChildren(session_.agent, kKillMayTake);
    agent_alive_ = false;
    session_.directory.Remove();
  }

  bool NobodyIsLeft() const {
    pollfd event{session_.lifeline_read, 0, 0};
    return poll(&event, 1, static_cast<int>(kOthersMayTake.count())) == 1;
  }

  void AwaitEnd() {
    SetDeadline();
    while (!ended_ && !must_kill_) HandleEvents(deadline_);
    if (must_kill_) return;
    // The agent has nothing left to do but to leave.
    if (agent_alive_ && waitpid(session_.agent, nullptr, 0) == session_.agent) agent_alive_ = false;
    session_.directory.Remove();
  }

  void KillEverything() {
    if (agent_alive_) KillWithChildren(session_.agent, kKillMayTake);
    agent_alive_ = false;
    if (!KillProcesses(session_.mark, kKillMayTake)) Say("processes of the session could not be ended");
    if (!root_ended_) {
      kill(session_.root, SIGKILL);
      waitpid(session_.root, &root_status_, 0);
      root_ended_ = true;
    }
    RemoveTraces(session_, options_.redis);
  }

  int ExitStatus() const {
    if (interrupts_ >= 2 && failed_) return 128 + SIGINT;
    if (failed_) return kExitFailure;
    return WIFSIGNALED(root_status_) ? 128 + WTERMSIG(root_status_) : WEXITSTATUS(root_status_);
  }

  LaunchedSession& session_;
  const Options& options_;
  const steady_clock::time_point begin_ = steady_clock::now();
  int signals_ = -1;
  Witness witness_;
  int interrupts_ = 0;
  bool control_open_ = true;
  bool agent_alive_ = true;
  bool ready_ = false;  // workers run
  bool root_ended_ = false;
  int root_status_ = 0;
  bool ended_ = false;      // the agent says that nothing is left
  bool failed_ = false;     // the session did not end by COMMAND's end
  bool must_kill_ = false;  // the agent cannot end the session: the launcher does
  std::optional<std::string> report_;
  steady_clock::time_point deadline_ = kForEver;
};

}  // namespace

Inherited TakeInherited() {
  Inherited inherited = {};
  struct sigaction standard = {};
  standard.sa_handler = SIG_DFL;
  sigaction(SIGCHLD, &standard, &inherited.child);
  sigset_t handled = HandledSignals();
  sigprocmask(SIG_BLOCK, &handled, &inherited.signals);
  inherited.file_mask = LetOwnerUseFiles();
  return inherited;
}

int Supervise(LaunchedSession& session, const Options& options) {
  return Supervisor(session, options).Run();
}

}  // namespace elsewhere::runtime
