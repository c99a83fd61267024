// Waits for signals and for packets of the agent, and does what each says.
//
// All signals are blocked and taken from a signalfd, so none is lost between two system calls and none that
// the child ignores or handles acts on the proxy. Blocked signals are queued even where the old process
// ignored them; the child's own disposition decides. SIGSTOP and SIGKILL cannot be seen: the agent learns of
// the latter by pidfd.

#include "preload/proxy/loop.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "preload/proxy/kernel_call.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::proxy {
namespace {

constexpr int kInterrupted = -4;
constexpr int kSignalChild = 17, kSignalStop = 19, kSignalKill = 9;

[[noreturn]] void Exit(int status) {
  for (;;) raw::Syscall(SYS_exit_group, status);
}

void Raise(int number) {
  const long self = raw::Syscall(SYS_getpid);
  raw::Syscall(SYS_kill, self, number);
}

// Dies by the signal, without a core of a process that is not the one that crashed.
[[noreturn]] void DieBy(int number) {
  raw::Syscall(SYS_prctl, PR_SET_DUMPABLE, 0);
  const uint64_t default_action[4] = {};
  raw::Syscall(SYS_rt_sigaction, number, raw::Address(default_action), 0, 8);
  const uint64_t mask = ~(uint64_t{1} << (number - 1));
  raw::Syscall(SYS_rt_sigprocmask, 2 /* SIG_SETMASK */, raw::Address(&mask), 0, 8);
  Raise(number);
  Exit(128 + number);
}

[[noreturn]] void EndLike(int status) {
  const int number = status & 0x7f;
  if (number != 0) DieBy(number);
  Exit((status >> 8) & 0xff);
}

void Send(const State& state, const void* packet, uint64_t size) {
  SendPacket(state, packet, size, nullptr, 0);
}

// Deputies of nested forks are reaped here; the child's own kernel tells it of its children.
void Reap() {
  while (raw::Syscall(SYS_wait4, -1, 0, 1 /* WNOHANG */, 0) > 0) {
  }
}

void TakeSignal(const State& state) {
  signalfd_siginfo info{};
  const long got = raw::Read(state.signals, &info, sizeof(info));
  if (got != sizeof(info)) return;
  const bool sent_by_kernel = info.ssi_code > 0;
  if (info.ssi_signo == static_cast<uint32_t>(kSignalChild)) Reap();
  if (info.ssi_signo == static_cast<uint32_t>(kSignalChild) && sent_by_kernel) return;
  if (info.ssi_signo == static_cast<uint32_t>(kSignalNotify) && info.ssi_code == SI_MESGQ) {
    abi::KernelEvent event{};
    event.header = {static_cast<uint32_t>(abi::Packet::kKernelEvent), sizeof(event)};
    event.descriptor = info.ssi_int;
    event.state = abi::kQueueNotified;
    return Send(state, &event, sizeof(event));
  }
  abi::SignalPacket packet{};
  packet.header = {static_cast<uint32_t>(abi::Packet::kSignal), sizeof(packet)};
  packet.signal = static_cast<int32_t>(info.ssi_signo);
  packet.code = info.ssi_code;
  packet.sender = static_cast<int32_t>(info.ssi_pid);
  packet.user = info.ssi_uid;
  packet.value = info.ssi_ptr;
  Send(state, &packet, sizeof(packet));
}

void MakeHomeCall(const State& state, abi::HomePacket* call) {
  const int64_t* a = call->arguments;
  call->result = raw::Syscall(call->number, a[0], a[1], a[2], a[3], a[4], a[5]);
  call->header = {static_cast<uint32_t>(abi::Packet::kHomeResult), sizeof(*call)};
  Send(state, call, sizeof(*call));
}

// Takes the place of the answer: a connection of its own, registered by the token.
int ConnectNested(const State& state, uint64_t token) {
  const long socket = raw::Syscall(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (raw::Failed(socket)) return -1;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  for (uint64_t i = 0; i < sizeof(address.sun_path); ++i) address.sun_path[i] = state.agent_socket[i];
  long result;
  do {
    result = raw::Syscall(SYS_connect, socket, raw::Address(&address), sizeof(address));
  } while (result == kInterrupted);
  abi::Hello hello{};
  hello.header = {static_cast<uint32_t>(abi::Packet::kHello), sizeof(hello)};
  hello.version = abi::kAbiVersion;
  hello.role = static_cast<uint32_t>(abi::Role::kNestedDeputy);
  hello.pid = static_cast<int32_t>(raw::Syscall(SYS_getpid));
  hello.parent = static_cast<int32_t>(raw::Syscall(SYS_getppid));
  hello.token = token;
  if (!raw::Failed(result)) {
    result = raw::Syscall(SYS_sendto, socket, raw::Address(&hello), sizeof(hello), MSG_NOSIGNAL);
  }
  return raw::Failed(result) ? -1 : static_cast<int>(socket);
}

// A failure is told as the result of a home call whose id is the token.
void ForkDeputy(State* state, uint64_t token) {
  const long pid = raw::Syscall(SYS_clone, kSignalChild, 0, 0, 0, 0);
  if (pid == 0) {
    const int socket = ConnectNested(*state, token);
    if (socket < 0) DieBy(kSignalKill);
    raw::Close(state->socket);
    state->socket = socket;
    ForgetHelpers(state);
    return;
  }
  if (!raw::Failed(pid)) return;
  abi::HomePacket failure{};
  failure.header = {static_cast<uint32_t>(abi::Packet::kHomeResult), sizeof(failure)};
  failure.id = token;
  failure.number = SYS_clone;
  failure.result = pid;
  Send(*state, &failure, sizeof(failure));
}

void TakePacket(State* state) {
  union {
    abi::PacketHeader header;
    abi::HomePacket call;
    abi::ForkPacket fork;
    abi::ExitPacket end;
    abi::KernelPacket kernel;
    abi::KernelCancel cancel;
  } packet;
  // What goes beyond a KernelPacket is its memory; a refusal's reason goes there too and is not read.
  iovec parts[2] = {{&packet, sizeof(packet.kernel)}, {state->memory, abi::kInlineKernelMemory}};
  static_assert(sizeof(packet) == sizeof(packet.kernel));
  // There is room for one descriptor; the kernel drops others.
  union {
    cmsghdr header;
    char room[CMSG_SPACE(sizeof(int))];
  } control;
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  message.msg_control = &control;
  message.msg_controllen = sizeof(control);
  long got;
  do {
    got = raw::Syscall(SYS_recvmsg, state->socket, raw::Address(&message), MSG_CMSG_CLOEXEC);
  } while (got == kInterrupted);
  if (got < static_cast<long>(sizeof(packet.header))) AgentLost();
  int descriptor = -1;
  if (message.msg_controllen >= sizeof(control.header) && control.header.cmsg_type == SCM_RIGHTS) {
    descriptor = *reinterpret_cast<const int*>(CMSG_DATA(&control.header));
  }
  const auto size = static_cast<uint64_t>(got);
  switch (static_cast<abi::Packet>(packet.header.type)) {
    case abi::Packet::kHomeCall:
      if (size == sizeof(packet.call)) MakeHomeCall(*state, &packet.call);
      return;
    case abi::Packet::kForkDeputy:
      if (size == sizeof(packet.fork)) ForkDeputy(state, packet.fork.token);
      return;
    case abi::Packet::kExit:
      if (size == sizeof(packet.end)) EndLike(packet.end.status);
      return;
    case abi::Packet::kKernelCall:
      if (size == sizeof(packet.kernel) + (descriptor < 0 ? packet.kernel.call.data : 0)) {
        return MakeKernelCall(state, packet.kernel, descriptor);
      }
      break;
    case abi::Packet::kKernelCancel:
      if (size == sizeof(packet.cancel)) CancelKernelCall(*state, packet.cancel.id);
      return;
    case abi::Packet::kStop:
      Raise(kSignalStop);
      return;
    case abi::Packet::kRefused:
      DieBy(kSignalKill);
    default:
      break;
  }
  if (descriptor >= 0) raw::Close(descriptor);  // the welcome of a nested deputy brings the table
}

}  // namespace

void AgentLost() {
  constexpr int kMilliseconds = 5000;
  raw::Syscall(SYS_poll, 0, 0, kMilliseconds);
  DieBy(kSignalKill);
}

void SendPacket(const State& state, const void* head, size_t head_size, const void* bytes, size_t size) {
  iovec parts[2] = {{const_cast<void*>(head), head_size}, {const_cast<void*>(bytes), size}};
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  for (;;) {
    const int socket = __atomic_load_n(&state.socket, __ATOMIC_RELAXED);
    const long result = raw::Syscall(SYS_sendmsg, socket, raw::Address(&message), MSG_NOSIGNAL);
    if (!raw::Failed(result)) return;
    // It may just have moved out of the way of a queue.
    const bool moved = socket != __atomic_load_n(&state.socket, __ATOMIC_RELAXED);
    if (result != kInterrupted && !moved) AgentLost();
  }
}

void Loop(State* state) {
  for (;;) {
    pollfd polled[3] = {{state->socket, POLLIN, 0}, {state->signals, POLLIN, 0}, {state->watches, POLLIN, 0}};
    const long ready = raw::Syscall(SYS_poll, raw::Address(polled), 3, -1);
    if (ready <= 0) continue;
    // Signals first: one that came before the end must not be told after it.
    if (polled[1].revents != 0) TakeSignal(*state);
    if (polled[2].revents != 0) TellWatches(*state);
    if (polled[0].revents != 0) TakePacket(state);
  }
}

}  // namespace elsewhere::proxy
