#include "runtime/stream/plain_files.h"

#include <unistd.h>

#include <utility>

#include "shim/wire/stream_call.h"

namespace elsewhere::runtime::stream {

Result<Descriptor> PlainFiles::OpenAgain(const wire::JobDescriptor& entry, uint32_t grant) {
  PlainFile& file = files_.at(entry.stream);
  file.grants.Add(grant);
  return Duplicate(file.descriptor.get());
}

Result<Descriptor> PlainFiles::Add(const wire::JobDescriptor& entry, uint32_t grant, HostId origin,
                                   Descriptor opened) {
  const auto known = known_.extract(entry.stream);
  const int64_t offset = known.empty() || wire::IsAway(entry.offset) ? entry.offset : known.mapped();
  if (offset > 0) lseek(opened.get(), offset, SEEK_SET);
  auto kept = Duplicate(opened.get());
  if (!kept) return kept;
  PlainFile& file = files_[entry.stream];
  file.descriptor = std::move(*kept);
  file.origin = origin;
  file.offset = lseek(file.descriptor.get(), 0, SEEK_CUR);
  file.grants.Add(grant);
  return opened;
}

void PlainFiles::NoteGrant(StreamId id, uint32_t grant) {
  if (const auto file = files_.find(id); file != files_.end()) file->second.grants.Add(grant);
}

StreamId PlainFiles::StreamOf(pid_t process, int descriptor) const {
  for (const auto& [id, file] : files_) {
    if (SameDescription(process, descriptor, file.descriptor.get())) return id;
  }
  return 0;
}

void PlainFiles::Close(StreamId id) {
  const auto found = files_.find(id);
  if (found == files_.end()) return;
  agent_.Send(found->second.origin, wire::StreamClose{id, found->second.grants.AsPairs()});
  Remember(id, lseek(found->second.descriptor.get(), 0, SEEK_CUR));
  files_.erase(found);
}

void PlainFiles::SetOffset(StreamId id, int64_t offset) {
  const auto file = files_.find(id);
  if (file != files_.end()) file->second.offset = lseek(file->second.descriptor.get(), offset, SEEK_SET);
}

void PlainFiles::Remember(StreamId id, int64_t offset) {
  if (known_.insert_or_assign(id, offset).second) known_order_.push_back(id);
  if (known_order_.size() <= kRemembered) return;
  known_.erase(known_order_.front());
  known_order_.pop_front();
}

void PlainFiles::TakeOffset(StreamId id, int64_t offset) {
  const auto found = files_.find(id);
  if (found == files_.end()) return;
  PlainFile& file = found->second;
  file.taken = std::chrono::steady_clock::now();
  if (wire::IsAway(lseek(file.descriptor.get(), 0, SEEK_CUR)))
    file.offset = lseek(file.descriptor.get(), offset, SEEK_SET);
}

void PlainFiles::GiveUpOffset(StreamId id, HostId origin) {
  wire::StreamOffset gone{id, -1, 0, true};
  if (const auto found = files_.find(id); found == files_.end()) {
    Remember(id, wire::kOffsetAway);
  } else {
    PlainFile& file = found->second;
    const off_t now = lseek(file.descriptor.get(), 0, SEEK_CUR);
    if (!wire::IsAway(now)) {
      // One step: what is read meanwhile is read before it, and counts, or finds the end.
      const off_t away = lseek(file.descriptor.get(), wire::kOffsetAway, SEEK_CUR);
      const off_t reached = away < 0 ? now : away - wire::kOffsetAway;
      gone.before = std::exchange(file.offset, reached);
      if (reached != gone.before) gone.offset = reached;
    }
  }
  agent_.Send(origin, gone);
}

void PlainFiles::TellOffsets() {
  for (auto& [id, file] : files_) {
    const off_t now = lseek(file.descriptor.get(), 0, SEEK_CUR);
    if (now < 0 || now == file.offset || wire::IsAway(now)) continue;
    const int64_t before = std::exchange(file.offset, now);
    agent_.SendAhead(file.origin, wire::StreamOffset{id, now, before});
  }
}

void PlainFiles::OnOffset(const wire::StreamOffsetNow& moved, HostId origin) {
  const auto found = files_.find(moved.stream);
  if (moved.recalled) {
    constexpr std::chrono::microseconds kLeast{500};
    std::chrono::nanoseconds stays{0};
    if (found != files_.end()) stays = found->second.taken + kLeast - std::chrono::steady_clock::now();
    if (stays <= stays.zero()) return GiveUpOffset(moved.stream, origin);
    agent_.loop().After(stays, [this, alive = std::weak_ptr(alive_), id = moved.stream, origin] {
      if (!alive.expired()) GiveUpOffset(id, origin);
    });
    return;
  }
  if (found == files_.end()) {
    return Remember(moved.stream, moved.offset);
  }
  PlainFile& file = found->second;
  // What moved here as well is told next, and the origin finds that it was not what it knew.
  const off_t now = lseek(file.descriptor.get(), 0, SEEK_CUR);
  if (now != file.offset || wire::IsAway(now)) return;
  file.offset = lseek(file.descriptor.get(), moved.offset, SEEK_SET);
}

}  // namespace elsewhere::runtime::stream
