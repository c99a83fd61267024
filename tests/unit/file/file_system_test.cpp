#include "shim/file/file_system.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "hosts.h"

namespace elsewhere::file {
namespace {

using FileSystemTest = HostsTest;

TEST_F(FileSystemTest, FilesAreObjectsAndObjectsAreFiles) {
  ASSERT_EQ(CodeOf(home_->MakeDirectory("dir", 0750)), 0);
  ASSERT_EQ(CodeOf(WriteFile(*home_, "dir/file", "text")), 0);
  auto store = test_store_.Open();
  EXPECT_EQ(store->Get("dir/file")->body, "text");
  EXPECT_EQ(store->Head("dir/")->content_type, "application/x-directory");
  ASSERT_TRUE(store->Put("plain/from elsewhere", "12345").ok());
  auto other = NewHost("other");
  EXPECT_EQ(ReadFile(*other, "plain/from elsewhere"), "12345");
  auto stat = other->Stat("plain/from elsewhere");
  EXPECT_EQ(stat->mode, mode_t(S_IFREG | 0644));
  EXPECT_EQ(stat->size, 5u);
  EXPECT_EQ(other->Stat("plain")->mode, mode_t(S_IFDIR | 0755));
  EXPECT_EQ(other->Stat("dir")->mode, mode_t(S_IFDIR | 0750));
  EXPECT_EQ(Names(*other, ""), (Strings{"dir/", "plain/"}));
  EXPECT_EQ(Names(*other, "plain/"), Strings{"from elsewhere"});
}

TEST_F(FileSystemTest, OpenFailsAsPosixSays) {
  ASSERT_EQ(CodeOf(WriteFile(*home_, "file", "text")), 0);
  ASSERT_EQ(CodeOf(home_->MakeDirectory("dir", 0755)), 0);
  EXPECT_EQ(CodeOf(home_->Open("none", O_RDONLY, 0)), ENOENT);
  EXPECT_EQ(CodeOf(home_->Open("none/x", O_RDWR | O_CREAT, 0644)), ENOENT);
  EXPECT_EQ(CodeOf(home_->Open("file/x", O_RDONLY, 0)), ENOTDIR);
  EXPECT_EQ(CodeOf(home_->Open("file/x/y", O_RDWR | O_CREAT, 0644)), ENOTDIR);
  EXPECT_EQ(CodeOf(home_->Open("file/", O_RDONLY, 0)), ENOTDIR);
  EXPECT_EQ(CodeOf(home_->Open("dir", O_WRONLY, 0)), EISDIR);
  EXPECT_EQ(CodeOf(home_->Open("new/", O_WRONLY | O_CREAT, 0644)), EISDIR);
  EXPECT_EQ(CodeOf(home_->Open("file", O_RDWR | O_CREAT | O_EXCL, 0644)), EEXIST);
  EXPECT_EQ(CodeOf(home_->MakeDirectory("file", 0755)), EEXIST);
  EXPECT_EQ(CodeOf(home_->MakeDirectory("dir/", 0755)), EEXIST);
  EXPECT_EQ(CodeOf(home_->MakeDirectory("none/x", 0755)), ENOENT);
  EXPECT_EQ(CodeOf(home_->MakeDirectory("file/x", 0755)), ENOTDIR);
  EXPECT_EQ(CodeOf(home_->ReadDirectory("file")), ENOTDIR);
  EXPECT_EQ(CodeOf(home_->ReadDirectory("none")), ENOENT);
  EXPECT_EQ(CodeOf(home_->Unlink("dir")), EISDIR);
  EXPECT_EQ(CodeOf(home_->Unlink("none")), ENOENT);
  EXPECT_EQ(CodeOf(home_->RemoveDirectory("file")), ENOTDIR);
  EXPECT_EQ(CodeOf(home_->RemoveDirectory("")), EBUSY);
}

TEST_F(FileSystemTest, ExclusiveCreationHasOneWinnerAmongHosts) {
  std::atomic<int> winners{0}, losers{0};
  constexpr size_t kHosts = 8;
  std::vector<std::shared_ptr<FileSystem>> hosts;
  hosts.reserve(kHosts);
  for (size_t i = 0; i < kHosts; ++i) hosts.push_back(NewHost("racer" + std::to_string(i)));
  std::vector<std::thread> racers;
  racers.reserve(kHosts);
  for (auto& host : hosts)
    racers.emplace_back([&] {
      int code = CodeOf(host->Open("lock", O_WRONLY | O_CREAT | O_EXCL, 0600));
      winners += code == 0;
      losers += code == EEXIST;
    });
  for (auto& racer : racers) racer.join();
  EXPECT_EQ(winners, 1);
  EXPECT_EQ(losers, 7);
}

TEST_F(FileSystemTest, AnUnsentFileIsSeenOnItsHost) {
  auto file = home_->Open("new", O_RDWR | O_CREAT, 0600);
  ASSERT_TRUE(file.ok());
  ASSERT_TRUE((*file)->Write("abc", 0).ok());
  EXPECT_EQ(home_->Stat("new")->size, 3u);
  EXPECT_EQ(Names(*home_, ""), Strings{"new"});
  EXPECT_EQ(ReadFile(*home_, "new"), "abc");
  EXPECT_EQ(CodeOf(NewHost("other")->Stat("new")), ENOENT);
  ASSERT_TRUE((*file)->Flush().ok());
  EXPECT_EQ(NewHost("another")->Stat("new")->mode, mode_t(S_IFREG | 0600));
}

TEST_F(FileSystemTest, WhatThisHostChangedIsSeenHereAtOnce) {
  ASSERT_EQ(CodeOf(WriteFile(*home_, "file", "one")), 0);
  EXPECT_EQ(home_->Stat("file")->size, 3u);
  ASSERT_EQ(CodeOf(WriteFile(*home_, "file", "longer")), 0);
  EXPECT_EQ(home_->Stat("file")->size, 6u);
  ASSERT_EQ(CodeOf(WriteFile(*home_, "file", "LONG", O_WRONLY)), 0);
  EXPECT_EQ(ReadFile(*home_, "file"), "LONGer");
  ASSERT_EQ(CodeOf(home_->SetMode("file", 0600)), 0);
  EXPECT_EQ(home_->Stat("file")->mode, mode_t(S_IFREG | 0600));
  ASSERT_EQ(CodeOf(home_->Truncate("file", 1)), 0);
  EXPECT_EQ(home_->Stat("file")->size, 1u);
}

TEST_F(FileSystemTest, CloseToOpenConsistency) {
  auto other = NewHost("other");
  ASSERT_EQ(CodeOf(WriteFile(*home_, "file", "one")), 0);
  EXPECT_EQ(ReadFile(*other, "file"), "one");
  auto kept_open = other->Open("file", O_RDONLY, 0);
  ASSERT_EQ(CodeOf(WriteFile(*home_, "file", "two, longer")), 0);
  EXPECT_EQ(ReadFile(*other, "file"), "two, longer");
  std::string old(3, '\0');
  EXPECT_EQ(*(*kept_open)->Read(old, 0), 3u);
  EXPECT_EQ(old, "one") << "an open file keeps the version it has fetched";
}

TEST_F(FileSystemTest, DirectoriesOutliveTheirLastFile) {
  ASSERT_TRUE(test_store_.Open()->Put("a/b/c", "x").ok());
  ASSERT_EQ(CodeOf(home_->Unlink("a/b/c")), 0);
  EXPECT_EQ(Names(*home_, "a/b"), Strings{});
  EXPECT_EQ(Names(*NewHost("other"), "a"), Strings{"b/"});
  ASSERT_EQ(CodeOf(home_->RemoveDirectory("a/b")), 0);
  EXPECT_EQ(CodeOf(home_->Stat("a/b")), ENOENT);
  EXPECT_EQ(Names(*NewHost("third"), ""), Strings{"a/"});
  ASSERT_EQ(CodeOf(WriteFile(*home_, "a/x", "")), 0);
  EXPECT_EQ(CodeOf(home_->RemoveDirectory("a")), ENOTEMPTY);
}

TEST_F(FileSystemTest, RenamesFilesAndTrees) {
  ASSERT_EQ(CodeOf(home_->MakeDirectory("d", 0700)), 0);
  ASSERT_EQ(CodeOf(home_->MakeDirectory("d/sub", 0711)), 0);
  ASSERT_EQ(CodeOf(home_->MakeDirectory("empty", 0755)), 0);
  for (int i = 0; i < 20; ++i)
    ASSERT_EQ(CodeOf(WriteFile(*home_, "d/sub/" + std::to_string(i), std::to_string(i))), 0);
  ASSERT_EQ(CodeOf(WriteFile(*home_, "file", "content")), 0);
  auto open = home_->Open("file", O_RDWR, 0);

  EXPECT_EQ(CodeOf(home_->Rename("none", "x")), ENOENT);
  EXPECT_EQ(CodeOf(home_->Rename("d", "d/sub/x")), EINVAL);
  EXPECT_EQ(CodeOf(home_->Rename("d", "file")), ENOTDIR);
  EXPECT_EQ(CodeOf(home_->Rename("file", "d")), EISDIR);
  EXPECT_EQ(CodeOf(home_->Rename("empty", "d")), ENOTEMPTY);
  EXPECT_EQ(CodeOf(home_->Rename("file", "d/sub/1", RENAME_NOREPLACE)), EEXIST);
  EXPECT_EQ(CodeOf(home_->Rename("file", "x", RENAME_EXCHANGE)), EINVAL);
  EXPECT_EQ(CodeOf(home_->Rename("file", "file")), 0);

  ASSERT_EQ(CodeOf(home_->Rename("file", "d/sub/1")), 0);
  EXPECT_EQ(CodeOf(home_->Stat("file")), ENOENT);
  EXPECT_EQ(ReadFile(*home_, "d/sub/1"), "content");
  ASSERT_TRUE((*open)->Write("CON", 0).ok());
  ASSERT_TRUE((*open)->Flush().ok()) << "an open file follows its new name";
  EXPECT_EQ(test_store_.Open()->Get("d/sub/1")->body, "CONtent");
  ASSERT_EQ(CodeOf(home_->Rename("d/sub/2", "fresh", RENAME_NOREPLACE)), 0);
  EXPECT_EQ(ReadFile(*home_, "fresh"), "2");

  ASSERT_EQ(CodeOf(home_->Rename("d", "empty")), 0);
  EXPECT_EQ(CodeOf(home_->Stat("d")), ENOENT);
  auto other = NewHost("other");
  EXPECT_EQ(Names(*other, ""), (Strings{"empty/", "fresh"}));
  EXPECT_EQ(Names(*other, "empty/sub").size(), 19u);
  EXPECT_EQ(other->Stat("empty/sub")->mode, mode_t(S_IFDIR | 0711));
  EXPECT_EQ(ReadFile(*other, "empty/sub/19"), "19");
}

TEST_F(FileSystemTest, AFileKeepsItsInodeUnderAnotherName) {
  const auto inode = [](FileSystem& host, const std::string& path) {
    auto attributes = host.Stat(path);
    return attributes ? host.InodeOf(path, *attributes) : 0;
  };
  ASSERT_EQ(CodeOf(WriteFile(*home_, "log", "old")), 0);
  const uint64_t number = inode(*home_, "log"), before = home_->Stat("log")->ctime_ns;
  auto open = *home_->Open("log", O_RDONLY, 0);
  ASSERT_EQ(CodeOf(home_->Rename("log", "log.1")), 0);
  EXPECT_EQ(inode(*home_, "log.1"), number);
  EXPECT_EQ(home_->InodeOf(open->key(), open->attributes()), number);
  EXPECT_GT(home_->Stat("log.1")->ctime_ns, before);
  ASSERT_EQ(CodeOf(WriteFile(*home_, "log", "new")), 0);
  EXPECT_NE(inode(*home_, "log"), number) << "another file";
  EXPECT_NE(inode(*home_, "log"), 0u);
  EXPECT_EQ(inode(*NewHost("other"), "log.1"), number);
  ASSERT_EQ(CodeOf(home_->Rename("log.1", "log")), 0);
  EXPECT_EQ(inode(*NewHost("third"), "log"), number);
  ASSERT_TRUE(test_store_.Open()->Copy("log", "copy").ok());
  EXPECT_NE(inode(*home_, "copy"), number) << "somebody else copied the object with all its metadata";

  ASSERT_EQ(CodeOf(home_->MakeDirectory("d", 0750)), 0);
  ASSERT_EQ(CodeOf(WriteFile(*home_, "d/file", "x")), 0);
  const uint64_t of_directory = inode(*home_, "d");
  auto below = *home_->Open("d/file", O_RDONLY, 0);
  ASSERT_EQ(CodeOf(home_->Rename("d", "e")), 0);
  EXPECT_EQ(inode(*NewHost("fourth"), "e"), of_directory);
  EXPECT_EQ(home_->Stat("e")->mode, mode_t(S_IFDIR | 0750));
  EXPECT_EQ(inode(*NewHost("fifth"), "e/file"), home_->InodeOf("e/file", below->attributes()));
  ASSERT_EQ(CodeOf(home_->MakeDirectory("d", 0750)), 0);
  EXPECT_NE(inode(*home_, "d"), of_directory);
}

TEST_F(FileSystemTest, LinksAreFollowedInsideTheMapOnly) {
  ASSERT_EQ(CodeOf(home_->MakeDirectory("d", 0755)), 0);
  ASSERT_EQ(CodeOf(WriteFile(*home_, "d/file", "text")), 0);
  ASSERT_EQ(CodeOf(home_->MakeLink("d", "to-dir")), 0);
  ASSERT_EQ(CodeOf(home_->MakeLink("../d/./file", "d/to-file")), 0);
  ASSERT_EQ(CodeOf(home_->MakeLink("/data/d/file", "absolute")), 0);
  ASSERT_EQ(CodeOf(home_->MakeLink("/etc/passwd", "out")), 0);
  ASSERT_EQ(CodeOf(home_->MakeLink("loop", "loop")), 0);
  ASSERT_EQ(CodeOf(home_->MakeLink("nowhere", "dangling")), 0);
  EXPECT_EQ(ReadFile(*home_, "to-dir/to-file"), "text");
  EXPECT_EQ(ReadFile(*home_, "absolute"), "text");
  EXPECT_EQ(*home_->ReadLink("out"), "/etc/passwd");
  EXPECT_EQ(CodeOf(home_->ReadLink("d/file")), EINVAL);
  EXPECT_EQ(CodeOf(home_->Open("out", O_RDONLY, 0)), EREMOTE);
  EXPECT_EQ(home_->Resolve("out", true)->outside, "/etc/passwd");
  EXPECT_EQ(CodeOf(home_->Open("loop", O_RDONLY, 0)), ELOOP);
  EXPECT_EQ(CodeOf(home_->Open("dangling", O_RDONLY, 0)), ENOENT);
  EXPECT_EQ(CodeOf(home_->Open("to-dir/to-file", O_RDONLY | O_NOFOLLOW, 0)), ELOOP);
  EXPECT_TRUE(home_->Stat("to-dir", false)->is_link());
  EXPECT_EQ(home_->Stat("to-dir", false)->size, 1u);
  EXPECT_TRUE(home_->Stat("to-dir/", false)->is_directory());
  EXPECT_EQ(Names(*home_, "to-dir"), (Strings{"file", "to-file"}));
  ASSERT_EQ(CodeOf(WriteFile(*home_, "dangling", "now there")), 0);
  EXPECT_EQ(ReadFile(*home_, "nowhere"), "now there");
  ASSERT_EQ(CodeOf(home_->Unlink("to-dir")), 0);
  EXPECT_EQ(ReadFile(*home_, "d/file"), "text");
}

TEST_F(FileSystemTest, AttributesAreKept) {
  ASSERT_EQ(CodeOf(WriteFile(*home_, "file", "text")), 0);
  ASSERT_EQ(CodeOf(home_->SetMode("file", 04755)), 0);
  ASSERT_EQ(CodeOf(home_->SetTimes("file", {1'000'000'001, 2'000'000'002})), 0);
  ASSERT_EQ(CodeOf(home_->SetOwner("file", 12, gid_t(-1))), 0);
  ASSERT_EQ(CodeOf(home_->MakeDirectory("d", 0755)), 0);
  ASSERT_EQ(CodeOf(home_->SetMode("d", 0701)), 0);
  auto other = NewHost("other");
  auto stat = other->Stat("file");
  EXPECT_EQ(stat->mode, mode_t(S_IFREG | 0755)) << "a change of owner takes the set-uid bit away";
  EXPECT_EQ(stat->atime_ns, 1'000'000'001);
  EXPECT_EQ(stat->mtime_ns, 2'000'000'002);
  EXPECT_EQ(stat->uid, 12u);
  EXPECT_EQ(other->Stat("d")->mode, mode_t(S_IFDIR | 0701));
  EXPECT_EQ(ReadFile(*other, "file"), "text");
  ASSERT_EQ(CodeOf(home_->Truncate("file", 2)), 0);
  EXPECT_EQ(test_store_.Open()->Get("file")->body, "te");
}

TEST_F(FileSystemTest, TimesOfDirectoriesFollowTheChangesOfAllHosts) {
  auto other = NewHost("other");
  ASSERT_EQ(CodeOf(home_->MakeDirectory("d", 0755)), 0);
  ASSERT_EQ(CodeOf(WriteFile(*home_, "d/file", "text")), 0);
  // What was set later counts, also if another host has set it.
  ASSERT_EQ(CodeOf(other->SetTimes("d", {1'000'000'001, 2'000'000'002})), 0);
  home_->ForgetAll();
  EXPECT_EQ(home_->Stat("d")->mtime_ns, 2'000'000'002);
  ASSERT_EQ(CodeOf(other->Unlink("d/file")), 0);
  auto times = other->TakeDirectoryTimes();
  ASSERT_EQ(times.size(), 1u);
  EXPECT_EQ(times[0].first, "d");
  EXPECT_TRUE(other->TakeDirectoryTimes().empty());
  home_->NoteDirectoryTimes(times);
  home_->ForgetAll();
  EXPECT_EQ(home_->Stat("d")->mtime_ns, times[0].second);
  EXPECT_EQ(home_->Stat("d")->ctime_ns, times[0].second);
}

TEST_F(FileSystemTest, NamesThatTheStoreCannotHaveAreRefused) {
  const std::string name(200, 'x'), most = name + "/" + name + "/" + name + "/" + name + "/" + name;
  const std::string longer = most + "/" + std::string(store::kLongestKey - most.size(), 'y');
  EXPECT_EQ(CodeOf(home_->Stat(longer)), ENAMETOOLONG);
  if (!test_store_.on_s3()) return;
  for (const char* bytes : {"\xff", "a\xc3", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80"}) {
    EXPECT_EQ(CodeOf(home_->Open(bytes, O_WRONLY | O_CREAT, 0644)), EILSEQ);
    EXPECT_EQ(CodeOf(home_->Open(bytes, O_RDONLY, 0)), EILSEQ);
    EXPECT_EQ(CodeOf(home_->MakeDirectory(bytes, 0755)), EILSEQ);
  }
  EXPECT_EQ(CodeOf(home_->MakeDirectory("\u00e7\u20ac\U0001f600", 0755)), 0);
}

TEST_F(FileSystemTest, PermissionsAndReadOnlyMaps) {
  ASSERT_EQ(CodeOf(WriteFile(*home_, "file", "text")), 0);
  ASSERT_EQ(CodeOf(home_->MakeDirectory("dir", 0755)), 0);
  ASSERT_EQ(CodeOf(home_->SetMode("file", 0640)), 0);
  auto user = NewHost("user", {.mount_point = "", .caller = {1000, 1000}});
  EXPECT_EQ(CodeOf(user->Open("file", O_RDONLY, 0)), EACCES);
  EXPECT_EQ(CodeOf(user->Access("file", F_OK)), 0);
  EXPECT_EQ(CodeOf(user->Open("dir/new", O_WRONLY | O_CREAT, 0644)), EACCES);
  EXPECT_EQ(CodeOf(user->SetMode("file", 0777)), EPERM);
  EXPECT_EQ(CodeOf(user->Unlink("file")), EACCES);
  auto member = NewHost("member", {.mount_point = "", .caller = {1000, 1000, {0}}});
  EXPECT_EQ(CodeOf(member->Open("file", O_RDONLY, 0)), 0);
  EXPECT_EQ(CodeOf(member->Open("file", O_RDWR, 0)), EACCES);

  auto reader = NewHost("reader", {.mount_point = "", .read_only = true});
  EXPECT_EQ(ReadFile(*reader, "file"), "text");
  EXPECT_EQ(CodeOf(reader->Open("file", O_RDWR, 0)), EROFS);
  EXPECT_EQ(CodeOf(reader->Open("new", O_RDONLY | O_CREAT, 0644)), EROFS);
  EXPECT_EQ(CodeOf(reader->Unlink("file")), EROFS);
  EXPECT_EQ(CodeOf(reader->MakeDirectory("new", 0755)), EROFS);
  EXPECT_EQ(CodeOf(reader->Rename("file", "new")), EROFS);
  EXPECT_EQ(CodeOf(reader->SetMode("file", 0600)), EROFS);
  EXPECT_EQ(CodeOf(reader->Access("file", W_OK)), EROFS);
}

TEST_F(FileSystemTest, AWalkLooksUpManyNamesAtOnce) {
  auto store = test_store_.Open();
  for (int i = 0; i < 150; ++i)
    ASSERT_TRUE(store->Put("d/" + std::to_string(i), std::string(size_t(i), 'x')).ok());
  ASSERT_TRUE(store->Put("d/sub/x", "").ok());
  auto entries = home_->ReadDirectory("d");
  ASSERT_TRUE(entries.ok());
  for (auto& entry : *entries) {
    auto stat = home_->Stat("d/" + entry.name);
    ASSERT_TRUE(stat.ok());
    EXPECT_EQ(entry.type, stat->is_directory() ? S_IFDIR : 0u);
    EXPECT_EQ(stat->is_directory() ? "sub" : std::to_string(stat->size), entry.name);
  }
  EXPECT_EQ(CodeOf(home_->Stat("d/none")), ENOENT);
  ASSERT_EQ(CodeOf(WriteFile(*home_, "d/none", "x")), 0);
  EXPECT_EQ(home_->Stat("d/none")->size, 1u);
  ASSERT_EQ(CodeOf(home_->Unlink("d/7")), 0);
  EXPECT_EQ(CodeOf(home_->Stat("d/7")), ENOENT);
}

}  // namespace
}  // namespace elsewhere::file
