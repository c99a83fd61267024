#include "runtime/kept_descriptors.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace elsewhere::runtime {

bool KeptDescriptors::Name(const image::View& view) {
  for (const image::Descriptor& entry : view.descriptors()) {
    if (entry.attached == image::kNone) continue;
    if (entry.attached >= all_.size()) return false;
    Kept& kept = all_[entry.attached];
    kept.number = entry.number;
    kept.flags = static_cast<int32_t>(entry.descriptor_flags);
    kept.is_stream = image::IsStream(entry);
  }
  return true;
}

bool KeptDescriptors::HasStreams() const {
  return std::any_of(all_.begin(), all_.end(), [](const Kept& kept) { return kept.is_stream; });
}

Result<std::vector<HeldDescriptor>> KeptDescriptors::Copies() const {
  std::vector<HeldDescriptor> copies;
  copies.reserve(all_.size());
  for (const Kept& kept : all_) {
    const int copy = fcntl(kept.descriptor.get(), F_DUPFD_CLOEXEC, 0);
    if (copy >= 0) {
      copies.push_back({.number = kept.number, .descriptor = copy, .flags = kept.flags});
      continue;
    }
    const int error = errno;
    for (const HeldDescriptor& made : copies) close(made.descriptor);
    return Error{error, "home has too many open files for its descriptors"};
  }
  return copies;
}

void KeptDescriptors::CloseOthers() {
  std::erase_if(all_, [](const Kept& kept) { return !kept.is_stream; });
}

void KeptDescriptors::SendBack(Connections& connections, ConnectionId connection, const abi::Refused& packet,
                               abi::Packet type) const {
  std::vector<int> streams;
  for (const Kept& kept : all_) {
    if (kept.is_stream) streams.push_back(kept.descriptor.get());
  }
  size_t sent = 0;
  do {
    const size_t count = std::min<size_t>(abi::kDescriptorsPerPacket, streams.size() - sent);
    connections.Send(connection, packet, type, std::span(streams).subspan(sent, count));
    sent += count;
  } while (sent < streams.size());
}

}  // namespace elsewhere::runtime
