// Permissions as the kernel has them, by mode and owner in the metadata.
#include "hosts.h"
#include "shim/file/caller.h"

namespace elsewhere::file {
namespace {

class PermissionTest : public HostsTest {
 protected:
  void SetUp() override {
    ASSERT_EQ(CodeOf(home_->MakeDirectory("closed", 0700)), 0);
    ASSERT_EQ(CodeOf(home_->MakeDirectory("closed/open", 0777)), 0);
    ASSERT_EQ(CodeOf(home_->SetMode("closed/open", 0777)), 0);
    ASSERT_EQ(CodeOf(WriteFile(*home_, "closed/open/file", "text")), 0);
    ASSERT_EQ(CodeOf(home_->MakeDirectory("shared", 0777)), 0);
  }
  const Caller user_{1000, 1000, {}}, other_{1001, 1001, {1000}};
};

TEST_F(PermissionTest, EveryDirectoryOnTheWayMustBeSearchable) {
  ActingAs who(user_);
  EXPECT_EQ(CodeOf(home_->Open("closed/open/file", O_RDONLY, 0)), EACCES);
  EXPECT_EQ(CodeOf(home_->Stat("closed/open/file")), EACCES);
  EXPECT_EQ(CodeOf(home_->Stat("closed/open/none")), EACCES);
  EXPECT_EQ(CodeOf(home_->Access("closed", F_OK)), 0);
  EXPECT_EQ(CodeOf(home_->Open("closed/open/new", O_WRONLY | O_CREAT, 0644)), EACCES);
  EXPECT_EQ(CodeOf(home_->MakeLink("../closed/open", "shared/link")), 0);
  EXPECT_EQ(CodeOf(home_->Stat("shared/link/file")), EACCES);
  {
    Caller root;
    ActingAs again(root);
    ASSERT_EQ(CodeOf(home_->SetMode("closed", 0711)), 0);
  }
  EXPECT_EQ(ReadFile(*home_, "closed/open/file"), "text");
  EXPECT_EQ(ReadFile(*home_, "shared/link/file"), "text");
  EXPECT_EQ(CodeOf(home_->ReadDirectory("closed")), EACCES);
}

TEST_F(PermissionTest, WhoMakesAFileOwnsIt) {
  ActingAs who(user_);
  ASSERT_EQ(CodeOf(WriteFile(*home_, "shared/mine", "text")), 0);
  EXPECT_EQ(home_->Stat("shared/mine")->uid, 1000u);
  EXPECT_EQ(CodeOf(home_->SetMode("shared/mine", 0600)), 0);
  ActingAs another(other_);
  EXPECT_EQ(CodeOf(home_->Open("shared/mine", O_RDONLY, 0)), EACCES);
  EXPECT_EQ(CodeOf(home_->SetMode("shared/mine", 0777)), EPERM);
  EXPECT_EQ(CodeOf(home_->SetTimes("shared/mine", {1, 1, false})), EPERM);
  EXPECT_EQ(CodeOf(home_->SetTimes("shared/mine", {1, 1, true})), EACCES);
  EXPECT_EQ(CodeOf(home_->SetOwner("shared/mine", 1001, gid_t(-1))), EPERM);
  EXPECT_EQ(CodeOf(home_->SetOwner("shared/mine", uid_t(-1), gid_t(-1))), 0);
  EXPECT_EQ(CodeOf(home_->Unlink("shared/mine")), 0) << "the directory decides";
}

TEST_F(PermissionTest, StickyDirectories) {
  ASSERT_EQ(CodeOf(home_->SetMode("shared", 01777)), 0);
  {
    ActingAs who(user_);
    ASSERT_EQ(CodeOf(WriteFile(*home_, "shared/mine", "text")), 0);
    ASSERT_EQ(CodeOf(home_->MakeDirectory("shared/dir", 0777)), 0);
  }
  ActingAs who(other_);
  EXPECT_EQ(CodeOf(home_->Unlink("shared/mine")), EPERM);
  EXPECT_EQ(CodeOf(home_->RemoveDirectory("shared/dir")), EPERM);
  EXPECT_EQ(CodeOf(home_->Rename("shared/mine", "shared/yours")), EPERM);
  ASSERT_EQ(CodeOf(WriteFile(*home_, "shared/yours", "text")), 0);
  EXPECT_EQ(CodeOf(home_->Rename("shared/yours", "shared/mine")), EPERM);
  EXPECT_EQ(CodeOf(home_->Unlink("shared/yours")), 0);
}

TEST_F(PermissionTest, GroupsOfDirectoriesAreInherited) {
  ASSERT_EQ(CodeOf(home_->SetOwner("shared", uid_t(-1), 77)), 0);
  ASSERT_EQ(CodeOf(home_->SetMode("shared", 02777)), 0);
  ActingAs who(user_);
  ASSERT_EQ(CodeOf(WriteFile(*home_, "shared/file", "")), 0);
  ASSERT_EQ(CodeOf(home_->MakeDirectory("shared/dir", 0755)), 0);
  EXPECT_EQ(home_->Stat("shared/file")->gid, 77u);
  EXPECT_EQ(home_->Stat("shared/dir")->gid, 77u);
  EXPECT_EQ(home_->Stat("shared/dir")->mode, mode_t(S_IFDIR | 02755));
  ASSERT_EQ(CodeOf(home_->SetMode("shared/file", 02755)), 0);
  EXPECT_EQ(home_->Stat("shared/file")->mode, mode_t(S_IFREG | 0755)) << "not one of one's groups";
}

TEST_F(PermissionTest, ChangesTakeSetIdBitsAway) {
  ActingAs who(user_);
  ASSERT_EQ(CodeOf(WriteFile(*home_, "shared/tool", "text")), 0);
  ASSERT_EQ(CodeOf(home_->SetMode("shared/tool", 06777)), 0);
  {
    ActingAs another(other_);
    ASSERT_EQ(CodeOf(WriteFile(*home_, "shared/tool", "TEXT", O_WRONLY)), 0);
  }
  EXPECT_EQ(NewHost("other")->Stat("shared/tool")->mode, mode_t(S_IFREG | 0777));
}

// As a process writes whose file is looked at later, on behalf of nobody.
TEST_F(PermissionTest, WhoOpenedItCountsWhereTheWriterIsNotSaid) {
  ASSERT_EQ(CodeOf(WriteFile(*home_, "shared/tool", "text")), 0);
  ASSERT_EQ(CodeOf(home_->SetMode("shared/tool", 04777)), 0);
  auto roots = home_->Open("shared/tool", O_WRONLY, 0);
  ASSERT_TRUE((*roots)->Write("a", 0).ok());
  EXPECT_EQ((*roots)->attributes().mode, mode_t(S_IFREG | 04777));
  std::shared_ptr<ObjectFile> file;
  {
    ActingAs who(user_);
    file = *home_->Open("shared/tool", O_WRONLY, 0);
  }
  ASSERT_TRUE(file->Write("b", 0).ok());
  EXPECT_EQ(file->attributes().mode, mode_t(S_IFREG | 0777));
}

TEST_F(PermissionTest, TheMappedDirectoryHasAttributesToo) {
  ASSERT_EQ(CodeOf(home_->SetMode("", 0750)), 0);
  ASSERT_EQ(CodeOf(home_->SetTimes("", {1'000'000'000, 2'000'000'000})), 0);
  auto other = NewHost("other");
  EXPECT_EQ(other->Stat("")->mode, mode_t(S_IFDIR | 0750));
  EXPECT_EQ(other->Stat("")->mtime_ns, 2'000'000'000);
  EXPECT_EQ(Names(*other, ""), (Strings{"closed/", "shared/"}));
  ActingAs who(user_);
  EXPECT_EQ(CodeOf(other->Stat("shared")), EACCES);
}

TEST_F(PermissionTest, ADirectorysTimesFollowItsNames) {
  ASSERT_EQ(CodeOf(home_->SetTimes("shared", {1'000'000'000, 1'000'000'000})), 0);
  EXPECT_EQ(home_->Stat("shared")->mtime_ns, 1'000'000'000);
  ASSERT_EQ(CodeOf(WriteFile(*home_, "shared/new", "")), 0);
  EXPECT_GT(home_->Stat("shared")->mtime_ns, 1'000'000'000);
  EXPECT_EQ(home_->Stat("shared")->atime_ns, 1'000'000'000);
  ASSERT_EQ(CodeOf(home_->SetTimes("shared", {1, 1'000'000'000})), 0);
  EXPECT_EQ(home_->Stat("shared")->mtime_ns, 1'000'000'000) << "what was asked for counts";
}

}  // namespace
}  // namespace elsewhere::file
