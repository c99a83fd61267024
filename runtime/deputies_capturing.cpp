// Deputies that capture themselves: the manifest and the descriptors that they hand over. Rules in
// deputies.h.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "runtime/deputies.h"
#include "shim/wire/image_view.h"

namespace elsewhere::runtime {
namespace {

// The bytes of a memfd, read (never mapped: its sender could shrink it under us).
Result<std::vector<uint8_t>> ReadManifest(int descriptor, uint64_t size) {
  if (size < sizeof(image::Header) || size > image::kMaxManifest) {
    return Error{EPROTO, "a manifest of " + std::to_string(size) + " bytes"};
  }
  std::vector<uint8_t> bytes(size);
  uint64_t have = 0;
  while (have < size) {
    const ssize_t got = pread(descriptor, bytes.data() + have, size - have, static_cast<off_t>(have));
    if (got <= 0) return Error{EPROTO, "the manifest is shorter than was said"};
    have += static_cast<uint64_t>(got);
  }
  return bytes;
}

// A file that it may map later, and that is home's.
bool MayBeMapped(const image::Descriptor& descriptor, int held) {
  struct stat status {};
  return S_ISREG(descriptor.mode) && (descriptor.flags & O_ACCMODE) == O_RDWR &&
         descriptor.number > STDERR_FILENO && fstat(held, &status) == 0 && status.st_nlink == 0;
}

bool SharesMemory(const image::View& view, const KeptDescriptors& descriptors) {
  for (const image::Descriptor& descriptor : view.descriptors()) {
    if (descriptor.attached != image::kNone && MayBeMapped(descriptor, descriptors.Get(descriptor.attached)))
      return true;
  }
  return std::any_of(view.regions().begin(), view.regions().end(), [](const image::Region& region) {
    return region.kind == static_cast<uint32_t>(image::RegionKind::kShared) ||
           region.kind == static_cast<uint32_t>(image::RegionKind::kSharedFile);
  });
}

}  // namespace

void Deputies::StartCapture(Deputy& deputy, Connections::Packet packet) {
  const auto* capture = packet.As<abi::Capture>();
  if (packet.is_cut || !core_.room().ForChild()) return RunLocally(deputy, core_.room().NoChild());
  if (capture == nullptr || packet.descriptors.empty()) return RunLocally(deputy, "malformed capture");
  auto manifest = ReadManifest(packet.descriptors.front().get(), capture->manifest_size);
  if (!manifest) return RunLocally(deputy, manifest.error().message);
  deputy.manifest = std::move(*manifest);
  deputy.descriptors_expected = capture->descriptor_count;
  core_.report().capture_nanoseconds += capture->capture_nanoseconds;
  packet.descriptors.erase(packet.descriptors.begin());
  deputy.state = State::kReceiving;
  TakeDescriptors(deputy, packet);
}

void Deputies::TakeDescriptors(Deputy& deputy, Connections::Packet& packet) {
  if (deputy.state != State::kReceiving) return;
  if (packet.is_cut) return RunLocally(deputy, core_.room().NoChild());
  for (auto& descriptor : packet.descriptors) deputy.descriptors.Add(std::move(descriptor));
  if (deputy.descriptors.size() >= deputy.descriptors_expected) Captured(deputy);
}

void Deputies::Captured(Deputy& deputy) {
  image::View view;
  if (const char* wrong = image::View::Open(deputy.manifest.data(), deputy.manifest.size(), &view)) {
    return RunLocally(deputy, wrong);
  }
  if (!deputy.descriptors.Name(view)) return RunLocally(deputy, "malformed capture");
  if (options_.colocate && SharesMemory(view, deputy.descriptors))
    return RunLocally(deputy, "it shares memory with others, which --colocate keeps on one host");
  const image::CpuFeatures features = image::ThisCpu();
  std::copy(features.begin(), features.end(), image::Editor(view).header().identity.cpu_features);
  deputy.captured_bytes = 0;
  for (const image::Chunk& chunk : view.chunks()) deputy.captured_bytes += chunk.length;
  // What the child closes when it runs must be closed for whoever hears of it: the deputy has nothing then.
  deputy.lets_go = deputy.descriptors.HasStreams();
  if (deputy.lets_go) core_.connections().Send(deputy.connection, abi::Packet::kLetGo);
  deputy.state = State::kWaiting;
  Place(deputy);
}

void Deputies::HasLetGo(Deputy& deputy) {
  deputy.lets_go = false;
  if (deputy.state == State::kUploading && deputy.waits.empty()) Publish(deputy);
}

}  // namespace elsewhere::runtime
