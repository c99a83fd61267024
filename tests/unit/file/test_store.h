// The store that the tests of shim/file work on: a directory, or, where tests/s3/rgw has started a server and
// ELSEWHERE_TEST_S3 is set, a prefix of its bucket. Empty at the beginning, removed at the end.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string>

#include "shim/store/object_store.h"
#include "tests/unit/store/scratch_directory.h"

namespace elsewhere::file {

class TestStore {
 public:
  TestStore() {
    if (!getenv("ELSEWHERE_TEST_S3")) return;
    auto* test = testing::UnitTest::GetInstance()->current_test_info();
    url_ = std::string("s3://") + getenv("S3_BUCKET") + "/" + test->test_suite_name() + "." + test->name();
    options_.endpoint = getenv("S3_ENDPOINT");
  }
  ~TestStore() {
    if (!on_s3()) return;
    EXPECT_TRUE(Open()->DeletePrefix("").ok());
  }
  bool on_s3() const { return !options_.endpoint.empty(); }

  std::shared_ptr<store::ObjectStore> Open() const {
    auto store = store::OpenStore(url_, options_);
    if (!store) ADD_FAILURE() << store.error().message;
    return *store;
  }

 private:
  store::ScratchDirectory directory_;
  std::string url_ = "dir:" + directory_.path() + "/store";
  store::StoreOptions options_;
};

}  // namespace elsewhere::file
