#include "runtime/ipc/queue_stand_ins.h"

#include <mqueue.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

namespace elsewhere::runtime {
namespace {

constexpr long kMessages =
    2;  // as MakeStandIn in preload/message_queue.cpp and runtime/stream/rebuild.cpp have it
constexpr timespec kPast{};

long MessagesFor(uint32_t state) {
  if ((state & POLLIN) == 0) return 0;
  return (state & POLLOUT) != 0 ? 1 : kMessages;
}

// Neither call waits: what is past has timed out already. Somebody else may change it at the same time, a
// process that shares it and hears of the same changes.
void Fill(int queue, long messages) {
  for (long tries = 0; tries <= 2 * kMessages; ++tries) {
    mq_attr now{};
    if (mq_getattr(queue, &now) != 0 || now.mq_curmsgs == messages) return;
    char byte = 0;
    if (now.mq_curmsgs < messages) {
      mq_timedsend(queue, &byte, 0, 0, &kPast);
    } else {
      mq_timedreceive(queue, &byte, sizeof byte, nullptr, &kPast);
    }
  }
}

}  // namespace

void QueueStandIns::RaiseLimits() {
  FILE* file = fopen("/proc/sys/fs/mqueue/queues_max", "we");
  if (file == nullptr) return;
  fputs("65536", file);
  fclose(file);
}

void QueueStandIns::Watch(const Process& process, int32_t descriptor, uint32_t state) {
  Watched& watched = watched_[{process.incarnation, descriptor}];
  if (!watched.descriptor) {
    watched.descriptor.Reset(static_cast<int>(syscall(SYS_pidfd_getfd, process.pidfd, descriptor, 0)));
  }
  watched.state = state;
  Fill(watched.descriptor.get(), MessagesFor(state));
}

void QueueStandIns::Changed(Incarnation process, int32_t descriptor, uint32_t state) {
  const auto found = watched_.find({process, descriptor});
  if (found == watched_.end()) return;
  found->second.state = state;
  Fill(found->second.descriptor.get(), MessagesFor(state));
}

// A queue notifies when a message comes into it while it is empty.
void QueueStandIns::Notified(Incarnation process, int32_t descriptor) {
  const auto found = watched_.find({process, descriptor});
  if (found == watched_.end()) return;
  const int queue = found->second.descriptor.get();
  Fill(queue, 0);
  Fill(queue, 1);
  Fill(queue, MessagesFor(found->second.state));
}

void QueueStandIns::ProcessGone(Incarnation process) {
  const auto first = watched_.lower_bound({process, INT32_MIN});
  watched_.erase(first, watched_.upper_bound({process, INT32_MAX}));
}

}  // namespace elsewhere::runtime
