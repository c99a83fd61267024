// Event counters that are open on two hosts.
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>

#include <cstring>

#include "runtime/stream/descriptor.h"
#include "tests/unit/streams/two_hosts.h"

namespace elsewhere::runtime {
namespace {

constexpr int64_t kUntilClosed = 2;  // a mode of kWatch

uint64_t ValueOf(const TestAgent::Answer& answer) {
  uint64_t value = 0;
  EXPECT_EQ(answer.result, 8);
  EXPECT_EQ(answer.payload.size(), sizeof value);
  if (answer.payload.size() == sizeof value) std::memcpy(&value, answer.payload.data(), sizeof value);
  return value;
}

bool Shows(int descriptor) {
  return (stream::PollNow(descriptor, POLLIN) & POLLIN) != 0;
}

}  // namespace

TEST_F(TwoHosts, TheCountOfAnEventIsOneForAll) {
  const int event = eventfd(5, EFD_CLOEXEC);
  auto child = MustFork({event});
  const auto* first = Await(Pull((*child)[event], 8));
  ASSERT_NE(first, nullptr);
  EXPECT_EQ(ValueOf(*first), 5U);
  EXPECT_FALSE(Shows(event)) << "what was taken there is still here";
  const auto* none = Await(Pull((*child)[event], 8, false));
  ASSERT_NE(none, nullptr);
  EXPECT_EQ(none->error, EAGAIN);

  const uint64_t three = 3;
  ASSERT_EQ(write((*child)[event], &three, sizeof three), 8);
  ASSERT_EQ(write((*child)[event], &three, sizeof three), 8);
  EXPECT_TRUE(Until([&] { return Shows(event); }));
  Settle();
  uint64_t value = 0;
  EXPECT_EQ(read(event, &value, sizeof value), 8);
  EXPECT_EQ(value, 6U);

  // A read that waits is woken by a write at home; its own process's writes come before its reads.
  const CallId waiting = Pull((*child)[event], 8);
  Settle();
  EXPECT_EQ(worker_->AnswerOf(waiting), nullptr);
  eventfd_write(event, 11);
  const auto* woken = Await(waiting);
  ASSERT_NE(woken, nullptr);
  EXPECT_EQ(ValueOf(*woken), 11U);
  ASSERT_EQ(write((*child)[event], &three, sizeof three), 8);
  const auto* own = Await(Pull((*child)[event], 8, false));
  ASSERT_NE(own, nullptr);
  EXPECT_EQ(ValueOf(*own), 3U);
  close(event);
}

TEST_F(TwoHosts, AnEventIsShownToAllAndTakenByNobodyWhoOnlyLooks) {
  const int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  auto one = MustFork({event});
  auto other = MustFork({event});
  CallOn(abi::Operation::kWatch, (*one)[event], {kUntilClosed, 0});
  Settle();
  EXPECT_FALSE(Shows((*one)[event]));
  eventfd_write(event, 2);
  EXPECT_TRUE(Until([&] { return Shows((*one)[event]) && Shows((*other)[event]); }));
  uint64_t value = 0;
  EXPECT_EQ(read(event, &value, sizeof value), 8) << "looking took it away";
  EXPECT_EQ(value, 2U);
  const auto* late = Await(Pull((*other)[event], 8, false));
  ASSERT_NE(late, nullptr);
  EXPECT_EQ(late->error, EAGAIN);
  Settle();
  EXPECT_FALSE(Shows((*one)[event])) << "it looks readable, and is not";
  close(event);
}

TEST_F(TwoHosts, TheValueOfAReaderThatDiedStaysInTheCount) {
  const int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  auto child = MustFork({event});
  const CallId waiting = Pull((*child)[event], 8);
  Settle();
  worker_streams_->CallDropped(waiting);
  eventfd_write(event, 4);
  Settle();
  uint64_t value = 0;
  EXPECT_TRUE(Until([&] { return read(event, &value, sizeof value) == 8; }));
  EXPECT_EQ(value, 4U);
  close(event);
}

}  // namespace elsewhere::runtime
