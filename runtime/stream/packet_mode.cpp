#include "runtime/stream/packet_mode.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "runtime/stream/pipe_holders.h"

namespace elsewhere::runtime::stream {

PipeWriters::Found PipeWriters::Gather(const Agent& agent, int pipe) {
  const PipeHolders holders = FindPipeHolders(agent, pipe);
  if (holders.unseen || holders.in_flight) return Found::kNotNow;
  for (const PipeHolder& holder : holders.all) {
    if ((holder.flags & O_ACCMODE) == O_RDONLY || (holder.flags & O_PATH) != 0) continue;
    const Descriptor process(static_cast<int>(syscall(SYS_pidfd_open, holder.process, 0)));
    if (!process) return Found::kNotNow;
    Descriptor copy(static_cast<int>(syscall(SYS_pidfd_getfd, process.get(), holder.number, 0)));
    if (!copy) return errno == EPERM || errno == ENOSYS ? Found::kNotPermitted : Found::kNotNow;
    // The number may be another object's by now.
    const auto own = Stat(pipe), its = Stat(copy.get());
    if (!own || !its || !(IdOf(*own) == IdOf(*its))) return Found::kNotNow;
    descriptions_.push_back(std::move(copy));
  }
  return Found::kAll;
}

// Twice, for what went to a process that had been looked at from one that had not.
PipeWriters::Found PipeWriters::Find(const Agent& agent, int pipe) {
  descriptions_.clear();
  if (const Found first = Gather(agent, pipe); first != Found::kAll) return first;
  if (descriptions_.empty()) return Found::kNotNow;
  return Gather(agent, pipe);
}

void PipeWriters::EndPackets() {
  for (const Descriptor& description : descriptions_) {
    const int flags = fcntl(description.get(), F_GETFL);
    fcntl(description.get(), F_SETFL, flags & ~O_DIRECT);
    fcntl(description.get(), F_SETSIG, 0);
  }
}

}  // namespace elsewhere::runtime::stream
