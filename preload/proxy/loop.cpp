// Waits for signals and for packets of the agent, and does what each says.
//
// All signals are blocked and taken from a signalfd, so none is lost between two system calls and none that
// the child ignores or handles acts on the proxy. Blocked signals are queued even where the old process
// ignored them; the child's own disposition decides. SIGSTOP and SIGKILL cannot be seen: the agent learns of
// them by the signal watch (shim/wire/signal_watch.h) and by pidfd.
//
// Stopping. A stop signal that the child may handle is forwarded; if the child stopped by it, the agent says
// so and the proxy stops itself by the same signal, which is what its parent sees. Between the child's stop
// and that word the proxy may have forwarded a SIGCONT, which undoes the stop: `continues` numbers them, and
// a word about a stop before the last one is dropped. In an orphaned group the kernel discards the proxy's
// SIGTSTP, SIGTTIN and SIGTTOU, as it would have the child's: then the child is continued.

#include "preload/proxy/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "preload/proxy/kernel_call.h"
#include "shim/wire/home_request.h"
#include "shim/wire/raw_syscall.h"
#include "shim/wire/signal_watch.h"

namespace elsewhere::proxy {
namespace {

constexpr int kInterrupted = -4;
constexpr int kSignalChild = 17, kSignalContinue = 18, kSignalKill = 9;

[[noreturn]] void Exit(int status) {
  for (;;) raw::Syscall(SYS_exit_group, status);
}

uint64_t BitOf(int number) {
  return uint64_t{1} << (number - 1);
}

bool IsContinued() {
  uint64_t pending = 0;
  raw::Syscall(SYS_rt_sigpending, raw::Address(&pending), 8);
  return (pending & BitOf(kSignalContinue)) != 0;
}

// The signal's default action happens to this process. `unless_continued`: a stop signal throws a pending
// SIGCONT away, so one that has come is looked for right before.
void ActBy(int number, bool unless_continued = false) {
  const uint64_t default_action[4] = {};
  raw::Syscall(SYS_rt_sigaction, number, raw::Address(default_action), 0, 8);
  const uint64_t mask = ~BitOf(number), all = ~uint64_t{0};
  const long self = raw::Syscall(SYS_getpid);
  raw::Syscall(SYS_rt_sigprocmask, 2 /* SIG_SETMASK */, raw::Address(&mask), 0, 8);
  if (!unless_continued || !IsContinued()) raw::Syscall(SYS_kill, self, number);
  raw::Syscall(SYS_rt_sigprocmask, 2, raw::Address(&all), 0, 8);
}

// Dies by the signal, without a core of a process that is not the one that crashed.
[[noreturn]] void DieBy(int number) {
  raw::Syscall(SYS_prctl, PR_SET_DUMPABLE, 0);
  ActBy(number);
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

void TellSignal(State* state, const signalfd_siginfo& info) {
  if (info.ssi_signo == static_cast<uint32_t>(kSignalContinue)) ++state->continues;
  abi::SignalPacket packet{};
  packet.header = {static_cast<uint32_t>(abi::Packet::kSignal), sizeof(packet)};
  packet.signal = static_cast<int32_t>(info.ssi_signo);
  packet.code = info.ssi_code;
  packet.sender = static_cast<int32_t>(info.ssi_pid);
  packet.user = info.ssi_uid;
  packet.value = info.ssi_ptr;
  Send(*state, &packet, sizeof(packet));
}

// False: there is none (any more).
bool TakeSignal(State* state) {
  signalfd_siginfo info{};
  const long got = raw::Read(state->signals, &info, sizeof(info));
  if (got != sizeof(info)) return false;
  const bool sent_by_kernel = info.ssi_code > 0;
  if (info.ssi_signo == static_cast<uint32_t>(kSignalChild)) Reap();
  if (info.ssi_signo == static_cast<uint32_t>(kSignalChild) && sent_by_kernel) return true;
  if (info.ssi_signo == static_cast<uint32_t>(kSignalNotify) && info.ssi_code == SI_MESGQ) {
    abi::KernelEvent event{};
    event.header = {static_cast<uint32_t>(abi::Packet::kKernelEvent), sizeof(event)};
    event.descriptor = info.ssi_int;
    event.state = abi::kQueueNotified;
    Send(*state, &event, sizeof(event));
    return true;
  }
  TellSignal(state, info);
  return true;
}

void Stop(State* state, const abi::StopPacket& packet) {
  if (packet.continues != state->continues) return;
  ActBy(packet.signal, true);
  // Whoever was stopped runs again by a SIGCONT, which waits in the signalfd.
  if (IsContinued()) return;
  signalfd_siginfo info{};
  info.ssi_signo = static_cast<uint32_t>(kSignalContinue);
  info.ssi_code = 0x80;  // SI_KERNEL
  TellSignal(state, info);
}

// sigqueue(pid, signal, value) as libc makes it.
long Queue(const int64_t* arguments, int32_t sender) {
  siginfo_t info{};
  info.si_signo = static_cast<int>(arguments[1]);
  info.si_code = SI_QUEUE;
  info.si_pid = sender;
  info.si_uid = static_cast<uid_t>(raw::Syscall(SYS_getuid));
  info.si_value.sival_ptr = reinterpret_cast<void*>(arguments[2]);
  return raw::Syscall(SYS_rt_sigqueueinfo, arguments[0], arguments[1], raw::Address(&info));
}

// The controlling terminal, if it is the one of that device number; -errno.
long OpenTerminal(int64_t device) {
  const long terminal =
      raw::Syscall(SYS_open, raw::Address("/dev/tty"), O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
  if (raw::Failed(terminal)) return -ENOTTY;
  uint32_t own = 0;
  raw::Syscall(SYS_ioctl, terminal, TIOCGDEV, raw::Address(&own));
  if (own == static_cast<uint32_t>(device)) return terminal;
  raw::Close(static_cast<int>(terminal));
  return -ENOTTY;
}

// The kernel discards a terminal's stop signals in an orphaned group. It tells nobody which groups are, but a
// process of the group that sends itself such a signal stops, or does not.
bool InOrphanedGroup(int signal) {
  const long child = raw::Syscall(SYS_clone, kSignalChild, 0, 0, 0, 0);
  if (child == 0) {
    raw::Syscall(SYS_prctl, PR_SET_PDEATHSIG, kSignalKill);
    ActBy(signal);
    Exit(0);
  }
  int status = 0;
  long waited;
  do {
    waited = raw::Syscall(SYS_wait4, child, raw::Address(&status), 2 /* WUNTRACED */, 0);
  } while (waited == kInterrupted);
  const bool stopped = waited == child && (status & 0xff) == 0x7f;
  if (!stopped) return true;
  raw::Syscall(SYS_kill, child, kSignalKill);
  raw::Syscall(SYS_wait4, child, 0, 0, 0);
  return false;
}

// SIGTTOU is blocked here, so the kernel lets a background deputy change the terminal; whether its process
// may is decided there.
long AskTerminal(wire::HomeRequest request, const int64_t* arguments) {
  const long terminal = OpenTerminal(arguments[0]);
  if (terminal < 0) return request == wire::HomeRequest::kInBackground ? 0 : terminal;
  int32_t number = static_cast<int32_t>(arguments[1]);
  const long command = request == wire::HomeRequest::kSetForegroundGroup ? TIOCSPGRP
                       : request == wire::HomeRequest::kTerminalSession  ? TIOCGSID
                                                                         : TIOCGPGRP;
  const long result = raw::Syscall(SYS_ioctl, terminal, command, raw::Address(&number));
  raw::Close(static_cast<int>(terminal));
  if (raw::Failed(result)) return result;
  if (request == wire::HomeRequest::kSetForegroundGroup) return 0;
  if (request == wire::HomeRequest::kInBackground) return number != raw::Syscall(SYS_getpgid, 0) ? 1 : 0;
  return number;
}

// For a session leader without a terminal; the kernel checks that.
long TakeTerminal(int64_t device, int64_t argument) {
  char name[wire::kTerminalNameSize];
  if (!wire::NameTerminal(static_cast<uint32_t>(device), name)) return -ENOTTY;
  const long terminal =
      raw::Syscall(SYS_open, raw::Address(name), O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
  if (raw::Failed(terminal)) return terminal;
  const long result = raw::Syscall(SYS_ioctl, terminal, TIOCSCTTY, argument);
  raw::Close(static_cast<int>(terminal));
  return result;
}

long LeaveTerminal(int64_t device) {
  const long terminal = OpenTerminal(device);
  if (terminal < 0) return terminal;
  const long result = raw::Syscall(SYS_ioctl, terminal, TIOCNOTTY);
  raw::Close(static_cast<int>(terminal));
  return result;
}

long MakeHomeRequest(wire::HomeRequest request, const int64_t* arguments) {
  if (request == wire::HomeRequest::kTakeTerminal) return TakeTerminal(arguments[0], arguments[1]);
  if (request == wire::HomeRequest::kLeaveTerminal) return LeaveTerminal(arguments[0]);
  if (request != wire::HomeRequest::kJobSignal) return AskTerminal(request, arguments);
  const int signal = static_cast<int>(arguments[0]);
  return InOrphanedGroup(signal) ? -EIO : raw::Syscall(SYS_kill, 0, signal);
}

void MakeHomeCall(State* state, abi::HomePacket* call) {
  const int64_t* a = call->arguments;
  if (call->number < 0) {
    call->result = MakeHomeRequest(static_cast<wire::HomeRequest>(call->number), a);
  } else if (call->number == SYS_rt_sigqueueinfo) {
    call->result = Queue(a, static_cast<int32_t>(raw::Syscall(SYS_getpid)));
  } else {
    call->result = raw::Syscall(call->number, a[0], a[1], a[2], a[3], a[4], a[5]);
  }
  // A signal that the call sent to this process too arrives before the call returns.
  while (TakeSignal(state)) {
  }
  call->header = {static_cast<uint32_t>(abi::Packet::kHomeResult), sizeof(*call)};
  Send(*state, call, sizeof(*call));
}

long SendHello(int socket, const abi::Hello& hello, int signals) {
  const int watch = wire::MakeSignalWatch(signals);
  if (watch < 0) return watch;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  iovec part{const_cast<abi::Hello*>(&hello), sizeof(hello)};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  __builtin_memcpy(CMSG_DATA(header), &watch, sizeof(watch));
  const long result = raw::Syscall(SYS_sendmsg, socket, raw::Address(&message), MSG_NOSIGNAL);
  raw::Close(watch);
  return result;
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
  if (!raw::Failed(result)) result = SendHello(static_cast<int>(socket), hello, state.signals);
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
    state->continues = 0;
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
    abi::StopPacket stop;
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
      if (size == sizeof(packet.call)) MakeHomeCall(state, &packet.call);
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
      if (size == sizeof(packet.stop)) Stop(state, packet.stop);
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
    // Signals first: one that came before the end or a stop must not be told after it.
    while (TakeSignal(state)) {
    }
    if (polled[2].revents != 0) TellWatches(*state);
    if (polled[0].revents != 0) TakePacket(state);
  }
}

}  // namespace elsewhere::proxy
