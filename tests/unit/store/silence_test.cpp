#include "shim/store/silence.h"

#include <gtest/gtest.h>

namespace elsewhere::store {
namespace {

using namespace std::chrono_literals;

TEST(Silence, OneCallTriesNowAndThenAndAnAnswerEndsIt) {
  Silence silence(30s);
  const Silence::Clock::time_point start{1000s};
  EXPECT_EQ(silence.Patience(start), 60s);
  silence.Unanswered(start, start + 60s);
  EXPECT_TRUE(silence.silent());
  EXPECT_EQ(silence.Patience(start + 61s), 0s);
  EXPECT_EQ(silence.Patience(start + 70s), Silence::Clock::duration(1)) << "one time-out";
  EXPECT_EQ(silence.Patience(start + 71s), 0s) << "the others do not wait for who tries";
  silence.Unanswered(start + 70s, start + 100s);
  EXPECT_EQ(silence.Patience(start + 109s), 0s);
  EXPECT_NE(silence.Patience(start + 110s), 0s);
  silence.Answered(start + 111s);
  EXPECT_EQ(silence.Patience(start + 112s), 60s);
}

TEST(Silence, ACallThatIsStuckAloneIsNoSilence) {
  Silence silence(30s);
  const Silence::Clock::time_point start{1000s};
  silence.Answered(start + 1s);
  silence.Unanswered(start, start + 60s);
  EXPECT_FALSE(silence.silent());
}

}  // namespace
}  // namespace elsewhere::store
