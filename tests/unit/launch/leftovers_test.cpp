#include "runtime/launch/leftovers.h"

#include <gtest/gtest.h>

#include "tests/unit/store/scratch_directory.h"

namespace elsewhere::runtime {
namespace {

using Kind = Leftover::Kind;

class LeftoversTest : public testing::Test {
 protected:
  static int64_t In(std::chrono::seconds later) {
    auto now = std::chrono::system_clock::now() + later;
    return std::chrono::nanoseconds(now.time_since_epoch()).count();
  }
  std::vector<std::string> Found(std::chrono::seconds later, bool images = false) {
    auto found =
        FindLeftovers(*store_, {.least_age = std::chrono::hours(24), .images = images, .now_ns = In(later)});
    EXPECT_TRUE(found.ok());
    std::vector<std::string> keys;
    for (auto& leftover : *found) keys.push_back(leftover.key);
    return keys;
  }
  void RemoveAll(std::chrono::seconds later, bool images) {
    auto found =
        FindLeftovers(*store_, {.least_age = std::chrono::hours(24), .images = images, .now_ns = In(later)});
    for (auto& leftover : *found) EXPECT_TRUE(RemoveLeftover(*store_, leftover).ok());
  }

  const std::chrono::hours soon_{23}, late_{25};
  const std::string id_ = "0123456789abcdef0123456789abcdef";
  store::ScratchDirectory directory_;
  std::shared_ptr<store::ObjectStore> store_ = *store::OpenStore("dir:" + directory_.path() + "/store");
};

TEST_F(LeftoversTest, UnfinishedUploadsAreFoundWhenTheyAreOld) {
  auto first = store_->BeginUpload("deep/key"), second = store_->BeginUpload("other");
  ASSERT_TRUE(store_->PutPart("deep/key", *first, 1, "part").ok());
  ASSERT_TRUE(store_->Put("deep/key", "finished").ok());
  EXPECT_TRUE(Found(soon_).empty());
  EXPECT_EQ(Found(late_), (std::vector<std::string>{"deep/key", "other"}));
  ASSERT_TRUE(store_->AbortUpload("other", *second).ok());
  RemoveAll(late_, false);
  EXPECT_TRUE(store_->ListUploads("")->empty());
  EXPECT_EQ(store_->Get("deep/key")->body, "finished") << "what was finished stays";
}

TEST_F(LeftoversTest, ProbesAreToldFromFilesOfThatName) {
  ASSERT_TRUE(store_->Put("probe-" + id_, id_).ok());
  ASSERT_TRUE(store_->Put("probe-results", "of somebody else").ok());
  ASSERT_TRUE(store_->Put("probe-" + id_.substr(1) + "0", "not what we write").ok());
  EXPECT_EQ(Found(late_), std::vector<std::string>{"probe-" + id_});
}

TEST_F(LeftoversTest, ImagesOnlyWhenAskedForAndWhenAllOfThemAreOld) {
  std::string prefix = "packs/" + id_ + "/";
  for (auto name : {"a", "b"}) ASSERT_TRUE(store_->Put(prefix + name, "1234").ok());
  ASSERT_TRUE(store_->Put("packs/of somebody/x", "stays").ok());
  EXPECT_TRUE(Found(late_).empty());
  EXPECT_TRUE(Found(soon_, true).empty());
  auto found =
      FindLeftovers(*store_, {.least_age = std::chrono::hours(24), .images = true, .now_ns = In(late_)});
  ASSERT_EQ(found->size(), 1u);
  EXPECT_EQ((*found)[0].key, prefix);
  EXPECT_EQ((*found)[0].objects, 2u);
  EXPECT_EQ((*found)[0].bytes, 8u);
  RemoveAll(late_, true);
  EXPECT_EQ(store_->List({})->objects.size(), 1u);
}

TEST_F(LeftoversTest, WhatIsGoneMeanwhileCountsAsRemoved) {
  EXPECT_TRUE(RemoveLeftover(*store_, {Kind::kUpload, "key", "123.456"}).ok());
  EXPECT_TRUE(RemoveLeftover(*store_, {Kind::kProbe, "probe-" + id_}).ok());
}

}  // namespace
}  // namespace elsewhere::runtime
