// What is open on one host while another removes, replaces or renames it.
#include <thread>

#include "forwarding_store.h"
#include "hosts.h"

namespace elsewhere::file {
namespace {

// Refuses the requests that change names, when it is told to.
class RefusingStore final : public ForwardingStore {
 public:
  using ForwardingStore::ForwardingStore;
  bool refuses = false;

 private:
  std::optional<Error> Refuse(std::string_view verb) override {
    if (!refuses || (verb != "DELETE" && verb != "COPY")) return std::nullopt;
    return Error{EIO, "refused"};
  }
};

// Asks one other host, as agents do by messages; `between`: when it has answered.
class Other final : public OtherHolders {
 public:
  explicit Other(FileSystem& host) : host_(host) {}
  std::function<void()> between = [] {};

  Result<uint64_t> Leaves(const std::string& from, const std::string& to) override {
    from_ = from;
    to_ = to;
    held_ = host_.OpenUnder(from, to);
    if (auto kept = FileSystem::Keep(held_); !kept) return kept.error();
    between();
    return 1;
  }
  void Settled(uint64_t, bool done) override { host_.Settle(held_, from_, to_, done); }

 private:
  FileSystem& host_;
  std::string from_, to_;
  std::vector<FileSystem::Held> held_;
};

class DepartureTest : public HostsTest {
 protected:
  DepartureTest() {
    auto context = std::make_shared<FileContext>();
    context->store = store_;
    context->cache = *FileCache::Open(directory_.path() + "/cache-remover", 1ull << 30);
    context->workers = std::make_shared<Workers>(8);
    remover_ = std::make_shared<FileSystem>(context, FileSystemOptions{.mount_point = "/data"});
    remover_->SetOthers(&other_);
  }
  // Open on a host that has its beginning only.
  std::shared_ptr<ObjectFile> Hold(const std::string& path) {
    EXPECT_TRUE(WriteFile(*home_, path, content_).ok());
    return *holder_->Open(path, O_RDWR, 0);
  }
  std::string ContentOf(ObjectFile& file) {
    std::string text(file.attributes().size, '\0');
    auto got = file.Read(text, 0);
    return got ? text : "error: " + got.error().message;
  }

  const std::string content_ = std::string(1'000'000, 'c');
  std::shared_ptr<RefusingStore> store_ = std::make_shared<RefusingStore>(test_store_.Open());
  std::shared_ptr<FileSystem> holder_ = NewHost("holder"), remover_;
  Other other_{*holder_};
};

TEST_F(DepartureTest, ARemovedFileLivesOnForItsHolders) {
  auto file = Hold("a");
  ASSERT_EQ(CodeOf(remover_->Unlink("a")), 0);
  EXPECT_TRUE(ContentOf(*file) == content_);
  ASSERT_TRUE(file->Write("x", 0).ok());
  EXPECT_EQ(CodeOf(file->Flush()), 0);
  EXPECT_EQ(CodeOf(NewHost("third")->Stat("a")), ENOENT);
}

TEST_F(DepartureTest, AReplacedFileLivesOnAndItsChangesAreNotLaidOverTheNewOne) {
  auto file = Hold("a");
  ASSERT_TRUE(WriteFile(*home_, "b", "new").ok());
  ASSERT_TRUE(file->Write("changed", 0).ok());
  ASSERT_EQ(CodeOf(remover_->Rename("b", "a")), 0);
  EXPECT_EQ(CodeOf(file->Flush()), 0);
  EXPECT_EQ(ContentOf(*file), "changed" + content_.substr(7));
  EXPECT_EQ(ReadFile(*NewHost("third"), "a"), "new");
  EXPECT_EQ(ReadFile(*holder_, "a"), "new");
}

TEST_F(DepartureTest, ARenamedFileIsStoredUnderItsNewName) {
  ASSERT_TRUE(home_->MakeDirectory("d", 0755).ok());
  auto file = Hold("d/a");
  ASSERT_TRUE(file->Write("changed", 0).ok());
  ASSERT_EQ(CodeOf(remover_->Rename("d/a", "d/b")), 0);
  ASSERT_EQ(CodeOf(remover_->Rename("d", "e")), 0);
  EXPECT_EQ(CodeOf(file->Flush()), 0);
  EXPECT_EQ(file->key(), "e/b");
  EXPECT_EQ(ReadFile(*NewHost("third"), "e/b"), "changed" + content_.substr(7));
  EXPECT_EQ(CodeOf(NewHost("fourth")->Stat("d/a")), ENOENT);
}

TEST_F(DepartureTest, WhatIsFlushedMeanwhileWaits) {
  auto file = Hold("a");
  ASSERT_TRUE(file->Write("changed", 0).ok());
  std::thread flushes;
  other_.between = [&] { flushes = std::thread([&] { EXPECT_EQ(CodeOf(file->Flush()), 0); }); };
  EXPECT_EQ(CodeOf(remover_->Rename("a", "b")), 0);
  flushes.join();
  EXPECT_EQ(ReadFile(*NewHost("third"), "b"), "changed" + content_.substr(7));
  EXPECT_EQ(CodeOf(NewHost("fourth")->Stat("a")), ENOENT);
}

TEST_F(DepartureTest, WhatCannotBeRemovedIsStored) {
  auto file = Hold("a"), replaced = Hold("b");
  auto own = *remover_->Open("a", O_RDWR, 0), own_replaced = *remover_->Open("b", O_RDWR, 0);
  ASSERT_TRUE(file->Write("holder", 0).ok());
  ASSERT_TRUE(own->Write("remover", 100).ok());
  ASSERT_TRUE(own_replaced->Write("remover", 100).ok());
  store_->refuses = true;
  EXPECT_EQ(CodeOf(remover_->Unlink("a")), EIO);
  EXPECT_EQ(CodeOf(remover_->Rename("a", "b")), EIO);
  store_->refuses = false;
  for (const auto& each : {file, own, own_replaced}) EXPECT_EQ(CodeOf(each->Flush()), 0);
  std::string expected = content_;
  expected.replace(100, 7, "remover");
  EXPECT_TRUE(ReadFile(*NewHost("third"), "b") == expected);
  expected.replace(0, 6, "holder");
  EXPECT_TRUE(ReadFile(*NewHost("fourth"), "a") == expected);
}

}  // namespace
}  // namespace elsewhere::file
