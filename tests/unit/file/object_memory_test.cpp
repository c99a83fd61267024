// Memory that several hosts have of one file: each byte is that of the host that changed it.
#include <functional>

#include "forwarding_store.h"
#include "hosts.h"

namespace elsewhere::file {
namespace {

// Between the look at a version and its taking over, and while one is sent, something happens.
class InterruptedStore final : public ForwardingStore {
 public:
  using ForwardingStore::ForwardingStore;
  std::function<void()> before_put = [] {};

  Result<store::ObjectInfo> PutPieces(std::string_view key, std::span<const std::string_view> pieces,
                                      const store::PutOptions& options) override {
    before_put();
    return ForwardingStore::PutPieces(key, pieces, options);
  }
};

class ObjectMemoryTest : public HostsTest {
 protected:
  ObjectMemoryTest() {
    auto context = std::make_shared<FileContext>();
    context->store = store_;
    context->cache = *FileCache::Open(directory_.path() + "/cache-interrupted", 1ull << 30);
    context->workers = std::make_shared<Workers>(8);
    interrupted_ = std::make_shared<FileSystem>(context, FileSystemOptions{.mount_point = "/data"});
  }

  static std::shared_ptr<ObjectFile> Map(FileSystem& host) {
    auto file = host.Open("memory", O_RDWR, 0);
    EXPECT_TRUE(file.ok());
    EXPECT_TRUE((*file)->Prepare(0, UINT64_MAX).ok());
    EXPECT_TRUE((*file)->KeepTwin().ok());
    return *file;
  }
  // As memory does it: nobody is told.
  static void Store(ObjectFile& file, uint64_t at, std::string_view bytes) {
    EXPECT_TRUE(PwriteFully(file.fd(), bytes.data(), bytes.size(), at));
  }
  static Status Flush(ObjectFile& file) {
    if (auto noted = file.NoteMemory(); !noted) return noted;
    return file.Flush();
  }

  std::shared_ptr<InterruptedStore> store_ = std::make_shared<InterruptedStore>(test_store_.Open());
  std::shared_ptr<FileSystem> interrupted_, other_ = NewHost("other");
};

TEST_F(ObjectMemoryTest, NeighbouringBytesOfTwoHostsAreBothKept) {
  ASSERT_EQ(CodeOf(WriteFile(*home_, "memory", "........")), 0);
  auto first = Map(*home_), second = Map(*other_);
  Store(*first, 1, "A");
  Store(*second, 2, "B");
  Store(*first, 3, "A");
  ASSERT_EQ(CodeOf(Flush(*first)), 0);
  ASSERT_EQ(CodeOf(Flush(*second)), 0);
  EXPECT_EQ(ReadFile(*home_, "memory"), ".ABA....");
  Store(*first, 7, "A");
  ASSERT_EQ(CodeOf(Flush(*first)), 0);
  EXPECT_EQ(ReadFile(*other_, "memory"), ".ABA...A");
}

TEST_F(ObjectMemoryTest, WhatAHostStoresWhileItTakesAVersionOverIsKept) {
  ASSERT_EQ(CodeOf(WriteFile(*home_, "memory", "........")), 0);
  auto first = Map(*home_), second = Map(*other_);
  Store(*first, 1, "A");
  ASSERT_EQ(CodeOf(Flush(*first)), 0);
  Store(*second, 2, "B");  // nobody has noted it
  ASSERT_EQ(CodeOf(second->Refresh()), 0);
  std::string seen(8, ' ');
  ASSERT_EQ(pread(second->fd(), seen.data(), 8, 0), 8);
  EXPECT_EQ(seen, ".AB.....");
  ASSERT_EQ(CodeOf(Flush(*second)), 0);
  EXPECT_EQ(ReadFile(*home_, "memory"), ".AB.....");
}

TEST_F(ObjectMemoryTest, WhatChangesWhileItIsSentIsSentByTheNextFlush) {
  ASSERT_EQ(CodeOf(WriteFile(*home_, "memory", "........")), 0);
  auto file = Map(*interrupted_);
  Store(*file, 1, "A");
  int sent = 0;
  store_->before_put = [&] {
    // Back to what it was: whoever took the memory for what was sent would not see the difference.
    if (++sent == 1) Store(*file, 1, ".x");
  };
  ASSERT_EQ(CodeOf(Flush(*file)), 0);
  EXPECT_EQ(ReadFile(*home_, "memory"), ".A......");
  ASSERT_EQ(CodeOf(Flush(*file)), 0);
  EXPECT_EQ(ReadFile(*home_, "memory"), "..x.....");
}

TEST_F(ObjectMemoryTest, AFlushThatFailsKeepsTheChanges) {
  ASSERT_EQ(CodeOf(WriteFile(*home_, "memory", "........")), 0);
  auto file = Map(*interrupted_);
  Store(*file, 1, "A");
  store_->before_put = [&, done = false]() mutable {
    if (std::exchange(done, true)) return;
    EXPECT_EQ(CodeOf(WriteFile(*other_, "memory", "......B.")), 0);
  };
  ASSERT_EQ(CodeOf(Flush(*file)), 0);
  EXPECT_EQ(ReadFile(*home_, "memory"), ".A....B.");
}

TEST_F(ObjectMemoryTest, LargeSparseMemoryIsSharedByteByByte) {
  constexpr uint64_t kSize = 20'000'000;
  auto made = home_->Open("memory", O_RDWR | O_CREAT, 0644);
  ASSERT_TRUE((*made)->Truncate(kSize).ok());
  ASSERT_TRUE((*made)->Flush().ok());
  auto first = Map(*home_), second = Map(*other_);
  for (uint64_t at = 0; at < kSize; at += 1'000'000) {
    Store(*first, at, "A");
    Store(*second, at + 1, "B");
  }
  ASSERT_EQ(CodeOf(Flush(*first)), 0);
  ASSERT_EQ(CodeOf(Flush(*second)), 0);
  const std::string all = ReadFile(*home_, "memory");
  ASSERT_EQ(all.size(), kSize);
  for (uint64_t at = 0; at < kSize; at += 1'000'000)
    EXPECT_EQ(all.substr(at, 3), std::string("AB\0", 3)) << at;
}

TEST_F(ObjectMemoryTest, TheSizeThatAnotherHostGaveItIsTaken) {
  ASSERT_EQ(CodeOf(WriteFile(*home_, "memory", "....")), 0);
  auto first = Map(*home_), second = Map(*other_);
  ASSERT_TRUE(first->Write("AAAA", 6).ok());
  ASSERT_EQ(CodeOf(Flush(*first)), 0);
  Store(*second, 0, "B");
  ASSERT_EQ(CodeOf(Flush(*second)), 0);
  EXPECT_EQ(ReadFile(*home_, "memory"), std::string("B...\0\0AAAA", 10));
  ASSERT_TRUE(first->Truncate(2).ok());
  ASSERT_EQ(CodeOf(Flush(*first)), 0);
  ASSERT_EQ(CodeOf(second->Refresh()), 0);
  EXPECT_EQ(second->attributes().size, 2u);
}

}  // namespace
}  // namespace elsewhere::file
