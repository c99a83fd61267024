#include "shim/store/directory_store.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <fstream>
#include <thread>

#include "scratch_directory.h"

namespace elsewhere::store {
namespace {

class DirectoryStoreTest : public testing::Test {
 protected:
  std::shared_ptr<DirectoryStore> Open(StoreOptions options = {}) {
    auto store = DirectoryStore::Open(path_, options);
    if (!store) ADD_FAILURE() << store.error().message;
    return std::move(*store);
  }
  static std::vector<std::string> Keys(const ListPage& page) {
    std::vector<std::string> keys;
    for (auto& entry : page.objects) keys.push_back(entry.key);
    return keys;
  }
  size_t FilesIn(const std::string& name) {
    return size_t(std::distance(std::filesystem::directory_iterator(path_ + "/" + name), {}));
  }

  ScratchDirectory directory_;
  std::string path_ = directory_.path() + "/store";
};

using Strings = std::vector<std::string>;

TEST_F(DirectoryStoreTest, KeepsContentMetadataAndTimes) {
  auto store = Open();
  auto put = store->Put("a/b", "content",
                        {.content_type = "text/plain", .metadata = {{"mode", "33188"}, {"empty", ""}}});
  ASSERT_TRUE(put.ok()) << put.error().message;
  auto got = store->Get("a/b");
  ASSERT_TRUE(got.ok());
  EXPECT_EQ(got->body, "content");
  EXPECT_EQ(got->info.size, 7u);
  EXPECT_EQ(got->info.etag, put->etag);
  EXPECT_EQ(got->info.content_type, "text/plain");
  EXPECT_EQ(got->info.metadata, (Metadata{{"mode", "33188"}, {"empty", ""}}));
  EXPECT_GT(got->info.modified_ns, 1'600'000'000'000'000'000);
  EXPECT_EQ(store->Head("a/b")->metadata.at("mode"), "33188");
  EXPECT_EQ(store->Get("a").error().code, ENOENT);
  EXPECT_EQ(store->Get("").error().code, EINVAL);
}

TEST_F(DirectoryStoreTest, RangesAreCutAtTheEnd) {
  auto store = Open();
  ASSERT_TRUE(store->Put("k", "0123456789").ok());
  auto body = [&](uint64_t offset, uint64_t length) {
    return store->Get("k", {.range = {offset, length}})->body;
  };
  EXPECT_EQ(body(2, 3), "234");
  EXPECT_EQ(body(8, 10), "89");
  EXPECT_EQ(body(10, 1), "");
  EXPECT_EQ(body(1000, kToEnd), "");
  EXPECT_EQ(body(9, kToEnd), "9");
  char buffer[4];
  EXPECT_EQ(*store->GetInto("k", buffer, {.range = {7, kToEnd}}), 3u);
  EXPECT_EQ(std::string(buffer, 3), "789");
}

TEST_F(DirectoryStoreTest, PiecesAreJoined) {
  auto store = Open();
  std::vector<std::string_view> pieces(3000, "ab");
  pieces[7] = "";
  ASSERT_TRUE(store->PutPieces("k", pieces).ok());
  EXPECT_EQ(store->Get("k")->body.size(), 5998u);
  EXPECT_EQ(*store->GetInto("k", {}, {}), 0u);
}

TEST_F(DirectoryStoreTest, KeysMayLookLikeAnything) {
  auto store = Open();
  Strings keys = {"a",     "a/",       "a/b",  "a//b", "/",
                  ".",     "..",       "../x", "%",    "%d",
                  "a%d/b", "\x01\xff", "x y",  "new",  "\xc3\xa4/\xc3\xb6"};
  for (auto& key : keys) ASSERT_TRUE(store->Put(key, key).ok()) << key;
  for (auto& key : keys) EXPECT_EQ(store->Get(key)->body, key);
  std::sort(keys.begin(), keys.end());
  EXPECT_EQ(Keys(*store->List({})), keys);
  EXPECT_EQ(*store->DeletePrefix(""), keys.size());
  EXPECT_EQ(FilesIn("objects"), 0u);
  EXPECT_EQ(store->Put(std::string(300, '%'), "").error().code, EINVAL);
  EXPECT_EQ(store->Put(std::string(1025, 'x'), "").error().code, EINVAL);
}

TEST_F(DirectoryStoreTest, ConditionsOnPut) {
  auto store = Open();
  auto first = store->Put("k", "1", {.if_absent = true});
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(store->Put("k", "2", {.if_absent = true}).error().code, EEXIST);
  auto second = store->Put("k", "2", {.if_match = first->etag});
  ASSERT_TRUE(second.ok());
  EXPECT_EQ(store->Put("k", "3", {.if_match = first->etag}).error().code, ESTALE);
  EXPECT_EQ(store->Put("none", "3", {.if_match = first->etag}).error().code, ESTALE);
  EXPECT_EQ(store->Get("k", {.if_match = first->etag}).error().code, ESTALE);
  EXPECT_TRUE(store->Get("k", {.if_none_match = second->etag})->not_modified);
  EXPECT_EQ(store->Get("k")->body, "2");
  EXPECT_EQ(FilesIn("new"), 0u);
}

TEST_F(DirectoryStoreTest, ExactlyOneOfManyRacersWins) {
  auto store = Open();
  for (bool replace : {false, true}) {
    PutOptions options{.if_absent = !replace};
    if (replace) options.if_match = store->Head("k0")->etag;
    std::atomic<int> winners{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 16; ++i)
      threads.emplace_back([&, i] {
        auto other = Open();  // as another process would
        winners += other->Put("k0", (replace ? "second " : "first ") + std::to_string(i), options).ok();
      });
    for (auto& thread : threads) thread.join();
    EXPECT_EQ(winners, 1);
  }
  EXPECT_EQ(FilesIn("new"), 0u);
}

TEST_F(DirectoryStoreTest, ListsInPagesAndFolders) {
  auto store = Open();
  for (auto key : {"a", "a.b", "b/1", "b/2", "b/c/3", "b0", "c/"}) ASSERT_TRUE(store->Put(key, "x").ok());
  auto top = store->List({.folders = true});
  EXPECT_EQ(Keys(*top), (Strings{"a", "a.b", "b0"}));
  EXPECT_EQ(top->folders, (Strings{"b/", "c/"}));
  auto inner = store->List({.prefix = "b/", .folders = true});
  EXPECT_EQ(Keys(*inner), (Strings{"b/1", "b/2"}));
  EXPECT_EQ(inner->folders, (Strings{"b/c/"}));
  EXPECT_EQ(Keys(*store->List({.prefix = "b"})), (Strings{"b/1", "b/2", "b/c/3", "b0"}));
  EXPECT_EQ(Keys(*store->List({.prefix = "c/", .folders = true})), (Strings{"c/"}));
  EXPECT_EQ(Keys(*store->List({.start_after = "b/2"})), (Strings{"b/c/3", "b0", "c/"}));

  for (bool folders : {false, true}) {
    Strings seen;
    ListRequest request{.folders = folders, .max_keys = 2};
    do {
      auto page = *store->List(request);
      for (auto& key : Keys(page)) seen.push_back(key);
      for (auto& key : page.folders) seen.push_back(key);
      EXPECT_LE(page.objects.size() + page.folders.size(), 2u);
      request.token = page.next_token;
    } while (!request.token.empty());
    std::sort(seen.begin(), seen.end());
    EXPECT_EQ(seen, folders ? (Strings{"a", "a.b", "b/", "b0", "c/"})
                            : (Strings{"a", "a.b", "b/1", "b/2", "b/c/3", "b0", "c/"}));
  }
}

TEST_F(DirectoryStoreTest, CopiesWithOldOrNewMetadata) {
  auto store = Open();
  auto put = store->Put("a", "content", {.metadata = {{"x", "1"}}});
  ASSERT_TRUE(store->Copy("a", "b").ok());
  EXPECT_EQ(store->Get("b")->info.metadata, (Metadata{{"x", "1"}}));
  ASSERT_TRUE(store->Copy("a", "a", {.if_match = put->etag, .metadata = Metadata{{"y", "2"}}}).ok());
  EXPECT_EQ(store->Get("a")->info.metadata, (Metadata{{"y", "2"}}));
  EXPECT_EQ(store->Get("a")->body, "content");
  EXPECT_EQ(store->Copy("a", "c", {.if_match = "other"}).error().code, ESTALE);
  EXPECT_EQ(store->Copy("none", "c").error().code, ENOENT);
}

TEST_F(DirectoryStoreTest, ACopyOntoItselfNeverBringsAnOlderVersionBack) {
  auto store = Open();
  std::string etag = store->Put("k", "0")->etag;
  std::atomic<bool> ended = false;
  std::thread copier([&] {
    auto other = Open();
    while (!ended) {
      const auto info = other->Head("k");
      (void)other->Copy("k", "k", {.if_match = info->etag, .metadata = Metadata{{"a", "b"}}});
    }
  });
  for (int i = 1; i <= 300; ++i) {
    // Nobody else changes the content, so this version is there.
    auto put = store->Put("k", std::to_string(i), {.if_match = etag});
    EXPECT_TRUE(put.ok()) << i << ": " << put.error().message;
    if (!put) break;
    etag = put->etag;
  }
  ended = true;
  copier.join();
}

TEST_F(DirectoryStoreTest, QuotaHoldsAndDeletesGiveSpaceBack) {
  auto store = Open({.quota_bytes = 10000});
  ASSERT_TRUE(store->Put("a", std::string(6000, 'x')).ok());
  auto full = store->Put("b", std::string(6000, 'x'));
  EXPECT_EQ(full.error().code, ENOSPC);
  EXPECT_NE(full.error().message.find("quota of 10000"), std::string::npos) << full.error().message;
  EXPECT_EQ(store->Head("b").error().code, ENOENT);
  ASSERT_TRUE(store->Put("a", std::string(3000, 'x')).ok());
  ASSERT_TRUE(store->Put("b", std::string(6000, 'x')).ok());
  ASSERT_TRUE(store->Delete("a").ok());
  ASSERT_TRUE(store->Delete("a").ok());
  ASSERT_TRUE(store->Delete("b").ok());
  EXPECT_EQ(store->used_bytes(), 0u);
}

TEST_F(DirectoryStoreTest, UsageStaysExactUnderRacingReplacements) {
  auto store = Open();
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 200; ++i) {
        if (i % 5 == 4) {
          ASSERT_TRUE(store->Delete("d/k").ok());
        } else {
          ASSERT_TRUE(store->Put("d/k", std::string(size_t(t * 100 + i), 'x')).ok());
        }
      }
    });
  for (auto& thread : threads) thread.join();
  ASSERT_TRUE(store->Delete("d/k").ok());
  EXPECT_EQ(store->used_bytes(), 0u);
  EXPECT_EQ(FilesIn("new"), 0u);
  EXPECT_EQ(FilesIn("objects"), 0u);
}

TEST_F(DirectoryStoreTest, LocalObjectsCanBeMappedAndOutliveReplacement) {
  auto store = Open();
  std::string content(100000, 'a');
  ASSERT_TRUE(store->Put("k", content).ok());
  auto local = store->OpenLocal("k");
  ASSERT_TRUE(local.ok());
  ASSERT_EQ(local->size, content.size());
  ASSERT_EQ(local->offset, 0u);
  ASSERT_TRUE(store->Put("k", std::string(100000, 'b')).ok());
  ASSERT_TRUE(store->Delete("k").ok());
  void* mapped = mmap(nullptr, local->size, PROT_READ, MAP_PRIVATE, local->fd.get(), 0);
  ASSERT_NE(mapped, MAP_FAILED);
  EXPECT_EQ(memcmp(mapped, content.data(), content.size()), 0);
  munmap(mapped, local->size);
}

TEST_F(DirectoryStoreTest, MultipartUploads) {
  auto store = Open();
  ASSERT_TRUE(store->Put("source", "0123456789").ok());
  auto id = store->BeginUpload("dir/big", {.metadata = {{"mode", "1"}}});
  ASSERT_TRUE(id.ok());
  auto second = store->PutPart("dir/big", *id, 2, "world");
  auto first = store->PutPart("dir/big", *id, 1, "wrong");
  first = store->PutPart("dir/big", *id, 1, "hello ");
  auto third = store->CopyPart("dir/big", *id, 3, "source", {3, 4});
  ASSERT_TRUE(first.ok() && second.ok() && third.ok());
  EXPECT_EQ(store->CopyPart("dir/big", *id, 4, "source", {3, 40}).error().code, EINVAL);
  EXPECT_EQ(store->Head("dir/big").error().code, ENOENT);
  EXPECT_EQ((*store->ListUploads("dir/"))[0].upload_id, *id);
  EXPECT_EQ(store->PutPart("other", *id, 1, "x").error().code, ENOENT);
  EXPECT_EQ(store->PutPart("dir/big", "../../x", 1, "x").error().code, ENOENT);

  std::vector<UploadPart> parts = {*second, *first};
  EXPECT_EQ(store->CompleteUpload("dir/big", *id, parts).error().code, EINVAL);
  parts = {*first, *second, *third};
  auto done = store->CompleteUpload("dir/big", *id, parts, {.if_absent = true});
  ASSERT_TRUE(done.ok()) << done.error().message;
  auto got = store->Get("dir/big");
  EXPECT_EQ(got->body, "hello world3456");
  EXPECT_EQ(got->info.etag, done->etag);
  EXPECT_EQ(got->info.metadata.at("mode"), "1");

  auto aborted = *store->BeginUpload("x");
  ASSERT_TRUE(store->PutPart("x", aborted, 1, "data").ok());
  ASSERT_TRUE(store->AbortUpload("x", aborted).ok());
  EXPECT_TRUE(store->ListUploads("")->empty());
  ASSERT_TRUE(store->DeletePrefix("").ok());
  EXPECT_EQ(store->used_bytes(), 0u);
}

TEST_F(DirectoryStoreTest, WhatAKilledWriterLeftIsPutRight) {
  uint64_t expected;
  {
    auto store = Open();
    ASSERT_TRUE(store->Put("kept", "content").ok());
    expected = store->used_bytes();
  }
  pid_t child = fork();
  if (child == 0) {
    auto store = Open();
    std::thread([&] {
      for (int i = 0;; ++i) (void)store->Put("kept", i % 2 ? std::string(1 << 20, 'x') : "content");
    }).detach();
    usleep(30000);
    raise(SIGKILL);
  }
  int status;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  std::ofstream(path_ + "/new/leftover") << "half";
  auto store = Open();
  EXPECT_EQ(FilesIn("new"), 0u);
  ASSERT_TRUE(store->Get("kept").ok()) << "the object is damaged";
  ASSERT_TRUE(store->Put("kept", "content").ok());
  EXPECT_EQ(store->used_bytes(), expected);
}

TEST_F(DirectoryStoreTest, LeftoversOfOthersAreKeptWhileTheyLive) {
  auto first = Open();
  std::ofstream(path_ + "/new/being-written") << "half";
  auto second = Open();
  EXPECT_EQ(FilesIn("new"), 1u);
  ASSERT_TRUE(first->Put("k", "x").ok());
  EXPECT_EQ(second->used_bytes(), first->used_bytes());
}

TEST_F(DirectoryStoreTest, DamageIsFound) {
  auto store = Open();
  ASSERT_TRUE(store->Put("k", "content").ok());
  std::fstream(path_ + "/objects/k", std::ios::in | std::ios::out) << "C";
  EXPECT_EQ(store->Get("k").error().code, EBADMSG);
  std::filesystem::resize_file(path_ + "/objects/k", 20);
  EXPECT_EQ(store->Get("k").error().code, EBADMSG);
  EXPECT_EQ(store->Head("k").error().code, EBADMSG);
}

TEST_F(DirectoryStoreTest, IsPrivateAndRemovedWhole) {
  {
    auto store = Open();
    ASSERT_TRUE(store->Put("a/b/c", "x").ok());
    struct stat status;
    ASSERT_EQ(stat(path_.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777u, 0700u);
    ASSERT_EQ(stat((path_ + "/objects/a%d/b%d/c").c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777u, 0600u);
    auto other = Open();
    EXPECT_EQ(store->Remove().error().code, EBUSY);
    other.reset();
    ASSERT_TRUE(store->Remove().ok());
  }
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(DirectoryStoreTest, RefusesWhatItCannotUse) {
  EXPECT_EQ(DirectoryStore::Open(directory_.path() + "/no/such/parent").error().code, ENOENT);
  std::ofstream(path_) << "a file";
  EXPECT_EQ(DirectoryStore::Open(path_).error().code, ENOTDIR);
  std::string shared = directory_.path() + "/shared";
  ASSERT_EQ(mkdir(shared.c_str(), 0700), 0);
  ASSERT_EQ(chmod(shared.c_str(), 0777), 0);
  EXPECT_EQ(DirectoryStore::Open(shared).error().code, EACCES);
}

TEST(OpenStore, UnderstandsUrls) {
  ScratchDirectory directory;
  auto store = OpenStore("dir:" + directory.path() + "/x/");
  ASSERT_TRUE(store.ok());
  EXPECT_EQ((*store)->url(), "dir:" + directory.path() + "/x");
  for (auto url : {"", "dir:", "dir:relative", "ftp://x", "/path"})
    EXPECT_EQ(OpenStore(url).error().code, EINVAL) << url;
}

}  // namespace
}  // namespace elsewhere::store
