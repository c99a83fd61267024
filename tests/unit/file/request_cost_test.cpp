// What calls cost in requests to the store: the column of shim/file/README.md, row by row.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>

#include "forwarding_store.h"
#include "shim/file/file_system.h"
#include "test_store.h"

namespace elsewhere::file {
namespace {

class CountingStore final : public ForwardingStore {
 public:
  using ForwardingStore::ForwardingStore;
  int Taken() { return requests_.exchange(0); }
  uint64_t BytesSent() { return sent_.exchange(0); }

 private:
  void OnRequest(std::string_view, uint64_t bytes_sent) override {
    ++requests_;
    sent_ += bytes_sent;
  }
  std::atomic<int> requests_{0};
  std::atomic<uint64_t> sent_{0};
};

class RequestCostTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(direct_->Put("d/", "").ok());
    ASSERT_TRUE(direct_->Put("d/small", "small").ok());
    ASSERT_TRUE(direct_->Put("d/large", std::string(40 << 20, 'x')).ok());
    Fresh();
  }
  // A host that remembers nothing.
  void Fresh() {
    static int number = 0;
    counting_ = std::make_shared<CountingStore>(direct_);
    auto context = std::make_shared<FileContext>();
    context->store = counting_;
    context->cache = *FileCache::Open(directory_.path() + "/cache" + std::to_string(number++), 1ull << 30);
    context->workers = std::make_shared<Workers>(4);
    host_ = std::make_shared<FileSystem>(context,
                                         FileSystemOptions{.mount_point = "/data", .remember_ms = 60'000});
  }
  static std::string Read(ObjectFile& file, uint64_t offset, size_t size) {
    std::string text(size, '\0');
    text.resize(*file.Read(text, offset));
    return text;
  }

  store::ScratchDirectory directory_;
  TestStore test_store_;
  std::shared_ptr<store::ObjectStore> direct_ = test_store_.Open();
  std::shared_ptr<CountingStore> counting_;
  std::shared_ptr<FileSystem> host_;
};

TEST_F(RequestCostTest, OpenAndReadOfASmallFileIsOneGet) {
  auto file = host_->Open("d/small", O_RDONLY, 0);
  ASSERT_TRUE(file.ok());
  EXPECT_EQ(Read(**file, 0, 100), "small");
  EXPECT_EQ(counting_->Taken(), 1);
}

TEST_F(RequestCostTest, OpeningAgainAsksWhetherItIsTheSame) {
  auto first = host_->Open("d/small", O_RDONLY, 0);
  counting_->Taken();
  auto second = host_->Open("d/small", O_RDONLY, 0);
  EXPECT_EQ(Read(**second, 0, 100), "small");
  EXPECT_EQ(counting_->Taken(), 1);
  EXPECT_EQ(*first, *second);
}

TEST_F(RequestCostTest, StatIsOneHeadAndThenNothing) {
  ASSERT_TRUE(host_->Stat("d/small").ok());
  EXPECT_EQ(counting_->Taken(), 1);
  ASSERT_TRUE(host_->Stat("d/small").ok());
  EXPECT_EQ(counting_->Taken(), 0);
}

TEST_F(RequestCostTest, StatOfADirectoryOrOfNothing) {
  ASSERT_TRUE(host_->Stat("d").ok());
  EXPECT_EQ(counting_->Taken(), 3);
  EXPECT_FALSE(host_->Stat("d/none").ok());
  EXPECT_EQ(counting_->Taken(), 2);
  EXPECT_FALSE(host_->Stat("d/none").ok());
  EXPECT_EQ(counting_->Taken(), 0);
}

TEST_F(RequestCostTest, ARandomReadIsOneRange) {
  auto file = *host_->Open("d/large", O_RDONLY, 0);
  counting_->Taken();
  EXPECT_EQ(Read(*file, 18'000'000, 4096).size(), 4096u);
  EXPECT_EQ(counting_->Taken(), 1);
  EXPECT_EQ(Read(*file, 18'004'096, 4096).size(), 4096u);
  file.reset();
  host_.reset();  // what was begun in the background is done with
  EXPECT_EQ(counting_->Taken(), 1) << "the neighbour came along, the read-ahead is new";
}

TEST_F(RequestCostTest, ASmallNewFileIsOnePutAtItsClose) {
  ASSERT_TRUE(host_->ReadDirectory("d").ok());
  counting_->Taken();
  auto file = host_->Open("d/new", O_WRONLY | O_CREAT | O_TRUNC, 0644);
  ASSERT_TRUE(file.ok());
  ASSERT_TRUE((*file)->Write("text", 0).ok());
  EXPECT_EQ(counting_->Taken(), 0);
  ASSERT_TRUE((*file)->Flush().ok());
  EXPECT_EQ(counting_->Taken(), 1);
  ASSERT_TRUE((*file)->Flush().ok());
  EXPECT_EQ(counting_->Taken(), 0);
}

TEST_F(RequestCostTest, ReplacingAFileIsHeadAndPut) {
  auto file = host_->Open("d/small", O_WRONLY | O_CREAT | O_TRUNC, 0644);
  ASSERT_TRUE((*file)->Write("text", 0).ok());
  ASSERT_TRUE((*file)->Flush().ok());
  EXPECT_EQ(counting_->Taken(), 2);
}

TEST_F(RequestCostTest, WhoLosesToAnotherHostLooksOnce) {
  auto file = host_->Open("d/small", O_WRONLY | O_APPEND, 0);
  ASSERT_TRUE((*file)->Append(" ours").ok());
  ASSERT_TRUE(direct_->Put("d/small", "theirs").ok());
  counting_->Taken();
  ASSERT_TRUE((*file)->Flush().ok());
  EXPECT_EQ(counting_->Taken(), 3) << "a PUT that is refused, a GET, a PUT";
  EXPECT_EQ(direct_->Get("d/small")->body, "theirs ours");
}

TEST_F(RequestCostTest, AnAppendToALargeFileSendsLittle) {
  auto file = host_->Open("d/large", O_WRONLY, 0);
  counting_->Taken();
  ASSERT_TRUE((*file)->Append(std::string(1024, 'y')).ok());
  ASSERT_TRUE((*file)->Flush().ok());
  EXPECT_EQ(counting_->Taken(), 5) << "begin, copy, part, check, complete";
  EXPECT_EQ(counting_->BytesSent(), 1024u);
}

TEST_F(RequestCostTest, ListingsAreOneRequestPerThousandNames) {
  ASSERT_TRUE(host_->ReadDirectory("d").ok());
  EXPECT_LE(counting_->Taken(), 4) << "three for the directory itself";
  ASSERT_TRUE(host_->ReadDirectory("d").ok());
  EXPECT_EQ(counting_->Taken(), 1);
}

TEST_F(RequestCostTest, ChangesOfAttributesAndNames) {
  ASSERT_TRUE(host_->Stat("d").ok());
  counting_->Taken();
  ASSERT_TRUE(host_->SetMode("d/small", 0600).ok());
  EXPECT_LE(counting_->Taken(), 3) << "looked up, looked at afresh, copied onto itself";
  ASSERT_TRUE(host_->Rename("d/small", "d/other").ok());
  EXPECT_LE(counting_->Taken(), 6);
  ASSERT_TRUE(host_->Unlink("d/other").ok());
  EXPECT_LE(counting_->Taken(), 2);
}

}  // namespace
}  // namespace elsewhere::file
