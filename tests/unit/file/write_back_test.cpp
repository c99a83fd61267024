#include "shim/file/write_back.h"

#include <thread>

#include "gated_store.h"
#include "hosts.h"

namespace elsewhere::file {
namespace {

class WriteBackTest : public HostsTest {
 protected:
  void SetUp() override {
    gate_ = std::make_shared<GatedStore>(test_store_.Open(), "PUT", Error{ECONNREFUSED, "the store is away"});
    auto context = std::make_shared<FileContext>();
    context->store = gate_;
    context->cache = *FileCache::Open(directory_.path() + "/cache-gated", 1ull << 30);
    context->workers = std::make_shared<Workers>(8);
    host_ = std::make_shared<FileSystem>(context, FileSystemOptions{.mount_point = "/data"});
  }
  void TearDown() override { gate_->Set(true); }
  // Created, written, not yet closed.
  std::shared_ptr<ObjectFile> Written(const std::string& path, std::string_view text) {
    auto file = host_->Open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
    EXPECT_TRUE((*file)->Write(text, 0).ok());
    return *file;
  }
  std::shared_ptr<GatedStore> gate_;
  std::shared_ptr<FileSystem> host_;
};

TEST_F(WriteBackTest, ACloseDoesNotWaitAndNothingIsLost) {
  WriteBack write_back;
  gate_->Set(false);
  ASSERT_EQ(CodeOf(write_back.Close(Written("a", "text a"))), 0);
  ASSERT_EQ(CodeOf(write_back.Close(Written("b", "text b"))), 0);
  gate_->AwaitWaiting(2);
  EXPECT_EQ(write_back.Unsent(), 12u);
  EXPECT_EQ(CodeOf(home_->Stat("a")), ENOENT) << "other hosts do not see it yet";
  EXPECT_EQ(ReadFile(*host_, "a"), "text a") << "this one does";
  EXPECT_EQ(Names(*host_, ""), (Strings{"a", "b"}));
  gate_->Set(true);
  EXPECT_TRUE(write_back.Finish().empty());
  EXPECT_EQ(write_back.Unsent(), 0u);
  EXPECT_EQ(ReadFile(*NewHost("other"), "b"), "text b");
}

TEST_F(WriteBackTest, WhatIsWrittenMeanwhileIsSentToo) {
  WriteBack write_back;
  gate_->Set(false);
  auto file = Written("a", "one");
  ASSERT_EQ(CodeOf(write_back.Close(file)), 0);
  gate_->AwaitWaiting(1);
  ASSERT_TRUE(file->Write("two", 0).ok());
  ASSERT_EQ(CodeOf(write_back.Close(file)), 0);
  gate_->Set(true);
  write_back.Drain();
  EXPECT_EQ(test_store_.Open()->Get("a")->body, "two");
}

TEST_F(WriteBackTest, ErrorsAreReportedOnceAndThenAtTheEnd) {
  WriteBack write_back;
  gate_->Set(true, true);
  auto file = Written("a", "text");
  ASSERT_EQ(CodeOf(write_back.Close(file)), 0);
  write_back.Drain();
  EXPECT_EQ(CodeOf(write_back.Close(file)), ECONNREFUSED) << "of the sending before";
  write_back.Drain();
  EXPECT_EQ(CodeOf(write_back.Sync(file)), ECONNREFUSED);
  file.reset();
  auto failures = write_back.Finish();
  ASSERT_EQ(failures.size(), 1u);
  EXPECT_EQ(failures[0].key, "a");
  EXPECT_EQ(failures[0].error.code, ECONNREFUSED);
  gate_->Set(true);
  EXPECT_TRUE(write_back.Finish().empty()) << "the changes were kept";
  EXPECT_EQ(test_store_.Open()->Get("a")->body, "text");
}

TEST_F(WriteBackTest, SyncWaits) {
  WriteBack write_back;
  auto file = Written("a", "text");
  ASSERT_EQ(CodeOf(write_back.Sync(file)), 0);
  EXPECT_EQ(test_store_.Open()->Get("a")->body, "text");
}

TEST_F(WriteBackTest, WhatWaitsIsBounded) {
  WriteBack write_back({.unsent_bytes = 10, .sent_together = 2});
  gate_->Set(false);
  ASSERT_EQ(CodeOf(write_back.Close(Written("a", "12345678"))), 0);
  gate_->AwaitWaiting(1);
  bool closed = false;
  std::thread second([&] {
    EXPECT_EQ(CodeOf(write_back.Close(Written("b", "12345678"))), 0);
    EXPECT_LE(write_back.Unsent(), 10u);
    closed = true;
  });
  EXPECT_LE(write_back.Unsent(), 10u);
  gate_->Set(true);
  second.join();
  EXPECT_TRUE(closed);
  EXPECT_EQ(CodeOf(write_back.Close(Written("large", "more than may ever wait"))), 0);
  EXPECT_EQ(test_store_.Open()->Get("large")->body, "more than may ever wait") << "sent by the close itself";
}

TEST_F(WriteBackTest, ARemovedFileIsNotSent) {
  WriteBack write_back;
  gate_->Set(true, true);
  auto file = Written("a", "text");
  ASSERT_EQ(CodeOf(write_back.Close(file)), 0);
  write_back.Drain();
  ASSERT_EQ(CodeOf(host_->Unlink("a")), 0);
  EXPECT_TRUE(write_back.Finish().empty());
  gate_->Set(true);
  EXPECT_EQ(CodeOf(NewHost("other")->Stat("a")), ENOENT);
}

}  // namespace
}  // namespace elsewhere::file
