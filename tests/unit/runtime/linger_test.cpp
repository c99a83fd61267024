#include "runtime/linger.h"

#include <gtest/gtest.h>

#include <chrono>

namespace elsewhere::runtime {
namespace {

using namespace std::chrono_literals;

// Goes on only when it is told to, and by what each look takes.
struct Clock {
  using duration = std::chrono::nanoseconds;
  using time_point = std::chrono::time_point<Clock>;
  static constexpr bool is_steady = true;
  static time_point now() { return current; }
  static inline time_point current{};
};

class LingerTest : public testing::Test {
 protected:
  // How often one wait looked before it slept.
  int Looks(Clock::duration each_takes, Clock::duration sleep) {
    int looks = 0;
    linger_.Until([&] {
      ++looks;
      Clock::current += each_takes;
      return false;
    });
    Clock::current += sleep;
    linger_.WaitEnded();
    return looks;
  }

  Linger<Clock> linger_;
};

TEST_F(LingerTest, OnlyWhoSleptShortlyLooks) {
  EXPECT_EQ(Looks(1us, 40us), 0);
  EXPECT_EQ(Looks(1us, 5ms), 30);
  EXPECT_EQ(Looks(1us, 5ms), 0);
}

TEST_F(LingerTest, EndsWithWhatComes) {
  Looks(1us, 0us);
  int looks = 0;
  linger_.Until([&] { return ++looks == 3; });
  EXPECT_EQ(looks, 3);
}

TEST_F(LingerTest, IsLeftWhereOthersHaveWork) {
  Looks(1us, 0us);
  EXPECT_EQ(Looks(3ms, 0us), 1);
  Looks(0us, 10us);
  EXPECT_EQ(Looks(1us, 10us), 0) << "its processor is wanted";
  Clock::current += 300ms;
  EXPECT_EQ(Looks(1us, 10us), 30) << "perhaps not any more";
}

}  // namespace
}  // namespace elsewhere::runtime
