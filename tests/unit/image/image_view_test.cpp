// The reader of manifests: accepts what the format allows and survives everything else.
#include "shim/wire/image_view.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

namespace elsewhere::image {
namespace {

// A manifest with two of everything, built section by section.
class Manifest {
 public:
  Manifest() {
    bytes_.resize(sizeof(Header) / 8);
    const Region regions[] = {{0x10000, 0x30000, 0, 3, 0, kNone, kNone, kNone, 0},
                              {0x40000, 0x41000, 0x2000, 5, 1, 0, kNone, kNone, 0}};
    const Run runs[] = {{0x11000, 0x2000, 0, 0x1000, 0}, {0x40000, 0x1000, 1, 0, 0}};
    const Chunk chunks[] = {{{1, 2}, 0x10000, 0x4000, kNone}, {{3, 4}, 0x20000, 0x1000, kNone}};
    const File files[] = {{1, 2, 3, 4, 5, 1}};
    const Object objects[] = {{1, 2, 0x1000, 1, kNone}};
    Descriptor descriptors[2] = {};
    descriptors[0].number = 0;
    descriptors[1].number = 7;
    Add(Section::kRegions, regions, 2);
    Add(Section::kRuns, runs, 2);
    Add(Section::kChunks, chunks, 2);
    Add(Section::kFiles, files, 1);
    Add(Section::kObjects, objects, 1);
    Add(Section::kDescriptors, descriptors, 2);
    Add(Section::kStrings, "\0/some/path", 12);
    const uint32_t groups[] = {1, 2};
    Add(Section::kGroups, groups, 2);
    Add(Section::kAuxv, "auxv", 4);
    const Pack packs[] = {{{9}, 4096}};
    Add(Section::kPacks, packs, 1);
    header()->magic = kMagic;
    header()->version = kVersion;
    header()->header_size = sizeof(Header);
    header()->size = size();
  }

  Header* header() { return reinterpret_cast<Header*>(bytes_.data()); }
  template <class T>
  T* section(Section which) {
    return reinterpret_cast<T*>(data() + header()->sections[static_cast<uint32_t>(which)].offset);
  }
  uint8_t* data() { return reinterpret_cast<uint8_t*>(bytes_.data()); }
  uint64_t size() const { return bytes_.size() * 8; }
  const char* Open(View* view) { return View::Open(data(), size(), view); }
  const char* Open() {
    View view;
    return Open(&view);
  }

 private:
  template <class T>
  void Add(Section which, const T* entries, uint32_t count) {
    const uint64_t offset = size();
    bytes_.resize(bytes_.size() + (sizeof(T) * count + 7) / 8);
    std::memcpy(data() + offset, entries, sizeof(T) * count);
    header()->sections[static_cast<uint32_t>(which)] = {offset, count, sizeof(T)};
  }

  std::vector<uint64_t> bytes_;
};

TEST(ImageView, ReadsWhatIsThere) {
  Manifest manifest;
  View view;
  ASSERT_EQ(manifest.Open(&view), nullptr);
  EXPECT_EQ(view.regions().size(), 2U);
  EXPECT_EQ(view.runs()[0].address, 0x11000U);
  EXPECT_STREQ(view.text(view.files()[0].path), "/some/path");
  EXPECT_STREQ(view.text(0), "");
  Editor(view).chunks()[1].source = 3;
  EXPECT_EQ(view.chunks()[1].source, 3U);
}

TEST(ImageView, RefusesWhatPointsOutside) {
  const auto refuses = [](auto change) {
    Manifest manifest;
    change(manifest);
    EXPECT_NE(manifest.Open(), nullptr);
  };
  refuses([](Manifest& m) { m.header()->magic ^= 1; });
  refuses([](Manifest& m) { m.header()->version += 1; });
  refuses([](Manifest& m) { m.header()->size += 8; });
  refuses([](Manifest& m) { m.header()->sections[0].offset = m.size(); });
  refuses([](Manifest& m) { m.header()->sections[0].offset = UINT64_MAX - 7; });
  refuses([](Manifest& m) { m.header()->sections[0].count = 0xffffffff; });
  refuses([](Manifest& m) { m.header()->sections[1].entry_size = 0; });
  refuses([](Manifest& m) { m.header()->identity.directory = 12; });
  refuses([](Manifest& m) { m.section<char>(Section::kStrings)[11] = 'x'; });
  refuses([](Manifest& m) { m.section<Region>(Section::kRegions)[0].end = 0x41000; });
  refuses([](Manifest& m) { m.section<Region>(Section::kRegions)[1].end = kAddressLimit + 0x1000; });
  refuses([](Manifest& m) { m.section<Region>(Section::kRegions)[1].file = 1; });
  refuses([](Manifest& m) { m.section<Region>(Section::kRegions)[1].kind = kRegionKindCount; });
  refuses([](Manifest& m) { m.section<Region>(Section::kRegions)[0].kind = 5; });
  refuses([](Manifest& m) { m.section<image::Run>(Section::kRuns)[0].length = 0x4000; });
  refuses([](Manifest& m) { m.section<image::Run>(Section::kRuns)[0].length = 0; });
  refuses([](Manifest& m) { m.section<image::Run>(Section::kRuns)[0].address = 0x2f000; });
  refuses([](Manifest& m) { m.section<image::Run>(Section::kRuns)[0].address = UINT64_MAX - 0xfff; });
  refuses([](Manifest& m) { m.section<image::Run>(Section::kRuns)[1].chunk = 2; });
  refuses([](Manifest& m) { m.section<Chunk>(Section::kChunks)[0].length = 0xffffffff; });
  refuses([](Manifest& m) { m.section<Chunk>(Section::kChunks)[0].offset = 5; });
  refuses([](Manifest& m) { m.section<Descriptor>(Section::kDescriptors)[1].number = 0; });
  refuses([](Manifest& m) { m.section<Descriptor>(Section::kDescriptors)[1].path = 99; });
  View view;
  Manifest manifest;
  EXPECT_NE(View::Open(manifest.data(), 0, &view), nullptr);
  EXPECT_NE(View::Open(manifest.data(), sizeof(Header), &view), nullptr);
  EXPECT_NE(View::Open(manifest.data() + 1, manifest.size() - 1, &view), nullptr);
}

// Reads everything that an accepted manifest promises; the sanitizers watch.
uint64_t Walk(const View& view) {
  uint64_t sum = 0;
  for (const Run& run : view.runs()) sum += view.chunks()[run.chunk].length;
  for (const File& file : view.files()) sum += std::strlen(view.text(file.path));
  for (const Object& object : view.objects()) sum += std::strlen(view.text(object.path));
  for (const Descriptor& descriptor : view.descriptors()) sum += std::strlen(view.text(descriptor.path));
  for (const uint32_t group : view.groups()) sum += group;
  for (const uint8_t byte : view.auxv()) sum += byte;
  for (const Pack& pack : view.packs()) sum += pack.size;
  return sum + std::strlen(view.text(view.header().identity.command));
}

TEST(ImageView, SurvivesDamage) {
  std::mt19937_64 random(1);
  uint64_t accepted = 0;
  uint64_t sum = 0;
  for (int round = 0; round < 100000; ++round) {
    Manifest manifest;
    for (uint64_t change = random() % 4 + 1; change > 0; --change) {
      // Most bytes of the header mean nothing to the reader.
      const uint64_t at = random() % 2 == 0 ? random() % 200 : random() % manifest.size();
      manifest.data()[at] = random() % 4 == 0 ? 0xff : static_cast<uint8_t>(random());
    }
    View view;
    if (manifest.Open(&view) != nullptr) continue;
    ++accepted;
    sum += Walk(view);
  }
  EXPECT_GT(accepted, 1000U);
  EXPECT_GT(sum, 0U);
}

}  // namespace
}  // namespace elsewhere::image
