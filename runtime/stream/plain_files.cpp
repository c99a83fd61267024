#include "runtime/stream/plain_files.h"

#include <unistd.h>

namespace elsewhere::runtime::stream {

Result<Descriptor> PlainFiles::OpenAgain(const wire::JobDescriptor& entry, uint32_t grant) {
  PlainFile& file = files_.at(entry.stream);
  file.grants.Add(grant);
  return Duplicate(file.descriptor.get());
}

Result<Descriptor> PlainFiles::Add(const wire::JobDescriptor& entry, uint32_t grant, HostId origin,
                                   Descriptor opened) {
  const auto early = early_.extract(entry.stream);
  const int64_t offset = early.empty() ? entry.offset : early.mapped();
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
  files_.erase(found);
}

void PlainFiles::SetOffset(StreamId id, int64_t offset) {
  const auto file = files_.find(id);
  if (file != files_.end()) file->second.offset = lseek(file->second.descriptor.get(), offset, SEEK_SET);
}

void PlainFiles::TellOffsets() {
  for (auto& [id, file] : files_) {
    const off_t now = lseek(file.descriptor.get(), 0, SEEK_CUR);
    if (now < 0 || now == file.offset) continue;
    const int64_t before = std::exchange(file.offset, now);
    agent_.SendAhead(file.origin, wire::StreamOffset{id, now, before});
  }
}

void PlainFiles::OnOffset(const wire::StreamOffsetNow& moved) {
  const auto found = files_.find(moved.stream);
  if (found == files_.end()) {
    early_[moved.stream] = moved.offset;
    return;
  }
  PlainFile& file = found->second;
  // What moved here as well is told next, and the origin finds that it was not what it knew.
  if (lseek(file.descriptor.get(), 0, SEEK_CUR) != file.offset) return;
  file.offset = lseek(file.descriptor.get(), moved.offset, SEEK_SET);
}

}  // namespace elsewhere::runtime::stream
