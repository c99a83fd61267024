// Job control of a process on a worker.
//
// Its terminal is home's, and so are its process group and session: the deputy's. So what depends on them is
// asked of the deputy (wire::HomeRequest): which group is in the foreground, putting another there. Whether
// the group may read is looked at where the bytes are taken, by home's agent, each time: it must not take a
// line that is the foreground's. It then refuses with ERESTART, and what follows is decided here, where the
// process's signal actions are known: the deputy sends SIGTTIN to its own group, this process included,
// before it answers. When the answer is here the signal has been delivered: the process was stopped and
// continued, or a handler ran, and the read is made again.
#include "preload/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <termios.h>

#include "preload/children.h"
#include "preload/home_call.h"
#include "preload/hooks.h"
#include "preload/real.h"
#include "preload/stream.h"
#include "shim/wire/home_request.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {
namespace {

int64_t Request(wire::HomeRequest request, std::initializer_list<int64_t> arguments) {
  int64_t words[3] = {};
  size_t count = 0;
  for (const int64_t argument : arguments) words[count++] = argument;
  return HomeCall(static_cast<long>(request), {words[0], words[1], words[2]});
}

bool IsBlocked(int signal) {
  uint64_t mask = 0;
  raw::Syscall(SYS_rt_sigprocmask, 0, 0, raw::Address(&mask), sizeof mask);
  return (mask >> (signal - 1) & 1) != 0;
}

bool IsBlockedOrIgnored(int signal) {
  struct sigaction action;
  return IsBlocked(signal) ||
         (real::sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN);
}

// The device number of the terminal at home; -1: errno.
int64_t DeviceOf(int fd) {
  uint32_t device = 0;
  return TerminalAtHome(fd, TIOCGDEV, &device) == 0 ? static_cast<int64_t>(device) : -1;
}

// "/proc/self/fd/N"
void NameDescriptor(int fd, char (&name)[32]) {
  constexpr char kDirectory[] = "/proc/self/fd/";
  char digits[12];
  size_t count = 0;
  do {
    digits[count++] = static_cast<char>('0' + fd % 10);
    fd /= 10;
  } while (fd != 0);
  memcpy(name, kDirectory, sizeof kDirectory - 1);
  char* to = name + sizeof kDirectory - 1;
  while (count > 0) *to++ = digits[--count];
  *to = '\0';
}

// A pseudo-terminal that was made on this host: its groups are the kernel's here.
bool IsLocal(int fd) {
  return KindOf(fd) != DescriptorKind::kTerminal;
}

}  // namespace

bool AwaitForeground(int signal) {
  if (IsBlockedOrIgnored(signal)) {
    errno = EIO;
    return false;
  }
  struct sigaction action;
  real::sigaction(signal, nullptr, &action);
  if (Request(wire::HomeRequest::kJobSignal, {signal}) < 0) return false;
  const bool handled = action.sa_handler != SIG_DFL;
  if (!handled || (action.sa_flags & SA_RESTART) != 0) return true;
  errno = EINTR;
  return false;
}

bool MayChangeTerminal(int fd) {
  if (IsBlockedOrIgnored(SIGTTOU)) return true;
  const int64_t device = DeviceOf(fd);
  const int before = errno;
  while (device >= 0 && Request(wire::HomeRequest::kInBackground, {device}) == 1) {
    if (!AwaitForeground(SIGTTOU)) return false;
  }
  errno = before;
  return true;
}

int OpenControllingTerminal(int flags) {
  for (int fd = 0; fd < static_cast<int>(kDescriptorCount); ++fd) {
    if (KindOf(fd) != DescriptorKind::kTerminal) continue;
    const int64_t device = DeviceOf(fd);
    if (device < 0 || Request(wire::HomeRequest::kTerminalSession, {device}) < 0) continue;
    char path[32];
    NameDescriptor(fd, path);
    return real::open(path, flags, 0);
  }
  errno = ENXIO;
  return -1;
}

namespace {

int LocalRequest(int fd, unsigned long request, void* argument) {
  if (request != TIOCGPGRP && request != TIOCSPGRP && request != TIOCGSID)
    return real::ioctl(fd, request, argument);
  auto* number = static_cast<pid_t*>(argument);
  pid_t local = request == TIOCSPGRP ? KernelPidOf(*number) : 0;
  const int result = real::ioctl(fd, request, &local);
  const pid_t known = result == 0 && request != TIOCSPGRP ? SessionPidOf(local) : 0;
  if (result == 0 && request != TIOCSPGRP) *number = known != 0 ? known : local;
  return result;
}

}  // namespace

bool IsJobControlRequest(unsigned long request) {
  return request == TIOCGPGRP || request == TIOCSPGRP || request == TIOCGSID || request == TIOCSCTTY ||
         request == TIOCNOTTY;
}

int JobControlRequest(int fd, unsigned long request, void* argument) {
  if (IsLocal(fd)) return LocalRequest(fd, request, argument);
  if (request == TIOCSPGRP && !MayChangeTerminal(fd)) return -1;
  const int64_t device = DeviceOf(fd);
  if (device < 0) return -1;
  auto* number = static_cast<pid_t*>(argument);
  if (request == TIOCSCTTY) {
    return static_cast<int>(
        Request(wire::HomeRequest::kTakeTerminal, {device, reinterpret_cast<intptr_t>(argument)}));
  }
  if (request == TIOCNOTTY) return static_cast<int>(Request(wire::HomeRequest::kLeaveTerminal, {device}));
  if (request == TIOCSPGRP) {
    return static_cast<int>(Request(wire::HomeRequest::kSetForegroundGroup, {device, *number}));
  }
  const int64_t result =
      Request(request == TIOCGSID ? wire::HomeRequest::kTerminalSession : wire::HomeRequest::kForegroundGroup,
              {device});
  if (result < 0) return -1;
  *number = static_cast<pid_t>(result);
  return 0;
}

namespace hooks {

pid_t tcgetpgrp(int fd) {
  pid_t group = 0;
  return JobControlRequest(fd, TIOCGPGRP, &group) == 0 ? group : -1;
}
int tcsetpgrp(int fd, pid_t group) {
  return JobControlRequest(fd, TIOCSPGRP, &group);
}
pid_t tcgetsid(int fd) {
  pid_t session = 0;
  return JobControlRequest(fd, TIOCGSID, &session) == 0 ? session : -1;
}

int ttyname_r(int fd, char* name, size_t size) {
  char local[wire::kTerminalNameSize];
  const int before = errno;
  const int64_t device = DeviceOf(fd);
  if (device < 0 || !wire::NameTerminal(static_cast<uint32_t>(device), local)) {
    errno = before;
    return real::ttyname_r(fd, name, size);
  }
  if (strlen(local) >= size) {
    errno = ERANGE;
    return ERANGE;
  }
  memcpy(name, local, strlen(local) + 1);
  return 0;
}
int __ttyname_r_chk(int fd, char* name, size_t size, size_t room) {
  return size > room ? real::__ttyname_r_chk(fd, name, size, room) : hooks::ttyname_r(fd, name, size);
}
char* ttyname(int fd) {
  static char name[wire::kTerminalNameSize];
  const int error = hooks::ttyname_r(fd, name, sizeof name);
  if (error == 0) return name;
  errno = error;
  return nullptr;
}

// Libc's makes its calls inside of libc. The same parts (source: login_tty(3)).
int login_tty(int fd) {
  hooks::setsid();
  if (hooks::ioctl(fd, TIOCSCTTY, nullptr) != 0) return -1;
  for (int standard = 0; standard < 3; ++standard) hooks::dup2(fd, standard);
  if (fd > 2) hooks::close(fd);
  return 0;
}

}  // namespace hooks
}  // namespace elsewhere::preload
