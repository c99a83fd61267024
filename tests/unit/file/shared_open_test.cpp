// All who open a file on one host have the same local file, however fast other hosts replace the object.
#include <functional>

#include "forwarding_store.h"
#include "hosts.h"

namespace elsewhere::file {
namespace {

// Before content is fetched, something happens.
class OvertakenStore final : public ForwardingStore {
 public:
  using ForwardingStore::ForwardingStore;
  std::function<void()> before_fetch = [] {};

  Result<uint64_t> GetInto(std::string_view key, std::span<char> into,
                           const store::GetOptions& options) override {
    before_fetch();
    return ForwardingStore::GetInto(key, into, options);
  }
};

class SharedOpenTest : public HostsTest {
 protected:
  SharedOpenTest() {
    auto context = std::make_shared<FileContext>();
    context->store = store_;
    context->cache = *FileCache::Open(directory_.path() + "/cache-overtaken", 1ull << 30);
    context->workers = std::make_shared<Workers>(8);
    overtaken_ = std::make_shared<FileSystem>(context, FileSystemOptions{.mount_point = "/data"});
  }

  std::shared_ptr<OvertakenStore> store_ = std::make_shared<OvertakenStore>(test_store_.Open());
  std::shared_ptr<FileSystem> overtaken_;
};

TEST_F(SharedOpenTest, AFileThatIsReplacedWhileItIsOpenedAgainIsTheSame) {
  ASSERT_EQ(CodeOf(WriteFile(*home_, "file", "0")), 0);
  auto first = overtaken_->Open("file", O_RDWR, 0);
  ASSERT_TRUE(first.ok());
  ASSERT_EQ(CodeOf(WriteFile(*home_, "file", "1")), 0);
  int version = 1;
  store_->before_fetch = [&] {
    if (version < 4) {
      EXPECT_EQ(CodeOf(WriteFile(*home_, "file", std::to_string(++version))), 0);
    }
  };
  auto second = overtaken_->Open("file", O_RDWR, 0);
  ASSERT_TRUE(second.ok()) << second.error().message;
  EXPECT_EQ(*first, *second);
  EXPECT_EQ(version, 4);
  EXPECT_EQ(ReadFile(*overtaken_, "file"), "4");
}

TEST_F(SharedOpenTest, AFileThatIsNeverTheSameForLongIsNotOpenedBesideItself) {
  ASSERT_EQ(CodeOf(WriteFile(*home_, "file", "0")), 0);
  auto first = overtaken_->Open("file", O_RDWR, 0);
  ASSERT_TRUE(first.ok());
  ASSERT_EQ(CodeOf(WriteFile(*home_, "file", "a")), 0);
  store_->before_fetch = [&, version = 0]() mutable {
    EXPECT_EQ(CodeOf(WriteFile(*home_, "file", std::to_string(++version))), 0);
  };
  EXPECT_EQ(CodeOf(overtaken_->Open("file", O_RDWR, 0)), ESTALE);
}

}  // namespace
}  // namespace elsewhere::file
