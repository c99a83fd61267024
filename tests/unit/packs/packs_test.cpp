#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <set>

#include "shim/image/cpu_features.h"
#include "shim/image/pack_cache.h"
#include "shim/image/pack_catalog.h"

namespace elsewhere::image {
namespace {

// A manifest that holds nothing but chunks.
std::vector<uint8_t> ManifestOf(const std::vector<Chunk>& chunks) {
  const size_t strings = sizeof(Header);
  const size_t list = strings + 8;
  std::vector<uint8_t> bytes(list + chunks.size() * sizeof(Chunk));
  auto* header = reinterpret_cast<Header*>(bytes.data());
  header->magic = kMagic;
  header->version = kVersion;
  header->header_size = sizeof(Header);
  header->size = bytes.size();
  const uint32_t sizes[kSectionCount] = {
      sizeof(Region),   sizeof(Run), sizeof(Chunk), sizeof(File), sizeof(Object), sizeof(Descriptor), 1,
      sizeof(uint32_t), 1,           sizeof(Pack)};
  for (uint32_t i = 0; i < kSectionCount; ++i) header->sections[i] = {strings, 0, sizes[i]};
  header->sections[static_cast<uint32_t>(Section::kStrings)].count = 1;
  header->sections[static_cast<uint32_t>(Section::kChunks)] = {list, static_cast<uint32_t>(chunks.size()),
                                                               sizeof(Chunk)};
  std::memcpy(bytes.data() + list, chunks.data(), chunks.size() * sizeof(Chunk));
  return bytes;
}

class PackCatalogTest : public testing::Test {
 protected:
  void SetUp() override {
    auto arena = ArenaFile::Create(64 << 20);
    ASSERT_TRUE(arena.ok()) << arena.error().message;
    arena_ = *arena;
  }

  // A chunk filled with `byte`, as a deputy leaves it.
  Chunk AddChunk(uint8_t byte, uint32_t length) {
    const uint64_t offset = arena::Claim(arena_->arena(), length);
    EXPECT_NE(offset, 0U);
    std::memset(const_cast<uint8_t*>(arena_->arena().data) + offset, byte, length);
    return Chunk{{byte, 1}, offset, length, kNone};
  }

  static View Open(const std::vector<uint8_t>& manifest) {
    View view;
    const char* wrong = View::Open(manifest.data(), manifest.size(), &view);
    EXPECT_EQ(wrong, nullptr) << wrong;
    return view;
  }

  store::SessionKey key_ = *store::SessionKey::Generate();
  std::shared_ptr<ArenaFile> arena_;
};

TEST_F(PackCatalogTest, NewChunksBecomeOnePackAndKnownOnesCostNothing) {
  PackCatalog catalog(arena_, key_);
  const Chunk a = AddChunk('a', 65536);
  const Chunk b = AddChunk('b', 4096);
  const auto first_manifest = ManifestOf({a, b});
  auto first = catalog.Assign(Open(first_manifest));
  ASSERT_TRUE(first.ok());
  ASSERT_EQ(first->writes.size(), 1U);
  EXPECT_EQ(first->shipped_bytes, 69632U);
  EXPECT_EQ(first->waits, std::vector<PackNumber>{first->writes[0].number});
  const View view = Open(first->manifest);
  ASSERT_EQ(view.packs().size(), 1U);
  EXPECT_EQ(view.packs()[0].size, 69632U);
  EXPECT_EQ(PackKey(view.packs()[0]), first->writes[0].key);
  EXPECT_TRUE(first->writes[0].key.starts_with(PackPrefix(key_)));
  EXPECT_EQ(view.chunks()[1].source, 0U);
  EXPECT_EQ(view.chunks()[1].offset, 65536U);

  catalog.Stored(first->writes[0].number);
  const Chunk c = AddChunk('c', 4096);
  const auto second_manifest = ManifestOf({c, a});
  auto second = catalog.Assign(Open(second_manifest));
  ASSERT_TRUE(second.ok());
  EXPECT_EQ(second->captured_bytes, 69632U);
  EXPECT_EQ(second->shipped_bytes, 4096U);
  EXPECT_EQ(second->waits.size(), 1U);
  EXPECT_EQ(Open(second->manifest).packs().size(), 2U);
}

TEST_F(PackCatalogTest, AnImageWaitsForPacksThatAnotherOneUploads) {
  PackCatalog catalog(arena_, key_);
  const auto manifest = ManifestOf({AddChunk('a', 4096)});
  auto first = catalog.Assign(Open(manifest));
  auto second = catalog.Assign(Open(manifest));
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_TRUE(second->writes.empty());
  EXPECT_EQ(second->waits, first->waits);
}

TEST_F(PackCatalogTest, ChunksOfAFailedPackAreShippedAgain) {
  PackCatalog catalog(arena_, key_);
  const auto manifest = ManifestOf({AddChunk('a', 4096)});
  auto first = catalog.Assign(Open(manifest));
  ASSERT_TRUE(first.ok());
  catalog.Failed(first->writes[0].number);
  auto second = catalog.Assign(Open(manifest));
  ASSERT_TRUE(second.ok());
  ASSERT_EQ(second->writes.size(), 1U);
  EXPECT_NE(second->writes[0].key, first->writes[0].key);
}

TEST_F(PackCatalogTest, PacksAreSplit) {
  PackCatalog catalog(arena_, key_);
  std::vector<Chunk> chunks;
  for (int i = 0; i < 20; ++i) chunks.push_back(AddChunk(static_cast<uint8_t>(i), 1 << 20));
  const auto manifest = ManifestOf(chunks);
  auto plan = catalog.Assign(Open(manifest));
  ASSERT_TRUE(plan.ok());
  ASSERT_EQ(plan->writes.size(), 2U);
  EXPECT_EQ(plan->writes[0].size, kPackSize);
  EXPECT_NE(plan->writes[0].key, plan->writes[1].key);
  EXPECT_EQ(Open(plan->manifest).chunks()[19].source, 1U);
}

TEST_F(PackCatalogTest, AChunkOutsideTheArenaIsRefused) {
  PackCatalog catalog(arena_, key_);
  const auto outside = ManifestOf({Chunk{{1, 2}, 64 << 20, 4096, kNone}});
  EXPECT_EQ(catalog.Assign(Open(outside)).error().code, EPROTO);
  const auto tables = ManifestOf({Chunk{{1, 2}, 0, 4096, kNone}});
  EXPECT_EQ(catalog.Assign(Open(tables)).error().code, EPROTO);
}

TEST_F(PackCatalogTest, AWorkerMapsWhatHomePutSealedOrNot) {
  char directory[] = "/tmp/packs_test.XXXXXX";
  ASSERT_NE(mkdtemp(directory), nullptr);
  const std::string base = directory;
  auto store = store::OpenStore("dir:" + base + "/store");
  auto cache_store = store::OpenStore("dir:" + base + "/cache");
  ASSERT_TRUE(store.ok() && cache_store.ok());
  PackCatalog catalog(arena_, key_);
  const auto manifest = ManifestOf({AddChunk('x', 4096)});
  auto plan = catalog.Assign(Open(manifest));
  ASSERT_TRUE(plan.ok());
  const Pack pack = Open(plan->manifest).packs()[0];
  for (const bool sealed : {false, true}) {
    const auto& write = plan->writes[0];
    auto bytes = sealed ? *key_.Seal(write.pieces[0], write.key) : std::string(write.pieces[0]);
    ASSERT_TRUE((*store)->Put(write.key, bytes).ok());
    auto async = store::AsyncStore::Create(*store);
    ASSERT_TRUE(async.ok());
    PackCache cache(**async, *cache_store, key_, {.sealed = sealed, .max_open = 16});
    bool got = false;
    cache.Get(pack, [&](Result<PackFile> file) {
      ASSERT_TRUE(file.ok()) << file.error().message;
      EXPECT_EQ(file->fetched_bytes, 4096U);
      char first = 0;
      EXPECT_EQ(pread(file->descriptor->get(), &first, 1, static_cast<off_t>(file->offset)), 1);
      EXPECT_EQ(first, 'x');
      got = true;
    });
    while (!got && (*async)->pending() > 0) (*async)->Drain();
    EXPECT_TRUE(got);
  }
  ASSERT_TRUE((*store)->DeletePrefix("packs/").ok());
  ASSERT_TRUE((*cache_store)->DeletePrefix("packs/").ok());
  ASSERT_EQ(system(("rm -r " + base).c_str()), 0);
}

TEST(CpuFeatures, AnImageRunsOnlyWhereEveryFeatureIs) {
  const CpuFeatures here = ThisCpu();
  EXPECT_TRUE(Runs(here, here));
  CpuFeatures poorer = here;
  poorer[0] &= poorer[0] - 1;
  EXPECT_FALSE(Runs(here, poorer));
  EXPECT_TRUE(Runs(poorer, here));
}

}  // namespace
}  // namespace elsewhere::image
