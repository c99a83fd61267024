// Deputies whose process runs elsewhere: signals, home calls, nested forks, the end. Rules in deputies.h.
#include <fcntl.h>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <string>
#include <utility>

#include "runtime/clock.h"
#include "runtime/deputies.h"
#include "runtime/stop_state.h"

namespace elsewhere::runtime {

namespace {

uint64_t BitOf(int signal) {
  return uint64_t{1} << (signal - 1);
}

// Signals that wait for the process to take them.
uint64_t PendingSignals(int32_t pid) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("ShdPnd:")) return std::strtoull(line.c_str() + sizeof "ShdPnd:", nullptr, 16);
  }
  return 0;
}

}  // namespace

void Deputies::OnSignalPacket(Deputy& deputy, const abi::SignalPacket& packet) {
  if (deputy.state != State::kRunning) return;
  if (packet.signal >= 1 && packet.signal <= 64 && (deputy.signals_ahead & BitOf(packet.signal)) != 0) {
    deputy.signals_ahead &= ~BitOf(packet.signal);
    return;
  }
  ForwardSignal(deputy, packet);
  const bool from_terminal = packet.signal == SIGINT || packet.signal == SIGQUIT || packet.signal == SIGHUP;
  if (packet.code == SI_KERNEL && from_terminal) ForwardToGroup(deputy, packet);
  if (packet.signal == SIGCONT) Continued(deputy);
}

// A terminal's signal reaches a whole group at one instant: nobody can act on it before everybody has it. Our
// deputies take it one after the other, and the first one's process might let go of a lock that another gets
// before its own signal. So whoever has it pending gets it with the first: what follows from
// the signal then comes behind it everywhere.
void Deputies::ForwardToGroup(const Deputy& deputy, const abi::SignalPacket& packet) {
  if (std::exchange(looked_at_group_, true)) return;
  core_.loop().Defer([this] { looked_at_group_ = false; });
  const pid_t group = getpgid(deputy.pid);
  for (const auto& [incarnation, other] : by_incarnation_) {
    if (other.get() == &deputy || other->state != State::kRunning || getpgid(other->pid) != group) continue;
    if ((PendingSignals(other->pid) & ~other->signals_ahead & BitOf(packet.signal)) == 0) continue;
    other->signals_ahead |= BitOf(packet.signal);
    ForwardSignal(*other, packet);
  }
}

void Deputies::ForwardSignal(const Deputy& deputy, const abi::SignalPacket& packet) {
  core_.Send(deputy.host, wire::Signal{.incarnation = deputy.incarnation,
                                       .signal = packet.signal,
                                       .code = packet.code,
                                       .sender = packet.sender,
                                       .user = packet.user,
                                       .value = packet.value});
}

// The deputy runs again, and so does its process, whose SIGCONT is on its way.
void Deputies::Continued(Deputy& deputy) {
  ++deputy.continues;
  SetProcessStopped(deputy, false);
  StopIfStopped(deputy);
  const Process* process = core_.FindProcess(deputy.incarnation);
  if (process == nullptr) return;
  for (const auto& component : core_.components()) component->ProcessContinued(*process);
}

void Deputies::Watch(Deputy& deputy, Connections::Packet& packet) {
  if (packet.descriptors.empty()) return;
  deputy.signal_watch = std::move(packet.descriptors.front());
  const int watch = deputy.signal_watch.get();
  const auto added =
      core_.loop().Add(watch, EPOLLIN, [this, watch, incarnation = deputy.incarnation](uint32_t) {
        // Takes the event; what is seen after this cannot be older than what it told of.
        epoll_event event;
        (void)epoll_wait(watch, &event, 1, 0);
        if (Deputy* watched = Find(incarnation)) StopIfStopped(*watched);
      });
  if (!added) spdlog::error("stops of deputy {} are not seen: {}", deputy.pid, added.error().message);
}

void Deputies::Unwatch(Deputy& deputy) {
  if (!deputy.signal_watch) return;
  core_.loop().Remove(deputy.signal_watch.get());
  deputy.signal_watch.Reset();
}

void Deputies::StopIfStopped(Deputy& deputy) {
  if (IsStopped(deputy.pid)) queue_leases_.DeputyStopped(deputy.pid);
  if (deputy.state != State::kRunning || deputy.stop_sent || deputy.process_stopped) return;
  if (!IsStopped(deputy.pid)) return;
  // A nested process is its parent's child there, which alone is told that it stopped.
  deputy.stop_sent = !deputy.nested;
  core_.Send(deputy.host,
             wire::Signal{.incarnation = deputy.incarnation, .signal = SIGSTOP, .code = SI_KERNEL});
}

void Deputies::SetProcessStopped(Deputy& deputy, bool stopped) {
  deputy.stop_sent = false;
  deputy.process_stopped = stopped;
  for (const CallId id : std::exchange(deputy.stop_waiters, {})) core_.Complete(id, 0);
}

void Deputies::OnStopped(HostId from, const wire::Stopped& stopped) {
  Deputy* deputy = Find(stopped.incarnation);
  if (deputy == nullptr || deputy->host != from || deputy->state != State::kRunning) return;
  queue_leases_.DeputyStopped(deputy->pid);
  if (stopped.continues == deputy->continues) SetProcessStopped(*deputy, true);
  core_.connections().Send(deputy->connection, abi::StopPacket{{}, stopped.signal, stopped.continues},
                           abi::Packet::kStop);
}

void Deputies::AwaitStop(CallId id, const Call& call) {
  const Process* process = core_.FindKernelPid(static_cast<int32_t>(call.arguments[0]));
  Deputy* deputy = process == nullptr ? nullptr : Find(process->incarnation);
  if (deputy != nullptr) StopIfStopped(*deputy);
  if (deputy == nullptr || !deputy->stop_sent) return core_.Complete(id, 0);
  deputy->stop_waiters.push_back(id);
}

void Deputies::AwaitKilled(CallId id, const Call& call) {
  const auto pid = static_cast<int32_t>(call.arguments[0]);
  // The caller may have seen the deputy's end before this loop has.
  const Process* process = core_.FindKernelPid(pid);
  if (process != nullptr && IsDeputy(pid)) {
    pollfd ended{process->pidfd, POLLIN, 0};
    if (poll(&ended, 1, 0) == 1) Gone(Process(*process));
  }
  for (auto& [incarnation, killed] : killed_) {
    if (killed.process.kernel_pid == pid) return killed.reapers.push_back(id);
  }
  core_.Complete(id, 0);
}

void Deputies::EndKilled(HostId from, const wire::Exited& exited) {
  const auto found = killed_.find(exited.incarnation);
  if (found == killed_.end() || found->second.process.runs_on != from) return;
  Killed killed = std::move(found->second);
  killed_.erase(found);
  usage_.Record(killed.process.kernel_pid, killed.parent, wire::UnpackUsage(exited.usage));
  core_.Drain(killed.process, {.ended = true, .killed = true}, [this, reapers = std::move(killed.reapers)] {
    for (const CallId id : reapers) core_.Complete(id, 0);
  });
}

void Deputies::OnHomeCall(HostId from, const wire::HomeCall& call) {
  Deputy* deputy = Find(call.incarnation);
  if (deputy == nullptr || deputy->host != from || deputy->state != State::kRunning) {
    return core_.Send(from, wire::HomeResult{call.incarnation, call.id, -ESRCH});
  }
  if (call.number == SYS_fcntl && call.arguments[1] == F_SETFL &&
      queue_leases_.WaitUntilHere(deputy->pid, call.arguments[0],
                                  [this, from, call] { OnHomeCall(from, call); }))
    return;
  const uint64_t id = ++last_home_call_;
  home_calls_[id] = PendingHomeCall{from, call.incarnation, call.id};
  abi::HomePacket packet{};
  packet.id = id;
  packet.number = call.number;
  std::copy(call.arguments.begin(), call.arguments.end(), packet.arguments);
  core_.connections().Send(deputy->connection, packet, abi::Packet::kHomeCall);
}

void Deputies::OnHomeResult(const abi::HomePacket& packet) {
  if (const auto nested = nested_.find(packet.id); nested != nested_.end()) {
    return FailNested(nested->second.host, packet.id, static_cast<int>(-packet.result));  // it could not fork
  }
  const auto pending = home_calls_.find(packet.id);
  if (pending == home_calls_.end()) return;
  const PendingHomeCall call = pending->second;
  home_calls_.erase(pending);
  if (core_.ending()) return;
  core_.Send(call.host, wire::HomeResult{call.incarnation, call.id, packet.result});
}

void Deputies::OnNestedFork(HostId from, const wire::NestedFork& fork) {
  Deputy* caller = Find(fork.caller);
  if (caller == nullptr || caller->host != from || caller->state != State::kRunning) {
    return FailNested(from, fork.child, ESRCH);
  }
  nested_[fork.child] = Nested{fork.caller, from, std::nullopt};
  core_.connections().Send(caller->connection, abi::ForkPacket{{}, fork.child}, abi::Packet::kForkDeputy);
}

void Deputies::FailNested(HostId host, Incarnation child, int error) {
  nested_.erase(child);
  core_.Send(host, wire::NestedForked{child, -1, error});
}

// A deputy that was killed forks nobody any more: children that still wait for theirs are fenced. (One that
// ended as it was told took its packets in order, so their deputies exist and will say Hello.)
void Deputies::FailNestedOf(Incarnation caller) {
  std::vector<std::pair<HostId, Incarnation>> children;
  for (const auto& [child, nested] : nested_) {
    if (nested.caller == caller) children.emplace_back(nested.host, child);
  }
  for (const auto& [host, child] : children) {
    FailNested(host, child, ESRCH);
    core_.Send(host, wire::Kill{child});
  }
}

void Deputies::HelloNested(ConnectionId connection, const abi::Hello& hello, Connections::Packet& packet) {
  const auto found = nested_.find(hello.token);
  if (found == nested_.end()) return core_.connections().Close(connection);
  const Nested nested = found->second;
  nested_.erase(found);
  const Incarnation incarnation = hello.token;
  Process process{
      .kernel_pid = hello.pid, .session_pid = hello.pid, .incarnation = incarnation, .runs_on = nested.host};
  const auto registered = core_.Register(process, [this](const Process& gone) { Gone(gone); });
  if (!registered) {
    core_.connections().Close(connection);
    return FailNested(nested.host, incarnation, ESRCH);
  }
  auto deputy = std::make_unique<Deputy>();
  deputy->incarnation = incarnation;
  deputy->pid = hello.pid;
  deputy->parent = hello.parent;
  deputy->connection = connection;
  deputy->state = State::kRunning;
  deputy->nested = true;
  deputy->host = nested.host;
  deputy->counted = true;
  workers_.Began(nested.host);
  Watch(*deputy, packet);
  by_connection_[connection] = incarnation;
  Deputy& kept = *(by_incarnation_[incarnation] = std::move(deputy));
  ++core_.report().forks_remote;
  ++core_.report().forks_nested;
  const Process* caller = core_.FindProcess(nested.caller);
  core_.TellRegistered(**registered, caller == nullptr ? hello.parent : caller->kernel_pid);
  core_.connections().Send(connection, abi::Welcome{{}, abi::kAbiVersion, core_.host()},
                           abi::Packet::kWelcome);
  core_.Send(nested.host, wire::NestedForked{incarnation, hello.pid, 0});
  if (nested.exited) End(kept, *nested.exited);
}

void Deputies::OnExited(HostId from, const wire::Exited& exited) {
  if (const auto nested = nested_.find(exited.incarnation); nested != nested_.end()) {
    nested->second.exited = exited;  // its deputy is on the way
    return;
  }
  Deputy* deputy = Find(exited.incarnation);
  if (deputy == nullptr) return EndKilled(from, exited);
  if (deputy->host != from || deputy->state != State::kRunning) return;
  End(*deputy, exited);
}

void Deputies::End(Deputy& deputy, const wire::Exited& exited) {
  if (!exited.expected) {
    return core_.Fatal("process " + std::to_string(deputy.pid) + " was killed on worker " +
                       std::to_string(deputy.host) + " and not by this session (out of memory?)");
  }
  deputy.state = State::kEnding;
  SetProcessStopped(deputy, false);
  usage_.Record(deputy.pid, deputy.parent, wire::UnpackUsage(exited.usage));
  const Incarnation incarnation = deputy.incarnation;
  const Process* process = core_.FindProcess(incarnation);
  if (process == nullptr) return;
  const Component::DrainReason reason{.ended = true, .killed = WIFSIGNALED(exited.status)};
  core_.Drain(*process, reason, [this, incarnation, exited] {
    Deputy* drained = Find(incarnation);
    if (drained == nullptr || core_.ending()) return;
    const uint64_t now = Now();
    if (exited.ended_nanoseconds != 0 && now > exited.ended_nanoseconds) {
      core_.report().join_nanoseconds += now - exited.ended_nanoseconds;
    }
    core_.connections().Send(drained->connection, abi::ExitPacket{{}, exited.status, 0}, abi::Packet::kExit);
  });
}

}  // namespace elsewhere::runtime
