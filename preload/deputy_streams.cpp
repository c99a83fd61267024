#include "preload/deputy_streams.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "preload/packet.h"
#include "shim/wire/image.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {
namespace {

bool Read(int manifest, void* to, size_t size, uint64_t position) {
  return raw::Syscall(SYS_pread64, manifest, raw::Address(to), raw::Word(size), raw::Word(position)) ==
         static_cast<long>(size);
}

// The lowest number that a descriptor cannot be given any more, though one may have it since before.
uint64_t NumberLimit() {
  rlimit limit{};
  const long got = raw::Syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, raw::Address(&limit));
  return raw::Failed(got) ? 0 : limit.rlim_cur;
}

struct Place {
  int number;
  bool closes_on_exec;
};

void PutAt(int descriptor, const Place& place) {
  if (descriptor == place.number) {
    raw::Syscall(SYS_fcntl, descriptor, F_SETFD, place.closes_on_exec ? FD_CLOEXEC : 0);
    return;
  }
  raw::Syscall(SYS_dup3, descriptor, place.number, place.closes_on_exec ? O_CLOEXEC : 0);
  raw::Close(descriptor);
}

}  // namespace

// Ends of pipes and sockets, in the manifest's order.
template <class Action>
void DeputyStreams::ForEach(Action action) const {
  image::SectionEntry section{};
  const size_t at = offsetof(image::Header, sections) +
                    sizeof section * static_cast<uint32_t>(image::Section::kDescriptors);
  if (!Read(manifest_, &section, sizeof section, at)) return;
  image::Descriptor some[16];
  for (uint32_t i = 0; i < count_; i += 16) {
    const uint32_t here = count_ - i < 16 ? count_ - i : 16;
    if (!Read(manifest_, some, here * sizeof some[0], section.offset + uint64_t{i} * sizeof some[0])) return;
    for (uint32_t j = 0; j < here; ++j) {
      if (image::IsStream(some[j])) action(some[j]);
    }
  }
}

void DeputyStreams::LetGo() {
  const uint64_t limit = NumberLimit();
  bool can_come_back = true;
  ForEach([&](const image::Descriptor& entry) {
    can_come_back = can_come_back && static_cast<uint64_t>(entry.number) < limit;
  });
  if (!can_come_back) return;
  ForEach([this](const image::Descriptor& entry) {
    raw::Close(entry.number);
    ++gone_;
  });
}

bool DeputyStreams::TakeBack(const int* descriptors, uint32_t room) {
  uint32_t came = 0;
  while (came < room && descriptors[came] >= 0) ++came;
  if (gone_ == 0) {  // they are all here
    for (uint32_t i = 0; i < came; ++i) raw::Close(descriptors[i]);
    return true;
  }
  const uint32_t left = gone_ - back_;
  if (came != (left < room ? left : room)) return false;
  // The kernel has given each the lowest free number, which is not above its own: from the last one on none
  // is put where another one still is.
  Place places[kMaxPacketDescriptors];
  uint32_t seen = 0;
  ForEach([&](const image::Descriptor& entry) {
    if (seen >= back_ && seen < back_ + came)
      places[seen - back_] = {entry.number, (entry.descriptor_flags & FD_CLOEXEC) != 0};
    ++seen;
  });
  for (uint32_t i = came; i > 0; --i) PutAt(descriptors[i - 1], places[i - 1]);
  back_ += came;
  return true;
}

}  // namespace elsewhere::preload
