#include "shim/wire/result.h"

#include <gtest/gtest.h>

namespace elsewhere {
namespace {

TEST(Result, HoldsEitherTheValueOrTheError) {
  Result<std::string> good = std::string("value");
  ASSERT_TRUE(good.ok());
  EXPECT_EQ(*good, "value");

  Result<std::string> bad = Error{ENOENT, "no such thing"};
  ASSERT_FALSE(bad.ok());
  EXPECT_EQ(bad.error().code, ENOENT);
  EXPECT_EQ(bad.error().message, "no such thing");
}

TEST(ResultDeathTest, AbortsWhenAFailedResultIsAskedForItsValue) {
  Result<int> bad = Error{EIO, "broken"};
  EXPECT_DEATH((void)bad.value(), "");
}

}  // namespace
}  // namespace elsewhere
