// Reads a manifest that may contain anything: View::Open checks every number against every other before it
// succeeds, so that code behind it follows indices and offsets without looking. Fuzzed (tests/fuzz).
//
// Freestanding, no allocation; a View does not own the bytes, which must be 8-byte aligned, must outlive it,
// and must not change under it (seal the memfd, or copy first). Thread-safe as any const object.
#pragma once

#include "shim/wire/image.h"

namespace elsewhere::image {

template <class T>
struct Span {
  T* data = nullptr;
  uint32_t count = 0;

  T* begin() const { return data; }
  T* end() const { return data + count; }
  T& operator[](uint32_t index) const { return data[index]; }
  uint32_t size() const { return count; }
  bool empty() const { return count == 0; }
};

class View {
 public:
  // Returns nullptr and fills in *view, or one line that says what is wrong.
  static const char* Open(const void* bytes, uint64_t size, View* view) {
    if (size < sizeof(Header)) return "the manifest is shorter than its header";
    if (size > kMaxManifest) return "the manifest is larger than the limit";
    if (reinterpret_cast<uintptr_t>(bytes) % 8 != 0) return "the manifest is not aligned";
    view->bytes_ = static_cast<const uint8_t*>(bytes);
    view->size_ = size;
    return view->Check();
  }

  const Header& header() const { return *reinterpret_cast<const Header*>(bytes_); }
  Span<const Region> regions() const { return Get<Region>(Section::kRegions); }
  Span<const Run> runs() const { return Get<Run>(Section::kRuns); }
  Span<const Chunk> chunks() const { return Get<Chunk>(Section::kChunks); }
  Span<const File> files() const { return Get<File>(Section::kFiles); }
  Span<const Object> objects() const { return Get<Object>(Section::kObjects); }
  Span<const Descriptor> descriptors() const { return Get<Descriptor>(Section::kDescriptors); }
  Span<const uint32_t> groups() const { return Get<uint32_t>(Section::kGroups); }
  Span<const uint8_t> auxv() const { return Get<uint8_t>(Section::kAuxv); }
  Span<const Pack> packs() const { return Get<Pack>(Section::kPacks); }
  // Terminated; valid for every string offset of a checked manifest.
  const char* text(uint32_t offset) const {
    return reinterpret_cast<const char*>(Get<uint8_t>(Section::kStrings).data) + offset;
  }

  const uint8_t* bytes() const { return bytes_; }
  uint64_t size() const { return size_; }

 private:
  template <class T>
  Span<const T> Get(Section section) const {
    const SectionEntry& entry = header().sections[static_cast<uint32_t>(section)];
    return {reinterpret_cast<const T*>(bytes_ + entry.offset), entry.count};
  }

  bool SectionFits(Section section, uint64_t entry_size, uint64_t limit) const {
    const SectionEntry& entry = header().sections[static_cast<uint32_t>(section)];
    return entry.entry_size == entry_size && entry.count <= limit && entry.offset % 8 == 0 &&
           entry.offset >= sizeof(Header) && entry.offset <= size_ &&
           entry.count * entry_size <= size_ - entry.offset;
  }

  bool IsText(uint32_t offset) const { return offset < Get<uint8_t>(Section::kStrings).count; }

  static bool IsPages(uint64_t start, uint64_t end) {
    return start < end && end <= kAddressLimit && start % kPageSize == 0 && end % kPageSize == 0;
  }

  const char* Check() const {
    const Header& head = header();
    if (head.magic != kMagic) return "this is not a manifest";
    if (head.version != kVersion) return "the manifest has another version";
    if (head.header_size != sizeof(Header)) return "the manifest's header has another size";
    if (head.size != size_) return "the manifest is cut short";
    if (const char* wrong = CheckSections()) return wrong;
    if (const char* wrong = CheckTexts()) return wrong;
    if (const char* wrong = CheckRegions()) return wrong;
    if (const char* wrong = CheckChunks()) return wrong;
    if (const char* wrong = CheckRuns()) return wrong;
    return CheckDescriptors();
  }

  const char* CheckSections() const {
    const bool fit = SectionFits(Section::kRegions, sizeof(Region), kMaxRegions) &&
                     SectionFits(Section::kRuns, sizeof(Run), kMaxRuns) &&
                     SectionFits(Section::kChunks, sizeof(Chunk), kMaxChunks) &&
                     SectionFits(Section::kFiles, sizeof(File), kMaxFiles) &&
                     SectionFits(Section::kObjects, sizeof(Object), kMaxObjects) &&
                     SectionFits(Section::kDescriptors, sizeof(Descriptor), kMaxDescriptors) &&
                     SectionFits(Section::kStrings, 1, kMaxStrings) &&
                     SectionFits(Section::kGroups, sizeof(uint32_t), kMaxGroups) &&
                     SectionFits(Section::kAuxv, 1, kMaxAuxv) &&
                     SectionFits(Section::kPacks, sizeof(Pack), kMaxPacks);
    return fit ? nullptr : "a section of the manifest lies outside it";
  }

  const char* CheckTexts() const {
    const Span<const uint8_t> strings = Get<uint8_t>(Section::kStrings);
    if (strings.empty() || strings[0] != 0 || strings[strings.count - 1] != 0) {
      return "the manifest's strings are not terminated";
    }
    const Identity& identity = header().identity;
    if (!IsText(identity.command) || !IsText(identity.directory) || !IsText(identity.executable)) {
      return "the manifest's identity names a string outside the strings";
    }
    for (const File& file : files()) {
      if (!IsText(file.path)) return "a file names a string outside the strings";
    }
    for (const Object& object : objects()) {
      if (!IsText(object.path)) return "an object names a string outside the strings";
    }
    return nullptr;
  }

  const char* CheckRegions() const {
    uint64_t previous = 0;
    for (const Region& region : regions()) {
      if (!IsPages(region.start, region.end) || region.start < previous)
        return "regions overlap or are out of order";
      previous = region.end;
      if (region.kind >= kRegionKindCount) return "a region has an unknown kind";
      if ((region.protection & ~7U) != 0) return "a region has unknown protection bits";
      if (region.file_offset % kPageSize != 0 || region.file_offset > INT64_MAX - kAddressLimit) {
        return "a region has a bad file offset";
      }
      const auto kind = static_cast<RegionKind>(region.kind);
      const bool needs_file = kind == RegionKind::kFile || kind == RegionKind::kSharedFile;
      if (needs_file && region.file >= files().count) return "a region names an unknown file";
      if (kind == RegionKind::kShared && region.object >= objects().count)
        return "a region names an unknown object";
      if (kind == RegionKind::kVdso && region.source > 2) return "a region names an unknown part of the vDSO";
    }
    return nullptr;
  }

  const char* CheckChunks() const {
    for (const Chunk& chunk : chunks()) {
      if (chunk.length == 0 || chunk.length > kMaxChunk || chunk.length % kPageSize != 0) {
        return "a chunk has a bad length";
      }
      if (chunk.offset % kPageSize != 0 || chunk.offset > INT64_MAX - kMaxChunk)
        return "a chunk has a bad offset";
    }
    return nullptr;
  }

  const char* CheckRuns() const {
    uint64_t previous = 0;
    uint32_t region = 0;
    const Span<const Region> all = regions();
    for (const Run& run : runs()) {
      const uint64_t end = run.address + run.length;
      if (run.length == 0 || run.address >= kAddressLimit || !IsPages(run.address, end) ||
          run.address < previous) {
        return "runs overlap or are out of order";
      }
      previous = end;
      while (region < all.count && all[region].end <= run.address) ++region;
      if (region == all.count || run.address < all[region].start || end > all[region].end) {
        return "a run lies outside the regions";
      }
      if (!HoldsRuns(static_cast<RegionKind>(all[region].kind)))
        return "a run lies in a region that has none";
      if (run.chunk >= chunks().count) return "a run names an unknown chunk";
      const Chunk& chunk = chunks()[run.chunk];
      if (run.offset % kPageSize != 0 || run.offset > chunk.length ||
          run.length > chunk.length - run.offset) {
        return "a run reaches beyond its chunk";
      }
    }
    return nullptr;
  }

  static bool HoldsRuns(RegionKind kind) {
    return kind == RegionKind::kAnonymous || kind == RegionKind::kFile || kind == RegionKind::kStack ||
           kind == RegionKind::kHeap;
  }

  const char* CheckDescriptors() const {
    int32_t previous = -1;
    for (const Descriptor& descriptor : descriptors()) {
      if (descriptor.number <= previous) return "descriptors are out of order";
      previous = descriptor.number;
      if (!IsText(descriptor.path)) return "a descriptor names a string outside the strings";
    }
    return nullptr;
  }

  const uint8_t* bytes_ = nullptr;
  uint64_t size_ = 0;
};

// The same bytes, for the agents that patch a checked manifest in place.
class Editor {
 public:
  explicit Editor(const View& view) : view_(view) {}

  Header& header() const { return *const_cast<Header*>(&view_.header()); }
  Span<Region> regions() const { return Mutable(view_.regions()); }
  Span<Chunk> chunks() const { return Mutable(view_.chunks()); }
  Span<Object> objects() const { return Mutable(view_.objects()); }
  Span<Descriptor> descriptors() const { return Mutable(view_.descriptors()); }

 private:
  template <class T>
  static Span<T> Mutable(Span<const T> span) {
    return {const_cast<T*>(span.data), span.count};
  }

  View view_;
};

}  // namespace elsewhere::image
