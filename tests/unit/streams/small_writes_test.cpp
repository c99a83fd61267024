#include "runtime/stream/small_writes.h"

#include <poll.h>

#include <thread>

#include "tests/unit/streams/two_hosts.h"

namespace elsewhere::runtime {
namespace {

using std::chrono::microseconds;
using stream::SmallWrites;

class SmallWritesTest : public testing::Test {
 protected:
  // The looks, each `apart` behind the one before, until something may gather; 0: none of a hundred.
  int LooksUntilTheyGather(microseconds apart, size_t taken = 1) {
    for (int looks = 1; looks <= 100; ++looks) {
      now_ += apart;
      if (writes_.MayGather(now_, taken)) return looks;
    }
    return 0;
  }

  SmallWrites writes_;
  SmallWrites::Time now_{microseconds(1000)};
};

TEST_F(SmallWritesTest, ThatFollowCloselyGather) {
  EXPECT_EQ(LooksUntilTheyGather(microseconds(10)), 16);
}

TEST_F(SmallWritesTest, OfWhomWaitsForAnswersDoNot) {
  EXPECT_EQ(LooksUntilTheyGather(microseconds(50)), 0);
  // Nor where two come together, an answer's length and the answer.
  for (int turns = 0; turns < 50; ++turns) {
    EXPECT_FALSE(writes_.MayGather(now_ += microseconds(5), 1));
    EXPECT_FALSE(writes_.MayGather(now_ += microseconds(60), 1));
  }
}

TEST_F(SmallWritesTest, ManyAtOnceDoNot) {
  EXPECT_EQ(LooksUntilTheyGather(microseconds(10), 64), 0);
}

TEST_F(SmallWritesTest, GatherAsLongAsItIsWorthIt) {
  LooksUntilTheyGather(microseconds(10));
  EXPECT_TRUE(writes_.MayGather(now_ += SmallWrites::kMoment, 20));
  EXPECT_TRUE(writes_.MayGather(now_ += SmallWrites::kMoment, 4));
  EXPECT_FALSE(writes_.MayGather(now_ += SmallWrites::kMoment, 3));
  EXPECT_FALSE(writes_.MayGather(now_ += microseconds(10), 20));
  LooksUntilTheyGather(microseconds(10));
  EXPECT_FALSE(writes_.MayGather(now_ += SmallWrites::kMoment, 64)) << "they fill the object";
}

// Which of them gather is up to this machine: one pace or another is theirs. The last ones, too, arrive,
// whether their writer ends or not.
TEST_F(TwoHosts, SmallWritesArriveAlsoWhereNothingFollows) {
  constexpr size_t kWrites = 2000;
  Pipe pipe;
  auto child = MustFork({pipe.write});
  SetNonBlocking((*child)[pipe.write]);
  for (const int pace : {2, 5, 10, 15, 20}) {
    size_t written = 0;
    std::thread writer([&] {
      const int end = (*child)[pipe.write];
      pollfd room{end, POLLOUT, 0};
      while (written < kWrites && poll(&room, 1, 2000) == 1) {
        if (write(end, "x", 1) == 1) ++written;
        const auto next = std::chrono::steady_clock::now() + microseconds(pace);
        while (std::chrono::steady_clock::now() < next) continue;
      }
      if (pace == 20) child->Close(pipe.write);
    });
    size_t received = 0;
    EXPECT_TRUE(Until([&] { return (received += Take(pipe.read, 65536).size()) == kWrites; }))
        << received << " of " << written << ", " << pace;
    writer.join();
  }
}

}  // namespace
}  // namespace elsewhere::runtime
