#include "runtime/launch/witness.h"

#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>

namespace elsewhere::runtime {
namespace {

constexpr int kAnswerMayTake = 1000;  // milliseconds; it can be late only if somebody stopped it

// Answers each byte with the set of signals that came since the last one. Only system calls: the maker may
// have threads.
[[noreturn]] void Serve(int socket, pid_t maker) {
  sigset_t all;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, nullptr);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != maker) _exit(0);
  dup2(socket, 0);
  close_range(1, ~0U, 0);
  const int signals = signalfd(-1, &all, SFD_NONBLOCK);
  for (char question;;) {
    const ssize_t size = read(0, &question, 1);
    if (size < 0 && errno == EINTR) continue;
    if (size != 1) _exit(0);
    uint64_t seen = 0;
    signalfd_siginfo signal;
    while (read(signals, &signal, sizeof signal) == sizeof signal)
      seen |= uint64_t{1} << (signal.ssi_signo - 1);
    if (send(0, &seen, sizeof seen, MSG_NOSIGNAL) != sizeof seen) _exit(0);
  }
}

}  // namespace

Witness::Witness() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return;
  const pid_t maker = getpid();
  pid_ = fork();
  if (pid_ == 0) Serve(ends[1], maker);
  close(ends[1]);
  socket_ = ends[0];
}

Witness::~Witness() {
  if (socket_ >= 0) close(socket_);
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

bool Witness::Saw(int signal) {
  // Changes nothing, but takes the lock under which groups are signalled.
  setpgid(0, getpgrp());
  uint64_t answer = 0;
  pollfd ready{socket_, POLLIN, 0};
  const bool answered = socket_ >= 0 && send(socket_, "?", 1, MSG_NOSIGNAL) == 1 &&
                        poll(&ready, 1, kAnswerMayTake) == 1 &&
                        recv(socket_, &answer, sizeof answer, 0) == sizeof answer;
  if (answered) {
    seen_ |= answer;
  } else {
    if (socket_ >= 0) close(socket_);  // a late answer would be taken for the next one
    socket_ = -1;
  }
  const uint64_t bit = uint64_t{1} << (signal - 1);
  const bool saw = (seen_ & bit) != 0;
  // The group's next signal of this number may be in the answer already, and waits here to be taken.
  sigset_t pending;
  sigemptyset(&pending);
  sigpending(&pending);
  if (!saw || sigismember(&pending, signal) != 1) seen_ &= ~bit;
  return saw;
}

}  // namespace elsewhere::runtime
