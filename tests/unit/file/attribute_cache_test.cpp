#include "shim/file/attribute_cache.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <set>
#include <thread>

#include "forwarding_store.h"
#include "shim/file/file_system.h"
#include "test_store.h"

namespace elsewhere::file {
namespace {

constexpr uint64_t kLimit = 1 << 20;

class AttributeCacheTest : public testing::Test {
 protected:
  std::shared_ptr<AttributeCache> OpenCache(uint64_t limit = kLimit) const {
    auto cache = AttributeCache::Open(path_, limit);
    if (!cache) ADD_FAILURE() << cache.error().message;
    return *cache;
  }
  // All of it is made of the number.
  static store::ObjectInfo Numbered(int number) {
    const std::string text = std::to_string(number);
    return {.size = uint64_t(number),
            .etag = "etag " + text,
            .modified_ns = number + 5,
            .content_type = number % 2 ? "text/" + text : "application/octet-stream",
            .metadata = {{"by", text}, {"empty", ""}, {"mode", text}, {"x", "gid"}}};
  }
  static std::optional<store::ObjectInfo> FindNumbered(const AttributeCache& cache, const std::string& name,
                                                       int number) {
    const store::ObjectInfo wanted = Numbered(number);
    return cache.Find(name, wanted.etag, wanted.size, wanted.modified_ns);
  }
  static bool IsNumbered(const std::optional<store::ObjectInfo>& found, int number) {
    const store::ObjectInfo wanted = Numbered(number);
    return found && found->size == wanted.size && found->modified_ns == wanted.modified_ns &&
           found->etag == wanted.etag && found->content_type == wanted.content_type &&
           found->metadata == wanted.metadata;
  }

  store::ScratchDirectory directory_;
  const std::string path_ = directory_.path() + "/table";
};

TEST_F(AttributeCacheTest, KeepsAllOfThemForTheNext) {
  for (int i = 0; i < 500; ++i) OpenCache()->Add("name " + std::to_string(i), Numbered(i));
  auto next = OpenCache();
  int found = 0;
  for (int i = 0; i < 500; ++i) found += IsNumbered(FindNumbered(*next, "name " + std::to_string(i), i), i);
  EXPECT_EQ(found, 500);
}

TEST_F(AttributeCacheTest, OnlyTheVersionThatItIsOf) {
  auto cache = OpenCache();
  const store::ObjectInfo known = Numbered(7);
  cache->Add("name", known);
  EXPECT_TRUE(cache->Find("name", known.etag, known.size, known.modified_ns));
  EXPECT_FALSE(cache->Find("other", known.etag, known.size, known.modified_ns));
  EXPECT_FALSE(cache->Find("name", "other", known.size, known.modified_ns));
  EXPECT_FALSE(cache->Find("name", known.etag, known.size + 1, known.modified_ns));
  EXPECT_FALSE(cache->Find("name", known.etag, known.size, known.modified_ns + 1));
  cache->Add("name", Numbered(8));
  EXPECT_FALSE(FindNumbered(*cache, "name", 7)) << "a name has one entry";
  EXPECT_TRUE(IsNumbered(FindNumbered(*cache, "name", 8), 8));
}

TEST_F(AttributeCacheTest, WhatDoesNotFitIsNotKept) {
  auto cache = OpenCache();
  store::ObjectInfo much = Numbered(1);
  much.metadata["user.note"] = std::string(250, 'x');
  cache->Add("name", much);
  EXPECT_FALSE(FindNumbered(*cache, "name", 1));
}

TEST_F(AttributeCacheTest, IsBoundedAndKeepsTheLatest) {
  constexpr uint64_t kSmall = 64 << 10;
  OpenCache()->Add("older", Numbered(1));
  auto cache = OpenCache(kSmall);
  for (int i = 0; i < 5000; ++i) cache->Add("name " + std::to_string(i), Numbered(i));
  struct stat status;
  ASSERT_EQ(stat(path_.c_str(), &status), 0);
  EXPECT_LE(uint64_t(status.st_size), kSmall);
  EXPECT_TRUE(FindNumbered(*cache, "name 4999", 4999));
}

TEST_F(AttributeCacheTest, WhatIsSpoiledIsNoEntry) {
  for (int i = 0; i < 200; ++i) OpenCache()->Add("name " + std::to_string(i), Numbered(i));
  std::string content;
  {
    std::ifstream file(path_);
    content.assign(std::istreambuf_iterator<char>(file), {});
  }
  // Every entry, at another place of it.
  for (size_t at = 0, entry = 0; at < content.size(); at += 256, ++entry)
    content[at + entry * 37 % 256] ^= 0x40;
  std::ofstream(path_) << content;
  auto cache = OpenCache();
  for (int i = 0; i < 200; ++i) EXPECT_FALSE(FindNumbered(*cache, "name " + std::to_string(i), i));
  cache->Add("name 3", Numbered(3));
  EXPECT_TRUE(IsNumbered(FindNumbered(*cache, "name 3", 3), 3));
  std::ofstream(path_) << "short";
  EXPECT_FALSE(FindNumbered(*OpenCache(), "name 3", 3));
}

TEST_F(AttributeCacheTest, OnlyOnesOwnFileServes) {
  OpenCache();
  ASSERT_EQ(chmod(path_.c_str(), 0644), 0);
  EXPECT_EQ(AttributeCache::Open(path_, kLimit).error().code, EACCES) << "others may have read it";
  ASSERT_EQ(unlink(path_.c_str()), 0);
  ASSERT_EQ(symlink("/etc/passwd", path_.c_str()), 0);
  EXPECT_EQ(AttributeCache::Open(path_, kLimit).error().code, ELOOP);
  ASSERT_EQ(unlink(path_.c_str()), 0);
  OpenCache();
  if (geteuid() != 0) GTEST_SKIP() << "nobody else's file can be made";
  ASSERT_EQ(chown(path_.c_str(), 12345, 12345), 0);
  EXPECT_EQ(AttributeCache::Open(path_, kLimit).error().code, EACCES);
}

TEST_F(AttributeCacheTest, WritersAtOnceSpoilNothing) {
  constexpr int kNames = 40;  // of few sets, so that all meet
  std::atomic<int> wrong{0};
  std::vector<std::thread> agents;
  agents.reserve(4);
  for (int agent = 0; agent < 4; ++agent)
    agents.emplace_back([&, agent] {
      auto cache = AttributeCache::Open(path_, 8 << 10);
      for (int round = 0; round < 2000; ++round) {
        const int number = (round * 4 + agent) % kNames;
        (*cache)->Add("name " + std::to_string(number), Numbered(number));
        const int other = (round * 7 + agent) % kNames;
        auto found = FindNumbered(**cache, "name " + std::to_string(other), other);
        wrong += found && !IsNumbered(found, other);
      }
    });
  for (auto& agent : agents) agent.join();
  EXPECT_EQ(wrong, 0);
}

TEST_F(AttributeCacheTest, AKilledWriterLeavesOnlyWhatIsRight) {
  for (int round = 0; round < 10; ++round) {
    int ready[2];
    ASSERT_EQ(pipe(ready), 0);
    const pid_t child = fork();
    if (child == 0) {
      auto cache = AttributeCache::Open(path_, kLimit);
      for (int i = 0;; ++i) {
        (*cache)->Add("name " + std::to_string(i % 1000), Numbered(i % 1000));
        if (i == 100 + round * 50) (void)!write(ready[1], "x", 1);
      }
    }
    char byte;
    ASSERT_EQ(read(ready[0], &byte, 1), 1);
    kill(child, SIGKILL);
    ASSERT_EQ(waitpid(child, nullptr, 0), child);
    close(ready[0]);
    close(ready[1]);
    auto cache = OpenCache();
    int found = 0;
    for (int i = 0; i < 1000; ++i) {
      auto entry = FindNumbered(*cache, "name " + std::to_string(i), i);
      found += entry.has_value();
      EXPECT_TRUE(!entry || IsNumbered(entry, i));
    }
    EXPECT_GE(found, 100);
  }
}

// The server's time runs ahead of its objects', so that they are old enough at once.
class OldStore final : public ForwardingStore {
 public:
  using ForwardingStore::ForwardingStore;
  std::atomic<int> heads{0};
  bool all_is_old = true;

  Result<store::ListPage> List(const store::ListRequest& request) override {
    auto page = ForwardingStore::List(request);
    if (page && all_is_old) page->at_ns += 3600ll * 1'000'000'000;
    return page;
  }

 private:
  void OnRequest(std::string_view verb, uint64_t) override { heads += verb == "HEAD"; }
};

class KnownTreeTest : public testing::Test {
 protected:
  static constexpr int kFiles = 30;
  void SetUp() override {
    for (int i = 0; i < kFiles; ++i) {
      auto put = direct_->Put(Name(i), "text", {.metadata = {{"mode", "33152"}, {"uid", "7"}}});
      ASSERT_TRUE(put.ok());
    }
    NewSession();
    Learn();
  }
  static std::string Name(int i) { return "d/" + std::to_string(100 + i); }
  void NewSession(FileSystemOptions options = {}, const std::string& cache = "cache") {
    files_.reset();
    old_ = std::make_shared<OldStore>(direct_);
    auto context = std::make_shared<FileContext>();
    context->store = old_;
    context->cache = *FileCache::Open(directory_.path() + "/" + cache, 1 << 30);
    context->attributes =
        *AttributeCache::Open(directory_.path() + "/" + cache + "/" + kAttributeTable, 1 << 20);
    context->workers = std::make_shared<Workers>(4);
    options.mount_point = "/data";
    files_ = std::make_unique<FileSystem>(context, options);
  }
  void Learn() {
    ASSERT_TRUE(files_->ReadDirectory("d").ok());
    for (int i = 0; i < kFiles; ++i) ASSERT_TRUE(files_->Stat(Name(i)).ok());
    files_.reset();  // all that was begun is done
    EXPECT_GE(old_->heads, kFiles);
  }
  // How many HEADs a walk costs, in a session that lists first.
  int HeadsOfAWalk() {
    EXPECT_TRUE(files_->ReadDirectory("d").ok());
    old_->heads = 0;
    for (int i = 0; i < kFiles; ++i) {
      auto found = files_->Stat(Name(i));
      EXPECT_TRUE(found.ok());
      const bool kept = found && (found->mode & 07777) == 0600 && found->uid == 7;
      EXPECT_TRUE(kept || i == kChanged) << i;
    }
    return old_->heads;
  }
  // Answers once a listing tells the two apart: the store's clock has gone on.
  template <class Change>
  void UntilItShows(Change change) {
    auto before = direct_->List({.prefix = Name(kChanged)})->objects[0].modified_ns;
    do change();
    while (direct_->List({.prefix = Name(kChanged)})->objects[0].modified_ns == before);
  }

  static constexpr int kChanged = 3;
  store::ScratchDirectory directory_;
  TestStore test_store_;
  std::shared_ptr<store::ObjectStore> direct_ = test_store_.Open();
  std::shared_ptr<OldStore> old_;
  std::unique_ptr<FileSystem> files_;
};

TEST_F(KnownTreeTest, CostsListingsOnly) {
  NewSession();
  EXPECT_EQ(HeadsOfAWalk(), 0);
}

TEST_F(KnownTreeTest, AlsoWhereNobodyListedIt) {
  NewSession();
  for (int i = 0; i < kFiles; ++i) EXPECT_EQ(files_->Stat(Name(i))->mode & 07777, 0600u);
  EXPECT_LE(old_->heads, 4) << "before a listing is worth it";
}

TEST_F(KnownTreeTest, ContentChangedByOthersShows) {
  UntilItShows([&] {
    ASSERT_TRUE(direct_->Put(Name(kChanged), "text", {.metadata = {{"mode", "33261"}}}).ok());
  });
  NewSession();
  EXPECT_LE(HeadsOfAWalk(), kFiles);
  EXPECT_EQ(files_->Stat(Name(kChanged))->mode & 07777, 0755u) << "the same ETag and size, another time";
}

TEST_F(KnownTreeTest, MetadataChangedByOthersShow) {
  UntilItShows([&] {
    ASSERT_TRUE(
        direct_->Copy(Name(kChanged), Name(kChanged), {.metadata = store::Metadata{{"mode", "33261"}}}).ok());
  });
  NewSession();
  HeadsOfAWalk();
  EXPECT_EQ(files_->Stat(Name(kChanged))->mode & 07777, 0755u);
}

TEST_F(KnownTreeTest, WhatWasRemovedAndMadeAgainIsAnother) {
  UntilItShows([&] {
    ASSERT_TRUE(direct_->Delete(Name(kChanged)).ok());
    ASSERT_TRUE(direct_->Put(Name(kChanged), "text", {.metadata = {{"mode", "33261"}}}).ok());
  });
  NewSession();
  HeadsOfAWalk();
  EXPECT_EQ(files_->Stat(Name(kChanged))->mode & 07777, 0755u);
}

TEST_F(KnownTreeTest, WhatIsChangedHereIsLookedUpAgain) {
  NewSession();
  ASSERT_TRUE(files_->ReadDirectory("d").ok());
  UntilItShows([&] { ASSERT_TRUE(files_->SetMode(Name(kChanged), 0755).ok()); });
  EXPECT_EQ(files_->Stat(Name(kChanged))->mode & 07777, 0755u);
  NewSession();
  HeadsOfAWalk();
  EXPECT_EQ(files_->Stat(Name(kChanged))->mode & 07777, 0755u);
}

TEST_F(KnownTreeTest, WhatIsNotYetOldIsNotKept) {
  NewSession({}, "other");
  old_->all_is_old = false;
  UntilItShows([&] {
    ASSERT_TRUE(direct_->Put(Name(kChanged), "text", {.metadata = {{"mode", "33152"}, {"uid", "7"}}}).ok());
  });
  HeadsOfAWalk();
  NewSession({}, "other");
  EXPECT_GE(HeadsOfAWalk(), 1);
}

TEST_F(KnownTreeTest, DefaultsBelongToTheName) {
  ASSERT_TRUE(direct_->Put("e/plain", "text").ok());
  auto uid = [&](uid_t otherwise) {
    NewSession({.mount_point = "", .defaults = {.uid = otherwise}});
    EXPECT_TRUE(files_->ReadDirectory("e").ok());
    const uid_t found = files_->Stat("e/plain")->uid;
    files_.reset();
    return found;
  };
  EXPECT_EQ(uid(11), 11u);
  EXPECT_EQ(uid(12), 12u);
}

TEST_F(KnownTreeTest, APlainMapNeitherUsesNorFillsIt) {
  NewSession({.mount_point = "", .plain = true});
  ASSERT_TRUE(files_->ReadDirectory("d").ok());
  EXPECT_EQ(files_->Stat(Name(0))->mode & 07777, 0644u);
  NewSession();
  EXPECT_EQ(HeadsOfAWalk(), 0) << "what was known is known still";
}

TEST_F(KnownTreeTest, SurvivesThatTheCacheOfContentsMakesRoom) {
  ASSERT_TRUE(FileCache::Open(directory_.path() + "/cache", 0).ok());
  NewSession();
  EXPECT_EQ(HeadsOfAWalk(), 0);
}

}  // namespace
}  // namespace elsewhere::file
