// What an unlink puts off (--write-back): shim/file/removals.h, and that nobody of this host sees it.
#include "shim/file/removals.h"

#include <atomic>
#include <thread>

#include "gated_store.h"
#include "hosts.h"

namespace elsewhere::file {
namespace {

class RemovalsTest : public HostsTest {
 protected:
  static constexpr int kFiles = 100;
  void SetUp() override {
    gate_ =
        std::make_shared<GatedStore>(test_store_.Open(), "DELETE", Error{EACCES, "it may not be deleted"});
    auto context = std::make_shared<FileContext>();
    context->store = gate_;
    context->cache = *FileCache::Open(directory_.path() + "/cache-gated", 1ull << 30);
    context->workers = std::make_shared<Workers>(8);
    host_ = std::make_shared<FileSystem>(context, FileSystemOptions{.mount_point = "/data"});
    host_->PutOffRemovals(true);
    ASSERT_EQ(CodeOf(home_->MakeDirectory("d", 0755)), 0);
    for (int i = 0; i < kFiles; ++i) ASSERT_EQ(CodeOf(WriteFile(*home_, Name(i), "text")), 0);
  }
  void TearDown() override { gate_->Set(true); }
  static std::string Name(int i) { return "d/" + std::to_string(100 + i); }
  // A call that has to wait for a deletion that is on its way: the gate is opened when it does, or has not.
  template <class Call>
  auto Behind(Call call) {
    gate_->AwaitWaiting(1);
    std::atomic<bool> ended = false, waited = false;
    std::thread opener([&] {
      while (!ended && !(waited = host_->removals().waiters() > 0)) std::this_thread::yield();
      gate_->Set(true);
    });
    auto result = call();
    ended = true;
    opener.join();
    EXPECT_TRUE(waited) << "it was carried out before the deletion";
    return result;
  }

  std::shared_ptr<GatedStore> gate_;
  std::shared_ptr<FileSystem> host_;
};

TEST_F(RemovalsTest, ManyGoWithOneRequestAndAreGoneAtOnce) {
  ASSERT_EQ(Names(*host_, "d").size(), size_t{kFiles});
  gate_->Set(false);
  for (int i = 0; i < kFiles; ++i) ASSERT_EQ(CodeOf(host_->Unlink(Name(i))), 0);
  for (int i = 0; i < kFiles; ++i) {
    EXPECT_EQ(CodeOf(host_->Stat(Name(i))), ENOENT);
    EXPECT_EQ(CodeOf(host_->Open(Name(i), O_RDONLY, 0)), ENOENT);
    EXPECT_EQ(CodeOf(host_->Unlink(Name(i))), ENOENT);
    EXPECT_EQ(CodeOf(host_->Rename(Name(i), "d/x")), ENOENT);
    EXPECT_EQ(CodeOf(host_->SetMode(Name(i), 0600)), ENOENT);
  }
  EXPECT_EQ(Names(*host_, "d"), Strings{});
  EXPECT_EQ(CodeOf(home_->Stat(Name(0))), 0) << "the store has it yet";
  gate_->Set(true);
  EXPECT_TRUE(host_->removals().Finish().empty());
  EXPECT_LE(gate_->Requests(), 4) << "the first, and the others while it was on its way";
  EXPECT_EQ(Names(*NewHost("other"), "d"), Strings{});
}

TEST_F(RemovalsTest, NothingLooksThroughWhereNothingIsRemembered) {
  gate_->Set(false);
  ASSERT_EQ(CodeOf(host_->Unlink(Name(0))), 0);
  host_->ForgetAll();
  EXPECT_EQ(CodeOf(host_->Stat(Name(0))), ENOENT);
  host_->ForgetAll();
  EXPECT_EQ(CodeOf(host_->Open(Name(0), O_RDONLY, 0)), ENOENT);
}

TEST_F(RemovalsTest, WhatIsMadeUnderTheNameComesAfterwards) {
  for (int i : {0, 1, 2, 3}) {
    gate_->Set(false);
    ASSERT_EQ(CodeOf(host_->Unlink(Name(i))), 0);
    const std::string name = Name(i);
    const int made = Behind([&] {
      if (i == 0) return CodeOf(WriteFile(*host_, name, "new"));
      if (i == 1) return CodeOf(WriteFile(*host_, name, "new", O_WRONLY | O_CREAT | O_EXCL));
      if (i == 2) return CodeOf(host_->MakeLink("target", name));
      return CodeOf(host_->Rename(Name(50), name));
    });
    EXPECT_EQ(made, 0);
    EXPECT_TRUE(host_->removals().Finish().empty());
    EXPECT_EQ(CodeOf(NewHost("other")->Stat(name, false)), 0) << "deleted after it was made: " << i;
  }
}

TEST_F(RemovalsTest, ADirectoryIsRemovedAfterItsFiles) {
  gate_->Set(false);
  for (int i = 0; i < kFiles; ++i) ASSERT_EQ(CodeOf(host_->Unlink(Name(i))), 0);
  EXPECT_EQ(Behind([&] { return CodeOf(host_->RemoveDirectory("d")); }), 0);
  EXPECT_EQ(CodeOf(NewHost("other")->Stat("d")), ENOENT);
}

TEST_F(RemovalsTest, SyncingTheDirectoryWaitsForThem) {
  int i = 0;
  // The last two are what a descriptor of it is known by.
  for (const char* directory : {"d", "d/", "", "d/.", "."}) {
    gate_->Set(false);
    ASSERT_EQ(CodeOf(host_->Unlink(Name(i))), 0);
    EXPECT_EQ(Behind([&] { return CodeOf(host_->SyncDirectory(directory)); }), 0) << directory;
    EXPECT_EQ(host_->removals().Waiting(), 0u) << directory;
    EXPECT_EQ(CodeOf(NewHost("other")->Stat(Name(i++))), ENOENT);
  }
  gate_->Set(true, true);
  ASSERT_EQ(CodeOf(host_->Unlink(Name(i))), 0);
  EXPECT_EQ(CodeOf(host_->SyncDirectory("d")), EIO);
  EXPECT_EQ(CodeOf(host_->SyncDirectory("d")), 0) << "said once";
  EXPECT_TRUE(host_->removals().Finish().empty());
}

TEST_F(RemovalsTest, ARenamedDirectoryDoesNotTakeThemAlong) {
  gate_->Set(false);
  ASSERT_EQ(CodeOf(host_->Unlink(Name(0))), 0);
  EXPECT_EQ(Behind([&] { return CodeOf(host_->Rename("d", "e")); }), 0);
  EXPECT_EQ(Names(*NewHost("other"), "e").size(), size_t{kFiles - 1});
}

TEST_F(RemovalsTest, AnOpenFileLivesOn) {
  auto file = host_->Open(Name(0), O_RDWR, 0);
  ASSERT_TRUE(file.ok());
  gate_->Set(false);
  ASSERT_EQ(CodeOf(host_->Unlink(Name(0))), 0);
  ASSERT_TRUE((*file)->Append("more").ok());
  ASSERT_EQ(CodeOf((*file)->Flush()), 0);
  gate_->Set(true);
  EXPECT_TRUE(host_->removals().Finish().empty());
  EXPECT_EQ((*file)->attributes().size, 8u);
  EXPECT_EQ(CodeOf(NewHost("other")->Stat(Name(0))), ENOENT);
}

TEST_F(RemovalsTest, WhatCannotBeDeletedIsThereAgainAndSaidOnce) {
  gate_->Set(true, true);
  ASSERT_EQ(CodeOf(host_->Unlink(Name(0))), 0);
  ASSERT_EQ(CodeOf(host_->Unlink(Name(1))), 0);
  host_->removals().Wait("");
  EXPECT_EQ(ReadFile(*host_, Name(0)), "text");
  EXPECT_EQ(CodeOf(host_->RemoveDirectory("d")), EACCES);
  EXPECT_EQ(CodeOf(host_->RemoveDirectory("d")), ENOTEMPTY);
  EXPECT_TRUE(host_->removals().Finish().empty());
  ASSERT_EQ(CodeOf(host_->Unlink(Name(2))), 0);
  auto failures = host_->removals().Finish();
  ASSERT_EQ(failures.size(), 1u);
  EXPECT_EQ(failures[0].key, Name(2));
  EXPECT_EQ(failures[0].error.code, EACCES);
}

TEST_F(RemovalsTest, AreNotPutOffOnceItIsForbidden) {
  host_->PutOffRemovals(false);
  ASSERT_EQ(CodeOf(host_->Unlink(Name(0))), 0);
  EXPECT_EQ(CodeOf(NewHost("other")->Stat(Name(0))), ENOENT);
  EXPECT_EQ(host_->removals().Waiting(), 0u);
}

TEST_F(RemovalsTest, TheEndWaitsForThem) {
  for (int i = 0; i < kFiles; ++i) ASSERT_EQ(CodeOf(host_->Unlink(Name(i))), 0);
  host_.reset();
  EXPECT_EQ(Names(*NewHost("other"), "d"), Strings{});
}

}  // namespace
}  // namespace elsewhere::file
