// What is known of names by listings: shim/file/file_listing.cpp.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <condition_variable>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "forwarding_store.h"
#include "shim/file/file_system.h"
#include "test_store.h"

namespace elsewhere::file {
namespace {

constexpr int kFiles = 60;

class CountingStore final : public ForwardingStore {
 public:
  using ForwardingStore::ForwardingStore;
  // As if everything had been stored an hour before it is listed.
  bool all_is_old = false;

  int Taken(const std::string& verb) {
    std::lock_guard lock(mutex_);
    return std::exchange(requests_[verb], 0);
  }
  Result<store::ListPage> List(const store::ListRequest& request) override {
    auto page = ForwardingStore::List(request);
    if (page && all_is_old) page->at_ns += 3600ll * 1'000'000'000;
    std::lock_guard lock(mutex_);
    seen_.insert(request.prefix);
    if (request.folders) ++requests_["LIST " + request.prefix];
    changed_.notify_all();
    return page;
  }
  // HEADs see what is there, and answer after Release.
  Result<store::ObjectInfo> Head(std::string_view key) override {
    auto info = ForwardingStore::Head(key);
    std::unique_lock lock(mutex_);
    seen_.insert(std::string(key));
    changed_.notify_all();
    changed_.wait(lock, [&] { return !held_; });
    return info;
  }
  void WaitUntilSeen(const std::string& key) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return seen_.contains(key); });
  }
  void Hold() {
    std::lock_guard lock(mutex_);
    held_ = true;
    seen_.clear();
  }
  void Release() {
    std::lock_guard lock(mutex_);
    held_ = false;
    changed_.notify_all();
  }

 private:
  void OnRequest(std::string_view verb, uint64_t) override {
    std::lock_guard lock(mutex_);
    ++requests_[std::string(verb)];
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  std::set<std::string> seen_;
  bool held_ = false;
  std::map<std::string, int> requests_;
};

class ListingTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(direct_->Put("d/", "").ok());
    for (int i = 0; i < kFiles; ++i) ASSERT_TRUE(direct_->Put(Name(i), "text").ok());
    Start(60'000, false);
  }
  static std::string Name(int i) { return "d/" + std::to_string(100 + i); }
  void Start(unsigned remember_ms, bool plain) {
    counting_ = std::make_shared<CountingStore>(direct_);
    auto context = std::make_shared<FileContext>();
    context->store = counting_;
    context->cache = *FileCache::Open(directory_.path() + "/cache", 1ull << 30);
    context->workers = std::make_shared<Workers>(4);
    files_ = std::make_unique<FileSystem>(
        context,
        FileSystemOptions{.mount_point = "/data", .plain = plain, .remember_ms = remember_ms, .caller = {}});
  }
  // Every name once; the sum of their modes' permission bits.
  int Walk() {
    int modes = 0;
    for (int i = 0; i < kFiles; ++i) {
      auto found = files_->Stat(Name(i));
      if (!found) ADD_FAILURE() << found.error().message;
      if (found) modes += int(found->mode & 07777);
    }
    return modes;
  }

  store::ScratchDirectory directory_;
  TestStore test_store_;
  std::shared_ptr<store::ObjectStore> direct_ = test_store_.Open();
  std::shared_ptr<CountingStore> counting_;
  std::unique_ptr<FileSystem> files_;
};

TEST_F(ListingTest, WhoAsksForManyNamesIsAnsweredFromAListing) {
  EXPECT_EQ(Walk(), kFiles * 0644);
  EXPECT_EQ(counting_->Taken("LIST"), 1);
  EXPECT_LE(counting_->Taken("HEAD"), kFiles) << "each is looked up once";
  for (int i = 0; i < kFiles; ++i) EXPECT_EQ(files_->Stat("d/none" + std::to_string(i)).error().code, ENOENT);
  EXPECT_LE(counting_->Taken("LIST") + counting_->Taken("HEAD"), 3)
      << "what is not there costs nothing but its directory";
}

TEST_F(ListingTest, AThousandNewFilesAreAsManyPutsAndAFewListings) {
  for (int i = 0; i < kFiles; ++i) {
    auto file = files_->Open("d/new" + std::to_string(i), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    ASSERT_TRUE(file.ok());
    ASSERT_TRUE((*file)->Write("text", 0).ok());
    ASSERT_TRUE((*file)->Flush().ok());
  }
  EXPECT_EQ(counting_->Taken("PUT"), kFiles);
  EXPECT_LE(counting_->Taken("HEAD") + counting_->Taken("LIST"), 20);
}

TEST_F(ListingTest, RemovingListedFilesIsOneRequestEach) {
  ASSERT_TRUE(files_->ReadDirectory("d").ok());
  counting_->Taken("HEAD");
  for (int i = 0; i < kFiles; ++i) ASSERT_TRUE(files_->Unlink(Name(i)).ok());
  EXPECT_EQ(counting_->Taken("DELETE"), kFiles);
  EXPECT_LE(counting_->Taken("HEAD") + counting_->Taken("PUT"), 3) << "only the directory is looked at";
  EXPECT_EQ(files_->Unlink(Name(0)).error().code, ENOENT);
  EXPECT_TRUE(files_->ReadDirectory("d")->empty());
}

TEST_F(ListingTest, FromAStickyDirectoryOnlyOnesOwnIsRemoved) {
  ASSERT_TRUE(direct_->Put("d/", "", {.metadata = {{"mode", "17407"}, {"uid", "7"}, {"gid", "7"}}}).ok());
  ASSERT_TRUE(direct_->Put("d/theirs", "", {.metadata = {{"mode", "33188"}, {"uid", "7"}}}).ok());
  ASSERT_TRUE(direct_->Put("d/mine", "", {.metadata = {{"mode", "33188"}, {"uid", "9"}}}).ok());
  const Caller caller{.uid = 9, .gid = 9};
  ActingAs acting(caller);
  ASSERT_TRUE(files_->ReadDirectory("d").ok());
  EXPECT_EQ(files_->Unlink("d/theirs").error().code, EPERM);
  EXPECT_TRUE(files_->Unlink("d/mine").ok());
}

TEST_F(ListingTest, WhatIsKnownIsToldWithoutWaiting) {
  const Caller root{};
  ActingAs acting(root);
  EXPECT_FALSE(files_->KnownStat(Name(0), true));
  Walk();
  EXPECT_EQ(files_->KnownStat(Name(0), true)->size, 4u);
  EXPECT_FALSE(files_->KnownStat("d", true)) << "a directory's times are looked at";
  EXPECT_FALSE(files_->KnownStat("d/../" + Name(0), true));
  EXPECT_FALSE(files_->KnownStat("d/none", true));
  auto file = files_->Open(Name(0), O_WRONLY, 0);
  EXPECT_FALSE(files_->KnownStat(Name(0), true)) << "it may be ahead of the store";
}

class NeighboursTest : public ListingTest {
 protected:
  void SetUp() override {
    ListingTest::SetUp();
    for (int i = 1; i <= 4; ++i) ASSERT_TRUE(direct_->Put("n/" + std::to_string(i) + "/x", "text").ok());
  }
  size_t Count(const std::string& directory) {
    auto entries = files_->ReadDirectory(directory);
    return entries ? entries->size() : 0;
  }
  // Lists two neighbours, and waits until the third was listed for us.
  void WalkToTheThird() {
    EXPECT_EQ(Count("n"), 4u);
    EXPECT_EQ(Count("n/1"), 1u);
    EXPECT_EQ(Count("n/2"), 1u);
    counting_->WaitUntilSeen("n/3/");
  }
};

TEST_F(NeighboursTest, AreListedAheadOnce) {
  WalkToTheThird();
  EXPECT_EQ(Count("n/3"), 1u);
  EXPECT_EQ(counting_->Taken("LIST n/3/"), 1) << "before anybody came";
  EXPECT_EQ(Count("n/3"), 1u);
  EXPECT_EQ(counting_->Taken("LIST n/3/"), 1) << "who comes again wants to know what is new";
}

TEST_F(NeighboursTest, AreListedAheadBackwardsToo) {
  EXPECT_EQ(Count("n"), 4u);
  EXPECT_EQ(Count("n/4"), 1u);
  EXPECT_EQ(Count("n/3"), 1u);
  counting_->WaitUntilSeen("n/2/");
  EXPECT_EQ(Count("n/2"), 1u);
  counting_->WaitUntilSeen("n/1/");
}

TEST_F(NeighboursTest, NamesAreLookedUpAheadWhereThoseOfTheLastWere) {
  EXPECT_EQ(Count("n"), 4u);
  for (const std::string name : {"n/1", "n/2"}) {
    EXPECT_EQ(Count(name), 1u);
    EXPECT_TRUE(files_->Stat(name + "/x").ok());
  }
  counting_->WaitUntilSeen("n/3/x");
}

TEST_F(NeighboursTest, ListedAheadShowWhatWasChangedMeanwhile) {
  WalkToTheThird();
  ASSERT_TRUE(files_->MakeDirectory("n/3/ours", 0755).ok());
  EXPECT_EQ(Count("n/3"), 2u);
  counting_->WaitUntilSeen("n/4/");
  ASSERT_TRUE(direct_->Put("n/4/theirs", "").ok());
  files_->ForgetAll();
  EXPECT_EQ(Count("n/4"), 2u) << "another host has told that it changed something";
}

TEST_F(NeighboursTest, AListingAheadDoesNotOutliveItsTime) {
  Start(0, false);
  WalkToTheThird();
  ASSERT_TRUE(direct_->Put("n/3/theirs", "").ok());
  EXPECT_EQ(Count("n/3"), 2u);
}

TEST_F(ListingTest, OneNameIsNotWorthAListing) {
  ASSERT_TRUE(files_->Stat(Name(7)).ok());
  EXPECT_EQ(counting_->Taken("LIST"), 0);
  EXPECT_EQ(counting_->Taken("HEAD"), 1);
}

TEST_F(ListingTest, AttributesHoldWhileListingsShowTheSame) {
  counting_->all_is_old = true;
  ASSERT_TRUE(files_->ReadDirectory("d").ok());
  Walk();
  files_->ForgetAll();
  ASSERT_TRUE(files_->ReadDirectory("d").ok());
  counting_->Taken("HEAD");
  EXPECT_EQ(Walk(), kFiles * 0644);
  EXPECT_EQ(counting_->Taken("HEAD"), 0);
}

TEST_F(ListingTest, WhatWasStoredJustBeforeAListingIsLookedUpAgain) {
  ASSERT_TRUE(files_->ReadDirectory("d").ok());
  Walk();
  files_->ForgetAll();
  ASSERT_TRUE(files_->ReadDirectory("d").ok());
  counting_->Taken("HEAD");
  Walk();
  EXPECT_GE(counting_->Taken("HEAD"), kFiles);
}

TEST_F(ListingTest, AChangedModeShows) {
  counting_->all_is_old = true;
  ASSERT_TRUE(files_->ReadDirectory("d").ok());
  Walk();
  auto info = direct_->Head(Name(3));
  ASSERT_TRUE(info.ok());
  // By another program, with the same content; a listing shows another time.
  ASSERT_TRUE(direct_->Copy(Name(3), Name(3), {.metadata = store::Metadata{{"mode", "33152"}}}).ok());
  ASSERT_NE(direct_->List({.prefix = Name(3)})->objects[0].modified_ns, info->modified_ns);
  files_->ForgetAll();
  ASSERT_TRUE(files_->ReadDirectory("d").ok());
  EXPECT_EQ(Walk(), (kFiles - 1) * 0644 + 0600);
}

// A lookup that is under way while a file is changed here knows the old one only.
TEST_F(ListingTest, AChangeOvertakesALookup) {
  ASSERT_TRUE(files_->ReadDirectory("d").ok());
  auto file = files_->Open(Name(1), O_WRONLY, 0);
  ASSERT_TRUE(file.ok());
  counting_->Hold();
  std::thread asking([&] { (void)files_->Stat(Name(1)); });
  counting_->WaitUntilSeen(Name(1));
  ASSERT_TRUE((*file)->Append("more").ok());
  ASSERT_TRUE((*file)->Flush().ok());
  file->reset();
  counting_->Release();
  asking.join();
  EXPECT_EQ(files_->Stat(Name(1))->size, 8u);
}

TEST_F(ListingTest, WhatIsOpenToBeChangedIsNotRemembered) {
  ASSERT_TRUE(files_->ReadDirectory("d").ok());
  auto file = files_->Open(Name(1), O_WRONLY, 0);
  ASSERT_TRUE(file.ok());
  EXPECT_EQ(files_->Stat(Name(1))->size, 4u);
  ASSERT_TRUE((*file)->Append("more").ok());
  EXPECT_EQ(files_->Stat(Name(1))->size, 8u);
  ASSERT_TRUE((*file)->Flush().ok());
  EXPECT_EQ(files_->Stat(Name(1))->size, 8u);
}

TEST_F(ListingTest, PlainFilesAreWhatAListingTells) {
  ASSERT_TRUE(direct_->Put("d/link", "100", {.metadata = {{"mode", "41471"}}}).ok());
  Start(60'000, true);
  auto listed = files_->ReadDirectory("d");
  ASSERT_TRUE(listed.ok());
  for (auto& entry : *listed) EXPECT_EQ(entry.type, mode_t{S_IFREG});
  counting_->Taken("HEAD");
  EXPECT_EQ(Walk(), kFiles * 0644);
  EXPECT_EQ(files_->Stat("d/link")->size, 3u);
  EXPECT_EQ(counting_->Taken("HEAD"), 0);
  EXPECT_EQ(files_->SetMode(Name(0), 0600).error().code, EPERM);
  EXPECT_TRUE(files_->SetMode(Name(0), 0644).ok()) << "it is that";
  EXPECT_EQ(files_->MakeLink("100", "d/other").error().code, EPERM);
  auto listed_time = files_->Stat(Name(0))->mtime_ns;
  Start(60'000, true);
  EXPECT_EQ(files_->Stat(Name(0))->mtime_ns, listed_time) << "the same by a HEAD";
}

TEST_F(ListingTest, ChangedPlainFilesKeepWhatOthersSaid) {
  ASSERT_TRUE(
      direct_->Put("d/typed", "text", {.content_type = "text/plain", .metadata = {{"by", "us"}}}).ok());
  Start(60'000, true);
  ASSERT_TRUE(files_->ReadDirectory("d").ok());
  auto file = files_->Open("d/typed", O_WRONLY, 0);
  ASSERT_TRUE(file.ok());
  ASSERT_TRUE((*file)->Append("more").ok());
  ASSERT_TRUE((*file)->Flush().ok());
  auto info = direct_->Head("d/typed");
  EXPECT_EQ(info->size, 8u);
  EXPECT_EQ(info->content_type, "text/plain");
  EXPECT_EQ(info->metadata["by"], "us");
}

}  // namespace
}  // namespace elsewhere::file
