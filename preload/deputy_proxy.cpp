// A proxy holds nothing of the program's but its place in the process tree: pid, parent, process group,
// session, terminal. Its descriptors are closed, because the agent stands for each end that is open
// elsewhere.
//
// It waits for two things: signals, which go to the process, and packets of the agent. Nested deputies are
// its children; they are reaped by the kernel (SIGCHLD ignored), for their real parent waits for the real
// children on the worker.
#include "preload/deputy_proxy.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "preload/agent.h"
#include "preload/descriptor.h"
#include "preload/self.h"
#include "shim/wire/abi.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {
namespace {

constexpr uint64_t kAllSignals = ~uint64_t{0};

struct KernelAction {  // struct sigaction as the kernel has it
  uint64_t handler, flags, restorer, mask;
};

union Packet {
  abi::PacketHeader header;
  abi::HomePacket home;
  abi::ForkPacket fork;
  abi::ExitPacket exit;
  abi::Welcome welcome;
  abi::Refused refused;
};

long Pid() {
  return raw::Syscall(SYS_getpid);
}

void SetAction(int signal, uint64_t handler) {
  const KernelAction action{handler, 0, 0, 0};
  raw::Syscall(SYS_rt_sigaction, signal, raw::Address(&action), 0, sizeof action.mask);
}

[[noreturn]] void Exit(int code) {
  for (;;) raw::Syscall(SYS_exit_group, code);
}

[[noreturn]] void DieOf(int signal) {
  const rlimit no_core{0, 0};
  raw::Syscall(SYS_prlimit64, 0, RLIMIT_CORE, raw::Address(&no_core), 0);
  if (signal != SIGKILL) SetAction(signal, reinterpret_cast<uint64_t>(SIG_DFL));
  raw::Syscall(SYS_kill, Pid(), signal);
  const uint64_t none = 0;
  raw::Syscall(SYS_rt_sigprocmask, SIG_SETMASK, raw::Address(&none), 0, sizeof none);
  Exit(128 + signal);  // a signal whose default is not to end
}

// Closes everything but `socket` and the lifeline.
void CloseDescriptors(int socket) {
  const int low = self.lifeline >= 0 && self.lifeline < socket ? self.lifeline : socket;
  const int high = low == socket ? self.lifeline : socket;
  long first = 0;
  for (const int kept : {low, high}) {
    if (kept < 0) continue;
    if (kept > first) raw::Syscall(SYS_close_range, first, kept - 1, 0);
    first = kept + 1;
  }
  raw::Syscall(SYS_close_range, first, ~0U, 0);
}

template <class T>
void Send(int socket, T packet, abi::Packet type) {
  packet.header = {static_cast<uint32_t>(type), sizeof packet};
  raw::Syscall(SYS_sendto, socket, raw::Address(&packet), sizeof packet, MSG_NOSIGNAL);
}

void ForwardSignals(int signals, int socket) {
  signalfd_siginfo info;
  while (raw::Syscall(SYS_read, signals, raw::Address(&info), sizeof info) == sizeof info) {
    Send(socket,
         abi::SignalPacket{{},
                           static_cast<int32_t>(info.ssi_signo),
                           info.ssi_code,
                           static_cast<int32_t>(info.ssi_pid),
                           info.ssi_uid,
                           info.ssi_ptr},
         abi::Packet::kSignal);
  }
}

void MakeHomeCall(int socket, const abi::HomePacket& call) {
  abi::HomePacket answer = call;
  const int64_t* a = call.arguments;
  answer.result = raw::Syscall(call.number, a[0], a[1], a[2], a[3], a[4], a[5]);
  Send(socket, answer, abi::Packet::kHomeResult);
}

// The child's connection; the child ends where the agent does not want it.
int JoinAsNested(uint64_t token, pid_t parent) {
  const int socket = ConnectToAgent(self.agent_socket);
  if (socket < 0) Exit(1);
  abi::Hello hello{};
  hello.version = abi::kAbiVersion;
  hello.role = static_cast<uint32_t>(abi::Role::kNestedDeputy);
  hello.pid = static_cast<int32_t>(Pid());
  hello.parent = parent;
  hello.token = token;
  Send(socket, hello, abi::Packet::kHello);
  return socket;
}

int OpenSignals() {
  SetAction(SIGCHLD, reinterpret_cast<uint64_t>(SIG_IGN));
  return static_cast<int>(raw::Syscall(SYS_signalfd4, -1, raw::Address(&kAllSignals), sizeof kAllSignals,
                                       SFD_NONBLOCK | SFD_CLOEXEC));
}

// In the child it returns with the child's own connection.
void ForkDeputy(uint64_t token, int* socket, int* signals) {
  const auto parent = static_cast<pid_t>(Pid());
  if (raw::Syscall(SYS_clone, SIGCHLD) != 0) return;
  raw::Close(*signals);
  CloseOwn(*socket);
  *socket = JoinAsNested(token, parent);
  *signals = OpenSignals();
}

void EndLike(int status) {
  if (WIFSIGNALED(status)) DieOf(WTERMSIG(status));
  Exit(WEXITSTATUS(status));
}

void Obey(int* socket, int* signals) {
  Packet packet{};
  const long size = raw::Syscall(SYS_recvfrom, *socket, raw::Address(&packet), sizeof packet, MSG_DONTWAIT);
  if (size == -EAGAIN || size == -EINTR) return;
  if (size < static_cast<long>(sizeof packet.header))
    DieOf(SIGKILL);  // the agent is gone, the session is over
  switch (static_cast<abi::Packet>(packet.header.type)) {
    case abi::Packet::kHomeCall:
      return MakeHomeCall(*socket, packet.home);
    case abi::Packet::kForkDeputy:
      return ForkDeputy(packet.fork.token, socket, signals);
    case abi::Packet::kStop:
      raw::Syscall(SYS_kill, Pid(), SIGSTOP);
      return;
    case abi::Packet::kExit:
      return EndLike(packet.exit.status);
    default:
      return;
  }
}

}  // namespace

void RunProxy(int socket) {
  CloseDescriptors(socket);
  int signals = OpenSignals();
  for (;;) {
    pollfd polled[] = {{signals, POLLIN, 0}, {socket, POLLIN, 0}};
    raw::Syscall(SYS_poll, raw::Address(polled), 2, -1);
    if (polled[0].revents != 0) ForwardSignals(signals, socket);
    if (polled[1].revents != 0) Obey(&socket, &signals);
  }
}

}  // namespace elsewhere::preload
