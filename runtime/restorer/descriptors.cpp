// Puts descriptors under the numbers that the process knew. The ones that came with the request sit at low
// numbers, in each other's way, so all are moved above the highest target first.

#include <fcntl.h>
#include <sys/resource.h>

#include "runtime/restorer/child.h"

namespace elsewhere::restorer {
namespace {

// Calls place(number, source, close_on_exec) for every descriptor that is wanted.
template <class Place>
bool ForEach(const Child* child, Place place) {
  for (const image::Descriptor& descriptor : child->view.descriptors()) {
    if (descriptor.source == image::kNone) continue;
    if (!place(descriptor.number, descriptor.source, (descriptor.descriptor_flags & FD_CLOEXEC) != 0))
      return false;
  }
  const restore::RestoreRequest& request = child->job->request;
  for (uint32_t i = 0; i < request.install_count; ++i) {
    const restore::Install& install = request.installs[i];
    if (!place(install.number, install.source, install.cloexec != 0)) return false;
  }
  return true;
}

int HighestTarget(const Child* child) {
  int highest = 2;
  ForEach(child, [&](int number, uint32_t, bool) {
    if (number > highest) highest = number;
    return true;
  });
  return highest;
}

void RaiseLimit() {
  image::Limit limit{};
  if (raw::Failed(raw::Syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, raw::Address(&limit)))) return;
  limit.soft = limit.hard;
  raw::Syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, raw::Address(&limit), 0);
}

bool MoveAbove(Child* child, int* descriptor, int highest) {
  if (*descriptor > highest) return true;
  const long moved = raw::Syscall(SYS_fcntl, *descriptor, F_DUPFD_CLOEXEC, highest + 1);
  if (raw::Failed(moved))
    return Fail(child, "no descriptor numbers left", moved, static_cast<uint64_t>(*descriptor));
  *descriptor = static_cast<int>(moved);
  return true;
}

void CloseRange(int first, int last) {
  if (first > last) return;
  if (!raw::Failed(raw::Syscall(SYS_close_range, first, last, 0))) return;
  // Before Linux 5.9.
  for (int descriptor = first; descriptor <= last && descriptor < 65536; ++descriptor) raw::Close(descriptor);
}

}  // namespace

bool RestoreDescriptors(Child* child) {
  RaiseLimit();
  const int highest = HighestTarget(child);
  const auto is_known = [&](int number, uint32_t source, bool) {
    return (number >= 0 && Source(child, source) >= 0) || Fail(child, "a descriptor was not sent along");
  };
  if (!ForEach(child, is_known) || !MoveAbove(child, &child->socket, highest)) return false;
  // Only what is wanted needs to move; the rest is closed.
  const auto move = [&](int, uint32_t source, bool) {
    return MoveAbove(child, &child->job->descriptors[source], highest);
  };
  if (!ForEach(child, move)) return false;
  CloseRange(0, highest);
  const auto place = [&](int number, uint32_t source, bool close_on_exec) {
    const long placed =
        raw::Syscall(SYS_dup3, child->job->descriptors[source], number, close_on_exec ? O_CLOEXEC : 0);
    return !raw::Failed(placed) ||
           Fail(child, "a descriptor cannot be placed", placed, static_cast<uint64_t>(number));
  };
  if (!ForEach(child, place)) return false;
  CloseRange(highest + 1, child->socket - 1);
  CloseRange(child->socket + 1, INT32_MAX);
  return true;
}

}  // namespace elsewhere::restorer
