// Any bytes as a manifest: the reader refuses them, or everything it promises can be read.
#include <cstdint>
#include <cstring>
#include <vector>

#include "shim/wire/image_view.h"

namespace {

using namespace elsewhere::image;

uint64_t Walk(const View& view) {
  uint64_t sum = 0;
  for (const Region& region : view.regions()) {
    sum += region.end - region.start;
    if (region.file != kNone && region.kind == 1) sum += view.files()[region.file].size;
    if (region.kind == static_cast<uint32_t>(RegionKind::kShared)) sum += view.objects()[region.object].size;
  }
  for (const Run& run : view.runs()) sum += view.chunks()[run.chunk].length - run.offset - run.length;
  for (const File& file : view.files()) sum += std::strlen(view.text(file.path));
  for (const Object& object : view.objects()) sum += std::strlen(view.text(object.path));
  for (const Descriptor& descriptor : view.descriptors()) sum += std::strlen(view.text(descriptor.path));
  for (const uint32_t group : view.groups()) sum += group;
  for (const uint8_t byte : view.auxv()) sum += byte;
  for (const Pack& pack : view.packs()) sum += pack.size;
  const Identity& identity = view.header().identity;
  return sum + std::strlen(view.text(identity.command)) + std::strlen(view.text(identity.directory)) +
         std::strlen(view.text(identity.executable));
}

// Most random bytes fail at the first field: these are set right so that the rest is reached.
void Repair(uint8_t* bytes, uint64_t size) {
  auto* header = reinterpret_cast<Header*>(bytes);
  header->magic = kMagic;
  header->version = kVersion;
  header->header_size = sizeof(Header);
  header->size = size;
  static constexpr uint32_t kSizes[kSectionCount] = {
      sizeof(Region),   sizeof(Run), sizeof(Chunk), sizeof(File), sizeof(Object), sizeof(Descriptor), 1,
      sizeof(uint32_t), 1,           sizeof(Pack)};
  for (uint32_t i = 0; i < kSectionCount; ++i) header->sections[i].entry_size = kSizes[i];
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const bool repair = (data[0] & 1) != 0;
  std::vector<uint64_t> aligned((size - 1 + 7) / 8 + 1);
  std::memcpy(aligned.data(), data + 1, size - 1);
  auto* bytes = reinterpret_cast<uint8_t*>(aligned.data());
  if (repair && size - 1 >= sizeof(Header)) Repair(bytes, size - 1);
  View view;
  if (View::Open(bytes, size - 1, &view) == nullptr) {
    volatile uint64_t sum = Walk(view);
    (void)sum;
  }
  return 0;
}
