// What calls cost in requests to the store: the column of shim/file/README.md, row by row.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>

#include "shim/file/file_system.h"
#include "test_store.h"

namespace elsewhere::file {
namespace {

// Forwards everything and counts it.
class CountingStore final : public store::ObjectStore {
 public:
  explicit CountingStore(std::shared_ptr<ObjectStore> inner) : inner_(std::move(inner)) {}
  int Taken() { return requests_.exchange(0); }
  uint64_t BytesSent() { return sent_.exchange(0); }

  const std::string& url() const override { return inner_->url(); }
  Result<store::Object> Get(std::string_view key, const store::GetOptions& options) override {
    return ++requests_, inner_->Get(key, options);
  }
  Result<uint64_t> GetInto(std::string_view key, std::span<char> into,
                           const store::GetOptions& options) override {
    return ++requests_, inner_->GetInto(key, into, options);
  }
  Result<store::ObjectInfo> Head(std::string_view key) override { return ++requests_, inner_->Head(key); }
  Result<store::ObjectInfo> PutPieces(std::string_view key, std::span<const std::string_view> pieces,
                                      const store::PutOptions& options) override {
    for (auto piece : pieces) sent_ += piece.size();
    return ++requests_, inner_->PutPieces(key, pieces, options);
  }
  Result<store::ObjectInfo> Copy(std::string_view from, std::string_view to,
                                 const store::CopyOptions& options) override {
    return ++requests_, inner_->Copy(from, to, options);
  }
  Status Delete(std::string_view key) override { return ++requests_, inner_->Delete(key); }
  Result<uint64_t> DeleteMany(std::span<const std::string> keys) override {
    return ++requests_, inner_->DeleteMany(keys);
  }
  Result<store::ListPage> List(const store::ListRequest& request) override {
    return ++requests_, inner_->List(request);
  }
  Result<std::string> BeginUpload(std::string_view key, const store::PutOptions& options) override {
    return ++requests_, inner_->BeginUpload(key, options);
  }
  Result<store::UploadPart> PutPart(std::string_view key, std::string_view id, unsigned number,
                                    std::string_view body) override {
    sent_ += body.size();
    return ++requests_, inner_->PutPart(key, id, number, body);
  }
  Result<store::UploadPart> CopyPart(std::string_view key, std::string_view id, unsigned number,
                                     std::string_view from, store::Range range,
                                     std::string_view if_match) override {
    return ++requests_, inner_->CopyPart(key, id, number, from, range, if_match);
  }
  Result<store::ObjectInfo> CompleteUpload(std::string_view key, std::string_view id,
                                           std::span<const store::UploadPart> parts,
                                           const store::PutOptions& options) override {
    return ++requests_, inner_->CompleteUpload(key, id, parts, options);
  }
  Status AbortUpload(std::string_view key, std::string_view id) override {
    return ++requests_, inner_->AbortUpload(key, id);
  }
  Result<std::vector<store::UploadEntry>> ListUploads(std::string_view prefix) override {
    return inner_->ListUploads(prefix);
  }

 private:
  const std::shared_ptr<ObjectStore> inner_;
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
  auto file = host_->Open("d/large", O_RDONLY, 0);
  counting_->Taken();
  EXPECT_EQ(Read(**file, 20'000'000, 4096).size(), 4096u);
  EXPECT_EQ(counting_->Taken(), 1);
  EXPECT_EQ(Read(**file, 20'004'096, 4096).size(), 4096u);
  EXPECT_LE(counting_->Taken(), 1) << "the neighbour came along, at most the read-ahead is new";
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
