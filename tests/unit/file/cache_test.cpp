#include "shim/file/cache.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <vector>

#include "shim/file/object_file.h"
#include "tests/unit/store/scratch_directory.h"

namespace elsewhere::file {
namespace {

class CacheTest : public testing::Test {
 protected:
  uint64_t Occupied() const {
    uint64_t bytes = 0;
    for (auto& entry : std::filesystem::directory_iterator(path_)) {
      struct stat status;
      if (stat(entry.path().c_str(), &status) == 0) bytes += uint64_t(status.st_blocks) * 512;
    }
    return bytes;
  }
  static FileCache::Version Filled(FileCache& cache, const std::string& name, size_t size) {
    auto version = cache.OpenVersion(name, size);
    EXPECT_TRUE(version.ok());
    EXPECT_TRUE(cache.Fill(version->fd.get(), std::string(size, name[0]), 0).ok());
    return std::move(*version);
  }
  static bool Has(FileCache& cache, const std::string& name, size_t size) {
    return cache.OpenVersion(name, size)->valid.Contains(0, size);
  }

  store::ScratchDirectory directory_;
  const std::string path_ = directory_.path() + "/cache";
};

TEST_F(CacheTest, IsBoundedWhileItIsFilled) {
  auto cache = *FileCache::Open(path_, 1 << 20);
  for (int i = 0; i < 100; ++i) {
    Filled(*cache, "version " + std::to_string(i), 100'000);
    ASSERT_LE(Occupied(), (1u << 20) + (1u << 17));
  }
  EXPECT_TRUE(Has(*cache, "version 99", 100'000));
  EXPECT_FALSE(Has(*cache, "version 1", 100'000));
}

TEST_F(CacheTest, WhatIsInUseStays) {
  auto cache = *FileCache::Open(path_, 1 << 20);
  auto held = Filled(*cache, "held", 300'000);
  for (int i = 0; i < 30; ++i) Filled(*cache, "version " + std::to_string(i), 100'000);
  EXPECT_TRUE(Has(*cache, "held", 300'000)) << "also for others";
}

TEST_F(CacheTest, ASmallFileIsFoundAgainUntilItsPlaceIsNeeded) {
  auto cache = *FileCache::Open(path_, 1 << 20);
  auto Done = [&](const std::string& identity, const std::string& content) {
    auto fd = *cache->NewPrivate();
    EXPECT_TRUE(cache->Fill(fd.get(), content, 0).ok());
    cache->Recycle(std::move(fd), identity);
  };
  Done("one", "content");
  auto found = cache->OpenVersion("one", 7);
  ASSERT_TRUE(found->valid.Contains(0, 7));
  char content[8] = "";
  EXPECT_EQ(pread(found->fd.get(), content, sizeof content, 0), 7);
  EXPECT_STREQ(content, "content");
  EXPECT_FALSE(Has(*cache, "one", 7)) << "who has it may change it";
  for (int i = 0; i < 1000; ++i) Done("number " + std::to_string(i), "content");
  EXPECT_FALSE(Has(*cache, "number 0", 7));
  struct stat status;
  ASSERT_EQ(fstat(cache->NewPrivate()->get(), &status), 0);
  EXPECT_EQ(status.st_size, 0) << "of one that serves again";
}

TEST_F(CacheTest, AFileThatServesAgainHoldsOnlyWhatIsNew) {
  auto cache = *FileCache::Open(path_, 1 << 20);
  for (int i = 0; i < 200; ++i) cache->Recycle(*cache->NewPrivate(std::string(10'000, 'x')), "");
  auto fd = *cache->NewPrivate("new");
  std::string content(10'000, 'y');
  ASSERT_EQ(pread(fd.get(), content.data(), content.size(), 0), 3);
  EXPECT_EQ(content.substr(0, 3), "new");
  ASSERT_EQ(ftruncate(fd.get(), 5'000), 0);
  ASSERT_EQ(pread(fd.get(), content.data(), content.size(), 0), 5'000);
  EXPECT_EQ(content.substr(3, 4'997), std::string(4'997, '\0')) << "also behind its end";
}

TEST_F(CacheTest, FilesThatAreDoneWithTogetherServeAgainTogether) {
  auto cache = *FileCache::Open(path_, 1 << 20);
  for (int burst = 0; burst < 5; ++burst) {
    std::vector<store::UniqueFd> files;
    for (int i = 0; i < 128; ++i) {
      files.push_back(*cache->NewPrivate("content"));
      struct stat status;
      ASSERT_EQ(fstat(files.back().get(), &status), 0);
      // The mode marks those that were there before.
      EXPECT_TRUE(burst < 2 || (status.st_mode & 07777) == 0640) << burst;
      ASSERT_EQ(fchmod(files.back().get(), 0640), 0);
    }
    for (auto& file : files) cache->Recycle(std::move(file), "");
  }
}

TEST_F(CacheTest, AFileThatSomebodyElseHoldsDoesNotServeAgain) {
  auto cache = *FileCache::Open(path_, 1 << 20);
  auto fd = *cache->NewPrivate();
  ASSERT_TRUE(cache->Fill(fd.get(), "content", 0).ok());
  store::UniqueFd held(open(("/proc/self/fd/" + std::to_string(fd.get())).c_str(), O_RDONLY));
  cache->Recycle(std::move(fd), "one");
  EXPECT_FALSE(Has(*cache, "one", 7));
  char content[8];
  EXPECT_EQ(pread(held.get(), content, sizeof content, 0), 7);
}

TEST_F(CacheTest, AnotherProcessFindsWhatWasFetched) {
  { Filled(**FileCache::Open(path_, 1 << 20), "kept", 100'000); }
  pid_t child = fork();
  if (child == 0) _exit(Has(**FileCache::Open(path_, 1 << 20), "kept", 100'000) ? 0 : 1);
  int status;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

// A process that is killed while it fills a version leaves what is right or a hole, never zeros for data.
TEST_F(CacheTest, AKilledProcessLeavesNothingWrong) {
  constexpr size_t kSize = 8 << 20, kBlock = 128 << 10;
  for (int round = 0; round < 20; ++round) {
    std::string name = "x" + std::to_string(round);
    int ready[2];
    ASSERT_EQ(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
      auto cache = *FileCache::Open(path_, 1 << 30);
      auto version = cache->OpenVersion(name, kSize);
      if (write(ready[1], "", 1) != 1) _exit(1);
      for (size_t at = 0; at < kSize; at += kBlock)
        (void)cache->Fill(version->fd.get(), std::string(kBlock, 'x'), at);
      pause();
    }
    char byte;
    ASSERT_EQ(read(ready[0], &byte, 1), 1);
    for (int spin = 0; spin < round * 20'000; ++spin) asm volatile("");
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    close(ready[0]);
    close(ready[1]);
    auto version = (*FileCache::Open(path_, 1 << 30))->OpenVersion(name, kSize);
    for (auto [from, to] : version->valid.All()) {
      std::string data(to - from, '\0');
      ASSERT_EQ(pread(version->fd.get(), data.data(), data.size(), off_t(from)), ssize_t(data.size()));
      ASSERT_EQ(data.find_first_not_of('x'), data.npos);
    }
  }
}

// In a child: its cache on a small disk of its own. Nothing: that cannot be had here.
std::shared_ptr<FileContext> OnASmallDisk(const std::string& scratch) {
  std::string users = "0 " + std::to_string(geteuid()) + " 1",
              groups = "0 " + std::to_string(getegid()) + " 1";
  if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return nullptr;
  if (!(std::ofstream("/proc/self/uid_map") << users << std::flush) ||
      !(std::ofstream("/proc/self/setgroups") << "deny" << std::flush) ||
      !(std::ofstream("/proc/self/gid_map") << groups << std::flush))
    return nullptr;
  std::string disk = scratch + "/disk", url = "dir:" + scratch + "/store";
  mkdir(disk.c_str(), 0700);
  if (mount("small", disk.c_str(), "tmpfs", 0, "size=4m,mode=700") != 0) return nullptr;
  auto context = std::make_shared<FileContext>();
  context->store = *store::OpenStore(url);
  context->cache = *FileCache::Open(disk, 1ull << 30);
  context->workers = std::make_shared<Workers>(2);
  return context;
}

// 0 as expected, 77 when it cannot be tested here.
int OnAFullDisk(const std::string& scratch) {
  auto context = OnASmallDisk(scratch);
  if (!context) return 77;
  const std::string disk = scratch + "/disk";
  auto open = [&](const std::string& key) {
    auto info = context->store->Put(key, std::string(3 << 20, 'x'));
    Attributes attributes;
    attributes.mode = S_IFREG | 0644;
    attributes.size = 3 << 20;
    attributes.etag = info->etag;
    return *ObjectFile::Existing(context, key, attributes, std::nullopt);
  };
  std::string data(3 << 20, '\0');
  auto first = open("first");
  if (!first->Read(data, 0)) return 1;
  auto second = open("second");
  auto refused = second->Read(data, 0);
  if (refused || refused.error().code != EIO) return 2;
  if (refused.error().message.find(disk + ": No space left on device") == std::string::npos) return 3;
  first.reset();
  auto again = second->Read(data, 0);
  if (!again || data != std::string(3 << 20, 'x')) return 4;
  if (!second->MakeWritable()) return 5;
  auto written = second->Write(std::string(4 << 20, 'y'), 3 << 20);
  if (written || written.error().code != ENOSPC) return 6;
  return 0;
}

// Another host has appended, so that ours has to follow, for which there is no room.
int AppendedOnAFullDisk(const std::string& scratch) {
  auto context = OnASmallDisk(scratch);
  if (!context) return 77;
  std::string ours(1 << 20, '\0'), theirs(3 << 19, 't');
  for (size_t i = 0; i < ours.size(); ++i) ours[i] = char(i >> 12);
  Attributes attributes;
  attributes.mode = S_IFREG | 0644;
  attributes.size = 1 << 20;
  attributes.etag = context->store->Put("key", std::string(1 << 20, 'b'))->etag;
  auto file = *ObjectFile::Existing(context, "key", attributes, std::nullopt);
  if (!file->MakeWritable() || !file->Append(ours)) return 1;
  auto ballast = *context->cache->NewPrivate();
  const std::string page(4096, 'x');
  for (uint64_t at = 0; PwriteFully(ballast.get(), page.data(), page.size(), at); at += page.size()) {
  }
  if (!context->store->Put("key", theirs)) return 2;
  for (int i = 0; i < 2; ++i)
    if (auto flushed = file->Flush(); flushed || flushed.error().code != ENOSPC) return 3;
  ballast.Reset();
  if (!file->Flush()) return 4;
  return context->store->Get("key")->body == theirs + ours ? 0 : 5;
}

void ExpectInAChild(const std::string& scratch, int (*test)(const std::string&)) {
  pid_t child = fork();
  if (child == 0) _exit(test(scratch));
  int status;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 77) GTEST_SKIP() << "no disk of one's own can be made here";
  EXPECT_EQ(status, 0) << "step " << WEXITSTATUS(status);
}

TEST_F(CacheTest, AFullDiskIsMetByRemovingWhatIsUnusedAndThenSaid) {
  ExpectInAChild(directory_.path(), OnAFullDisk);
}

TEST_F(CacheTest, WhatWasAppendedSurvivesThatThereIsNoRoomToMoveIt) {
  ExpectInAChild(directory_.path(), AppendedOnAFullDisk);
}

}  // namespace
}  // namespace elsewhere::file
