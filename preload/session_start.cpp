// The one who starts the session is `elsewhere-runtime launch adopt`. It must not be a child that the program
// could see: it is cloned without an exit signal, which hides it from wait(-1) and sends no SIGCHLD, detaches
// itself by a fork of its own, and is waited for here by __WALL. Its answer is one packet: the session's id,
// a space, the path of the agent's socket; with it comes the lifeline. No answer: there is no session, and
// all runs natively.
//
// The child between clone and exec is a copy of the program with all signals blocked; it makes system calls
// only.
#include "preload/session_start.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>

#include "preload/descriptor.h"
#include "preload/environment.h"
#include "preload/packet.h"
#include "preload/self.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {
namespace {

enum State : uint32_t { kUntried, kStarting, kSettled };
constinit std::atomic<uint32_t> state = kUntried;

constexpr size_t kIdSize = 32;
constexpr size_t kNumberSize = 12;

// `name` beside this object (installed) or in the build tree's folder `other`. False: neither can be
// executed.
bool FindRuntime(char (&path)[kPathSize + 32]) {
  const char* slash = strrchr(self.library, '/');
  if (slash == nullptr) return false;
  const size_t directory = static_cast<size_t>(slash - self.library);
  for (const char* place : {"/elsewhere-runtime", "/../runtime/elsewhere-runtime"}) {
    memcpy(path, self.library, directory);
    memcpy(path + directory, place, strlen(place) + 1);
    if (raw::Syscall(SYS_access, raw::Address(path), X_OK) == 0) return true;
  }
  return false;
}

void WriteNumber(char (&text)[kNumberSize], int number) {
  char* end = text + kNumberSize - 1;
  *end = '\0';
  do {
    *--end = static_cast<char>('0' + number % 10);
    number /= 10;
  } while (number != 0);
  memmove(text, end, static_cast<size_t>(text + kNumberSize - end));
}

// In the cloned child: this copy of the environment may be changed.
[[noreturn]] void BecomeStarter(const char* runtime, int socket) {
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    if (strncmp(*entry, abi::kEnvPreload, sizeof abi::kEnvPreload - 1) == 0) (*entry)[0] = '-';
  }
  raw::Syscall(SYS_fcntl, socket, F_SETFD, 0);
  char socket_text[kNumberSize];
  char pid_text[kNumberSize];
  WriteNumber(socket_text, socket);
  WriteNumber(pid_text, self.kernel_pid);
  const char* arguments[] = {"elsewhere-runtime", "launch", "adopt", pid_text, socket_text, nullptr};
  raw::Syscall(SYS_execve, raw::Address(runtime), raw::Address(arguments), raw::Address(environ));
  for (;;) raw::Syscall(SYS_exit_group, 127);
}

// The packet's size, or less than 0; the lifeline goes to self.lifeline.
long ReceiveAnswer(int socket, char* text, size_t room) {
  int lifeline = -1;
  const long size = ReceivePacket(socket, text, room, &lifeline, 1);
  if (lifeline < 0) return -EPROTO;
  self.lifeline = MoveToOwn(lifeline);
  if (self.lifeline >= 0)
    raw::Syscall(SYS_fcntl, self.lifeline, F_SETFD, 0);  // programs to come hold it as well
  return size;
}

void Start() {
  char runtime[kPathSize + 32];
  int pair[2];
  if (!FindRuntime(runtime)) return;
  if (raw::Syscall(SYS_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, raw::Address(pair)) != 0)
    return;
  const long starter = raw::Syscall(SYS_clone, 0, 0, 0, 0, 0);
  if (starter == 0) BecomeStarter(runtime, pair[1]);
  raw::Close(pair[1]);
  char text[kIdSize + 1 + abi::kSocketPathSize];
  const long size = starter > 0 ? ReceiveAnswer(pair[0], text, sizeof text - 1) : -1;
  raw::Close(pair[0]);
  while (starter > 0 && raw::Syscall(SYS_wait4, starter, 0, __WALL, 0) == -EINTR) {
  }
  const size_t path_size =
      size > static_cast<long>(kIdSize + 1) ? static_cast<size_t>(size) - kIdSize - 1 : 0;
  if (path_size == 0 || path_size >= sizeof self.agent_socket) return;
  memcpy(self.session, text, kIdSize);
  memcpy(self.agent_socket, text + kIdSize + 1, path_size);
  self.agent_socket[path_size] = '\0';
  self.fork_remote = true;
  self.session_pid.store(self.kernel_pid);
  self.in_session = true;
}

}  // namespace

bool JoinSession() {
  if (self.in_session) return true;
  if (!self.may_start_session || InVforkChild()) return false;
  uint64_t all = ~uint64_t{0};
  uint64_t before = 0;
  raw::Syscall(SYS_rt_sigprocmask, SIG_SETMASK, raw::Address(&all), raw::Address(&before), sizeof all);
  uint32_t expected = kUntried;
  if (state.compare_exchange_strong(expected, kStarting)) {
    Start();
    state.store(kSettled, std::memory_order_release);
    raw::Syscall(SYS_futex, raw::Address(&state), FUTEX_WAKE, 0x7fffffff);
  }
  while (state.load(std::memory_order_acquire) == kStarting) {
    raw::Syscall(SYS_futex, raw::Address(&state), FUTEX_WAIT, kStarting);
  }
  raw::Syscall(SYS_rt_sigprocmask, SIG_SETMASK, raw::Address(&before), 0, sizeof before);
  return self.in_session;
}

}  // namespace elsewhere::preload
