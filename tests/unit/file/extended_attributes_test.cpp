#include "shim/file/extended_attributes.h"

#include <sys/xattr.h>

#include "hosts.h"

namespace elsewhere::file {
namespace {

using ExtendedAttributesTest = HostsTest;

TEST(ExtendedAttributesForm, IsThatOfS3fs) {
  Attributes attributes;
  attributes.mode = S_IFREG | 0644;
  ASSERT_TRUE(SetExtendedAttribute(&attributes, "user.a", "hello", 0).ok());
  EXPECT_EQ(attributes.other["xattr"], "%7B%22user.a%22%3A%22aGVsbG8%3D%22%7D");
  attributes.other["xattr"] = "%7b%22user.one%22%3a%22AAE%3d%22%2c%22user.two%22%3a%22%22%7d";
  EXPECT_EQ(ExtendedAttributesOf(attributes),
            (ExtendedAttributes{{"user.one", std::string("\0\1", 2)}, {"user.two", ""}}));
  attributes.other["xattr"] = "nonsense";
  EXPECT_TRUE(ExtendedAttributesOf(attributes).empty());
}

TEST_F(ExtendedAttributesTest, AreKeptWithTheObject) {
  std::string odd_name = "user.\"odd\" %\\,:{}\xc3\xa4", bytes("\0\xff\n", 3);
  ASSERT_EQ(CodeOf(WriteFile(*home_, "file", "text")), 0);
  ASSERT_EQ(CodeOf(home_->SetXattr("file", "user.a", "1", 0)), 0);
  ASSERT_EQ(CodeOf(home_->SetXattr("file", odd_name, bytes, XATTR_CREATE)), 0);
  ASSERT_EQ(CodeOf(home_->MakeDirectory("dir", 0755)), 0);
  ASSERT_EQ(CodeOf(home_->SetXattr("dir", "user.d", "of the directory", 0)), 0);
  ASSERT_EQ(CodeOf(home_->SetXattr("", "user.root", "of the map", 0)), 0);
  ASSERT_EQ(CodeOf(WriteFile(*home_, "file", "other text")), 0) << "writing keeps them";
  auto other = NewHost("other");
  EXPECT_EQ(*other->GetXattr("file", "user.a"), "1");
  EXPECT_EQ(*other->GetXattr("file", odd_name), bytes);
  EXPECT_EQ(*other->ListXattr("file"), odd_name + '\0' + "user.a" + '\0');
  EXPECT_EQ(*other->GetXattr("dir", "user.d"), "of the directory");
  EXPECT_EQ(*other->GetXattr("", "user.root"), "of the map");
  EXPECT_EQ(ReadFile(*other, "file"), "other text");
  ASSERT_EQ(CodeOf(other->RemoveXattr("file", "user.a")), 0);
  EXPECT_EQ(*NewHost("third")->ListXattr("file"), odd_name + '\0');
}

TEST_F(ExtendedAttributesTest, ErrorsAreThoseOfTheCalls) {
  ASSERT_EQ(CodeOf(WriteFile(*home_, "file", "text")), 0);
  ASSERT_EQ(CodeOf(home_->MakeLink("file", "link")), 0);
  EXPECT_EQ(CodeOf(home_->GetXattr("file", "user.none")), ENODATA);
  EXPECT_EQ(CodeOf(home_->RemoveXattr("file", "user.none")), ENODATA);
  EXPECT_EQ(CodeOf(home_->GetXattr("file", "security.selinux")), ENOTSUP);
  EXPECT_EQ(CodeOf(home_->SetXattr("file", "trusted.x", "", 0)), ENOTSUP);
  EXPECT_EQ(CodeOf(home_->SetXattr("file", "user.", "", 0)), EINVAL);
  EXPECT_EQ(CodeOf(home_->SetXattr("file", "", "", 0)), ERANGE);
  EXPECT_EQ(CodeOf(home_->SetXattr("file", "user." + std::string(251, 'x'), "", 0)), ERANGE);
  EXPECT_EQ(CodeOf(home_->SetXattr("file", "user.x", std::string(65537, 'x'), 0)), E2BIG);
  EXPECT_EQ(CodeOf(home_->SetXattr("file", "user.x", std::string(2000, 'x'), 0)), ENOSPC);
  EXPECT_EQ(CodeOf(home_->SetXattr("file", "user.x", "", XATTR_REPLACE)), ENODATA);
  EXPECT_EQ(CodeOf(home_->SetXattr("file", "user.x", "", 0)), 0);
  EXPECT_EQ(CodeOf(home_->SetXattr("file", "user.x", "", XATTR_CREATE)), EEXIST);
  EXPECT_EQ(CodeOf(home_->SetXattr("link", "user.x", "", 0, false)), EPERM);
  EXPECT_EQ(CodeOf(home_->GetXattr("link", "user.x", false)), ENODATA);
  EXPECT_EQ(CodeOf(home_->GetXattr("none", "user.x")), ENOENT);
  ASSERT_EQ(CodeOf(home_->SetMode("file", 0644)), 0);
  Caller user{1000, 1000, {}};
  ActingAs who(user);
  EXPECT_EQ(CodeOf(home_->GetXattr("file", "user.x")), 0);
  EXPECT_EQ(CodeOf(home_->SetXattr("file", "user.x", "1", 0)), EACCES);
}

TEST_F(ExtendedAttributesTest, OfAnOpenFile) {
  auto file = home_->Open("file", O_RDWR | O_CREAT, 0644);
  ASSERT_TRUE(file.ok());
  ASSERT_EQ(CodeOf(home_->SetXattr(*file, "user.a", "open", 0)), 0);
  EXPECT_EQ(*home_->GetXattr(*file, "user.a"), "open");
  EXPECT_EQ(*home_->GetXattr("file", "user.a"), "open");
  ASSERT_EQ(CodeOf((*file)->Flush()), 0);
  EXPECT_EQ(*NewHost("other")->GetXattr("file", "user.a"), "open");
  ASSERT_EQ(CodeOf(home_->Unlink("file")), 0);
  ASSERT_EQ(CodeOf(home_->SetXattr(*file, "user.b", "still here", 0)), 0);
  EXPECT_EQ(*home_->GetXattr(*file, "user.b"), "still here");
  ASSERT_EQ(CodeOf((*file)->Flush()), 0);
  EXPECT_EQ(CodeOf(home_->Stat("file")), ENOENT);
}

}  // namespace
}  // namespace elsewhere::file
