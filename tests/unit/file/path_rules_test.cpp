#include "shim/file/path_rules.h"

#include <gtest/gtest.h>

namespace elsewhere::file {
namespace {

using Strings = std::vector<std::string>;

TEST(PathRules, NormalizesTextually) {
  EXPECT_EQ(Normalize("/a/b", "c"), "/a/b/c");
  EXPECT_EQ(Normalize("/a/b", "/c//d/"), "/c/d");
  EXPECT_EQ(Normalize("/a/b", "../../../x/./y"), "/x/y");
  EXPECT_EQ(Normalize("/", ".."), "/");
  EXPECT_EQ(Normalize("/a", ""), "/a");
}

TEST(PathRules, TheLongestMapDecides) {
  auto rules = PathRules::Parse({"/data=s3://bucket", "/data/in/=s3://other/set:ro", "/x=dir:/store"});
  ASSERT_TRUE(rules.ok());
  auto find = [&](std::string_view path) {
    auto found = rules->Find(path);
    return found ? rules->rules()[found->rule].url + "|" + found->path : "local";
  };
  EXPECT_TRUE(PathRules::Parse({"/data=s3://bucket/x:plain:ro"})->rules()[0].plain);
  EXPECT_EQ(find("/data"), "s3://bucket|");
  EXPECT_EQ(find("/data/a/b"), "s3://bucket|a/b");
  EXPECT_EQ(find("/data/in/a"), "s3://other/set|a");
  EXPECT_EQ(find("/data/input"), "s3://bucket|input");
  EXPECT_EQ(find("/database"), "local");
  EXPECT_EQ(find("/"), "local");
  EXPECT_TRUE(rules->rules()[rules->Find("/data/in")->rule].read_only);
  EXPECT_FALSE(rules->rules()[rules->Find("/data")->rule].read_only);
}

TEST(PathRules, MapsShowInTheDirectoriesAboveThem) {
  auto rules = *PathRules::Parse({"/data=s3://b", "/data/a/b=s3://c", "/mnt/x=s3://d"});
  EXPECT_EQ(rules.MappedNamesIn("/"), (Strings{"data", "mnt"}));
  EXPECT_EQ(rules.MappedNamesIn("/data"), Strings{"a"});
  EXPECT_EQ(rules.MappedNamesIn("/data/a"), Strings{"b"});
  EXPECT_EQ(rules.MappedNamesIn("/data/a/b"), Strings{});
}

TEST(PathRules, RefusesWhatItCannotMean) {
  for (auto bad : {"", "/data", "data=s3://b", "/=s3://b", "/data=http://x", "/data="})
    EXPECT_EQ(ParsePathRule(bad).error().code, EINVAL) << bad;
  EXPECT_EQ(PathRules::Parse({"/a=s3://b", "/a/=s3://c"}).error().code, EINVAL);
}

}  // namespace
}  // namespace elsewhere::file
