// Files without a name, special files, odd paths, and what has no place in an object.
#include <linux/falloc.h>

#include "hosts.h"

namespace elsewhere::file {
namespace {

using SpecialFileTest = HostsTest;

TEST_F(SpecialFileTest, AnonymousFilesGetTheirNameAtOnce) {
  ASSERT_EQ(CodeOf(home_->MakeDirectory("d", 0755)), 0);
  auto file = home_->Open("d", O_TMPFILE | O_RDWR, 0640);
  ASSERT_TRUE(file.ok());
  ASSERT_TRUE((*file)->Write("content", 0).ok());
  ASSERT_EQ(CodeOf((*file)->Flush()), 0);
  EXPECT_EQ(Names(*home_, "d"), Strings{});
  ASSERT_EQ(CodeOf(WriteFile(*home_, "d/taken", "x")), 0);
  EXPECT_EQ(CodeOf(home_->Link(*file, "d/taken")), EEXIST);
  EXPECT_EQ(CodeOf(home_->Link(*file, "d/name/")), ENOENT) << "only a directory's new name may end in /";
  ASSERT_EQ(CodeOf(home_->Link(*file, "d/name")), 0);
  auto other = NewHost("other");
  EXPECT_EQ(ReadFile(*other, "d/name"), "content");
  EXPECT_EQ(other->Stat("d/name")->mode, mode_t(S_IFREG | 0640));
  EXPECT_EQ(CodeOf(home_->Link(*file, "d/second")), EPERM) << "it would be a hard link";
  ASSERT_TRUE((*file)->Write("CON", 0).ok());
  ASSERT_EQ(CodeOf((*file)->Flush()), 0);
  EXPECT_EQ(test_store_.Open()->Get("d/name")->body, "CONtent");
}

TEST_F(SpecialFileTest, AnonymousFilesLoseARaceWithoutHarm) {
  auto file = home_->Open("", O_TMPFILE | O_WRONLY, 0644);
  ASSERT_TRUE((*file)->Write("mine", 0).ok());
  EXPECT_EQ(CodeOf(home_->Stat("name")), ENOENT);
  ASSERT_EQ(CodeOf(WriteFile(*NewHost("other"), "name", "theirs")), 0);
  EXPECT_EQ(CodeOf(home_->Link(*file, "name")), EEXIST) << "although it was not there a moment ago";
  EXPECT_EQ(test_store_.Open()->Get("name")->body, "theirs");
  ASSERT_EQ(CodeOf(home_->Link(*file, "other name")), 0);
  EXPECT_EQ(test_store_.Open()->Get("other name")->body, "mine");
}

TEST_F(SpecialFileTest, AnonymousFilesFailAsTheCallsDo) {
  ASSERT_EQ(CodeOf(WriteFile(*home_, "file", "")), 0);
  EXPECT_EQ(CodeOf(home_->Open("", O_TMPFILE | O_RDONLY, 0644)), EINVAL);
  EXPECT_EQ(CodeOf(home_->Open("none", O_TMPFILE | O_RDWR, 0644)), ENOENT);
  EXPECT_EQ(CodeOf(home_->Open("file", O_TMPFILE | O_RDWR, 0644)), ENOTDIR);
  auto sealed = home_->Open("", O_TMPFILE | O_RDWR | O_EXCL, 0644);
  EXPECT_EQ(CodeOf(home_->Link(*sealed, "name")), ENOENT);
  auto removed = home_->Open("file", O_RDWR, 0);
  ASSERT_EQ(CodeOf(home_->Unlink("file")), 0);
  EXPECT_EQ(CodeOf(home_->Link(*removed, "name")), ENOENT);
  EXPECT_EQ(Names(*NewHost("other"), ""), Strings{});
}

TEST_F(SpecialFileTest, LargeAnonymousFilesAreSentInParts) {
  auto file = home_->Open("", O_TMPFILE | O_WRONLY, 0644);
  std::string content(20 << 20, 'x');
  ASSERT_TRUE((*file)->Write(content, 0).ok());
  ASSERT_EQ(CodeOf(home_->Link(*file, "large")), 0);
  EXPECT_EQ(test_store_.Open()->Head("large")->size, content.size());
  EXPECT_TRUE(test_store_.Open()->ListUploads("")->empty());
}

TEST_F(SpecialFileTest, FifosAndSocketsAreNamesWithAMode) {
  ASSERT_EQ(CodeOf(home_->MakeSpecial("fifo", S_IFIFO | 0620)), 0);
  ASSERT_EQ(CodeOf(home_->MakeSpecial("socket", S_IFSOCK | 0755)), 0);
  ASSERT_EQ(CodeOf(home_->MakeSpecial("file", 0600)), 0);
  EXPECT_EQ(CodeOf(home_->MakeSpecial("fifo", S_IFIFO | 0600)), EEXIST);
  EXPECT_EQ(CodeOf(home_->MakeSpecial("none/fifo", S_IFIFO | 0600)), ENOENT);
  auto other = NewHost("other");
  EXPECT_EQ(other->Stat("fifo")->mode, mode_t(S_IFIFO | 0620));
  EXPECT_EQ(other->Stat("socket")->mode, mode_t(S_IFSOCK | 0755));
  EXPECT_EQ(other->Stat("file")->mode, mode_t(S_IFREG | 0600));
  EXPECT_EQ(CodeOf(other->Open("fifo", O_RDONLY, 0)), ENXIO);
  EXPECT_EQ(CodeOf(other->Open("socket", O_RDWR, 0)), ENXIO);
  EXPECT_EQ(CodeOf(other->Truncate("fifo", 0)), EINVAL);
  ASSERT_EQ(CodeOf(other->SetMode("fifo", 0666)), 0);
  ASSERT_EQ(CodeOf(other->Rename("fifo", "moved")), 0);
  EXPECT_EQ(NewHost("third")->Stat("moved")->mode, mode_t(S_IFIFO | 0666));
  ASSERT_EQ(CodeOf(other->Unlink("moved")), 0);
}

TEST_F(SpecialFileTest, DevicesCanBeLookedAtOnly) {
  ASSERT_EQ(CodeOf(home_->MakeSpecial("device", S_IFCHR | 0620, 0x103)), 0);
  ASSERT_EQ(CodeOf(home_->MakeSpecial("disk", S_IFBLK | 0600, 0x800)), 0);
  auto other = NewHost("other");
  EXPECT_EQ(other->Stat("device")->mode, mode_t(S_IFCHR | 0620));
  EXPECT_EQ(other->Stat("device")->device, 0x103u);
  EXPECT_EQ(other->Stat("disk")->mode, mode_t(S_IFBLK | 0600));
  EXPECT_EQ(CodeOf(other->Open("device", O_RDONLY, 0)), EACCES) << "as where devices are forbidden";
  EXPECT_EQ(CodeOf(other->Truncate("device", 0)), EINVAL);
  EXPECT_EQ(CodeOf(other->Stat("device/x")), ENOTDIR);
  EXPECT_EQ(CodeOf(other->Access("device", R_OK | W_OK)), 0);
  ASSERT_EQ(CodeOf(other->SetOwner("device", 5, 6)), 0);
  ASSERT_EQ(CodeOf(other->Rename("device", "disk")), 0);
  auto third = NewHost("third");
  EXPECT_EQ(third->Stat("disk")->mode, mode_t(S_IFCHR | 0620));
  EXPECT_EQ(third->Stat("disk")->device, 0x103u);
  EXPECT_EQ(third->Stat("disk")->uid, 5u);
  ASSERT_EQ(CodeOf(home_->SetMode("", 0777)), 0);
  const Caller user{65534, 65534};
  const ActingAs acting(user);
  EXPECT_EQ(CodeOf(home_->MakeSpecial("mine", S_IFCHR | 0600, 0x103)), EPERM);
  EXPECT_EQ(CodeOf(home_->MakeSpecial("none/mine", S_IFCHR | 0600, 0x103)), ENOENT);
}

TEST_F(SpecialFileTest, TheLongestPathCanBeADirectory) {
  std::string path;
  while (path.size() + 101 < home_->LongestPath()) {
    path += std::string(100, 'x');
    ASSERT_EQ(CodeOf(home_->MakeDirectory(path, 0755)), 0);
    path += "/";
  }
  path += std::string(home_->LongestPath() - path.size(), 'y');
  ASSERT_EQ(CodeOf(home_->MakeDirectory(path, 0755)), 0);
  EXPECT_TRUE(NewHost("other")->Stat(path)->is_directory());
  EXPECT_EQ(CodeOf(home_->MakeDirectory(path + "z", 0755)), ENAMETOOLONG);
  EXPECT_EQ(CodeOf(home_->Open(path + "z", O_WRONLY | O_CREAT, 0644)), ENAMETOOLONG);
}

TEST_F(SpecialFileTest, ThereAreNoHardLinks) {
  ASSERT_EQ(CodeOf(WriteFile(*home_, "file", "")), 0);
  EXPECT_EQ(CodeOf(home_->HardLink("none", "link")), ENOENT);
  EXPECT_EQ(CodeOf(home_->HardLink("file", "file")), EEXIST);
  EXPECT_EQ(CodeOf(home_->HardLink("file", "none/link")), ENOENT);
  EXPECT_EQ(CodeOf(home_->HardLink("file", "link")), EPERM);
}

TEST_F(SpecialFileTest, DotsInPathsAreWalked) {
  ASSERT_EQ(CodeOf(home_->MakeDirectory("a", 0755)), 0);
  ASSERT_EQ(CodeOf(home_->MakeDirectory("a/b", 0755)), 0);
  ASSERT_EQ(CodeOf(WriteFile(*home_, "a/file", "in a")), 0);
  ASSERT_EQ(CodeOf(WriteFile(*home_, "file", "at the top")), 0);
  ASSERT_EQ(CodeOf(home_->MakeLink("a/b", "link")), 0);
  EXPECT_EQ(ReadFile(*home_, "./a//./file"), "in a");
  EXPECT_EQ(ReadFile(*home_, "a/b/../file"), "in a");
  EXPECT_EQ(ReadFile(*home_, "link/../file"), "in a") << "not what the text says";
  EXPECT_EQ(ReadFile(*home_, "a/../file"), "at the top");
  EXPECT_EQ(CodeOf(home_->Stat("none/../file")), ENOENT);
  EXPECT_EQ(CodeOf(home_->Stat("file/../file")), ENOTDIR);
  EXPECT_EQ(CodeOf(home_->Stat("file/.")), ENOTDIR);
  EXPECT_TRUE(home_->Stat("a/b/../..")->is_directory());
  EXPECT_EQ(CodeOf(home_->Stat("a/../../etc")), EREMOTE);
  EXPECT_EQ(home_->Resolve("a/../../etc/passwd", true)->outside, "/etc/passwd");
  ASSERT_EQ(CodeOf(home_->MakeLink("a/../loop/../x", "loop")), 0);
  EXPECT_EQ(CodeOf(home_->Stat("loop")), ELOOP);
  EXPECT_EQ(CodeOf(home_->Rename("a/.", "x")), EBUSY);
  EXPECT_EQ(CodeOf(home_->RemoveDirectory("a/.")), EINVAL);
  EXPECT_EQ(CodeOf(home_->RemoveDirectory("a/b/..")), ENOTEMPTY);
  EXPECT_EQ(CodeOf(home_->MakeDirectory("a/.", 0755)), EEXIST);
  EXPECT_EQ(CodeOf(home_->Unlink("a/..")), EISDIR);
  EXPECT_EQ(CodeOf(home_->Stat(std::string(256, 'x'))), ENAMETOOLONG);
  EXPECT_EQ(CodeOf(home_->Open("a/" + std::string(256, 'x'), O_RDONLY, 0)), ENAMETOOLONG);
}

TEST_F(SpecialFileTest, RangesAreZeroedAndReserved) {
  ASSERT_EQ(CodeOf(WriteFile(*home_, "file", "0123456789")), 0);
  auto host = NewHost("other");
  auto file = host->Open("file", O_RDWR, 0);
  EXPECT_EQ(CodeOf((*file)->Allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2, 3)), 0);
  EXPECT_EQ(CodeOf((*file)->Allocate(FALLOC_FL_ZERO_RANGE, 9, 3)), 0);
  EXPECT_EQ(CodeOf((*file)->Allocate(FALLOC_FL_KEEP_SIZE, 0, 100)), 0);
  EXPECT_EQ((*file)->attributes().size, 12u);
  EXPECT_EQ(CodeOf((*file)->Allocate(0, 0, 14)), 0);
  EXPECT_EQ(CodeOf((*file)->Allocate(FALLOC_FL_COLLAPSE_RANGE, 0, 4096)), EOPNOTSUPP);
  EXPECT_EQ(CodeOf((*file)->Allocate(FALLOC_FL_PUNCH_HOLE, 0, 1)), EOPNOTSUPP);
  EXPECT_EQ(CodeOf((*file)->Allocate(0, 0, 0)), EINVAL);
  ASSERT_EQ(CodeOf((*file)->Flush()), 0);
  EXPECT_EQ(test_store_.Open()->Get("file")->body, std::string("01\0\0\0"
                                                               "5678\0\0\0\0\0",
                                                               14));
  EXPECT_EQ(*(*file)->SeekData(3), 3u);
  EXPECT_EQ(*(*file)->SeekHole(3), 14u);
  EXPECT_EQ(CodeOf((*file)->SeekData(14)), ENXIO);
  EXPECT_EQ(CodeOf((*file)->SeekHole(14)), ENXIO);
}

TEST_F(SpecialFileTest, ABucketHasRoom) {
  auto status = home_->StatFs();
  EXPECT_EQ(status.f_bsize, 4096u);
  EXPECT_GT(status.f_bavail, 1u << 30);
  EXPECT_EQ(status.f_namemax, 255u);
  EXPECT_EQ(status.f_flag & ST_RDONLY, 0u);
  EXPECT_NE(NewHost("reader", {.mount_point = "", .read_only = true})->StatFs().f_flag & ST_RDONLY, 0u);
}

TEST_F(SpecialFileTest, AReaderDoesNotHideWhatAnotherHostWrote) {
  ASSERT_EQ(CodeOf(WriteFile(*home_, "file", "one")), 0);
  auto reader = NewHost("reader", {.mount_point = "", .remember_ms = 0});
  auto file = reader->Open("file", O_RDONLY, 0);
  ASSERT_EQ(CodeOf(WriteFile(*home_, "file", "longer")), 0);
  EXPECT_EQ(reader->Stat("file")->size, 6u);
  EXPECT_EQ((*file)->attributes().size, 3u);
}

}  // namespace
}  // namespace elsewhere::file
