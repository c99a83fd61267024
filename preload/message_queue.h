// POSIX message queues of processes on a worker.
//
// The queue is home's kernel's; this process's deputy has it open under the same number and makes every call.
// The descriptor here is that of a stand-in, a queue of this host's kernel whose readiness the agent keeps
// like the real one's as long as somebody looks: empty is "room", half full "room and messages", full
// "messages". It bears StreamMark::kMessageQueue. At home nothing of this is needed: the calls go to libc.
#pragma once

#include <poll.h>
#include <sys/select.h>

#include "preload/descriptor.h"

namespace elsewhere::preload {

inline bool IsQueue(int fd) {
  return KindOf(fd) == DescriptorKind::kMessageQueue;
}

// `fd` is a queue that is about to be closed or replaced; `to` is its new copy.
void QueueCloses(int fd);
void QueueCopied(int fd, int to, int flags);
// F_GETFL, F_SETFL and F_SETFD where the queue is.
int QueueFlags(int fd, int command, long argument);

// Before the kernel looks at stand-ins: each is brought up to date, and kept so.
void WatchQueues(const pollfd* all, nfds_t count);
void WatchQueues(int count, const fd_set* read, const fd_set* write);
// An epoll instance got one; before one is waited for.
void QueueEntersEpoll(int fd);
void WatchQueuesInEpoll();

// read on the descriptor of a queue.
ssize_t ReadQueue(int fd, void* to, size_t size);

}  // namespace elsewhere::preload
