// How home's agent learns that a deputy was stopped, although it is not its parent.
//
// SIGSTOP can be neither caught nor read from a signalfd, and only the parent, a program that may not look,
// is told of it. But a signalfd in an epoll instance is tied to the signals of the process that added it
// (signalfd(2)), and the kernel wakes such an instance for every signal that it queues for that process,
// SIGSTOP too. A deputy therefore makes an epoll instance with its signalfd in it and hands it to the agent.
// There the signalfd answers for the agent's own signals, so the agent keeps one of them blocked and pending
// for ever (kAlwaysPending): then every wake-up, edge triggered, is an event, and the agent looks whether the
// process is stopped.
//
// Whoever adds must be the process itself, so a forked deputy makes an instance of its own. Freestanding.
#pragma once

#include <stdint.h>
#include <sys/epoll.h>

#include "shim/wire/raw_syscall.h"

namespace elsewhere::wire {

inline constexpr int kAlwaysPending =
    23;  // SIGURG: nobody sends it to an agent, and its default is to be ignored

// An epoll instance that wakes for every signal of the calling process; `signals`: a signalfd of all signals,
// which must stay open. -errno on failure.
inline int MakeSignalWatch(int signals) {
  const long watch = raw::Syscall(SYS_epoll_create1, EPOLL_CLOEXEC);
  if (raw::Failed(watch)) return static_cast<int>(watch);
  epoll_event event{};
  event.events = EPOLLIN | static_cast<uint32_t>(EPOLLET);
  const long added = raw::Syscall(SYS_epoll_ctl, watch, EPOLL_CTL_ADD, signals, raw::Address(&event));
  if (!raw::Failed(added)) return static_cast<int>(watch);
  raw::Close(static_cast<int>(watch));
  return static_cast<int>(added);
}

}  // namespace elsewhere::wire
