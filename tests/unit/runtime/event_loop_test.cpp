#include "runtime/event_loop.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <system_error>
#include <thread>

namespace elsewhere::runtime {
namespace {

class EventLoopTest : public testing::Test {
 protected:
  std::unique_ptr<EventLoop> loop_ = std::move(*EventLoop::Create());
};

TEST_F(EventLoopTest, ARemovedDescriptorIsNotCalledThoughItsEventWasThere) {
  int first[2];
  int second[2];
  ASSERT_EQ(pipe(first), 0);
  ASSERT_EQ(pipe(second), 0);
  int calls = 0;
  const auto remove_both = [&](uint32_t) {
    ++calls;
    loop_->Remove(first[0]);
    loop_->Remove(second[0]);
    loop_->Stop();
  };
  ASSERT_TRUE(loop_->Add(first[0], EPOLLIN, remove_both).ok());
  ASSERT_TRUE(loop_->Add(second[0], EPOLLIN, remove_both).ok());
  ASSERT_EQ(write(first[1], "x", 1), 1);
  ASSERT_EQ(write(second[1], "x", 1), 1);
  loop_->Run();
  EXPECT_EQ(calls, 1);
  for (int descriptor : {first[0], first[1], second[0], second[1]}) close(descriptor);
}

TEST_F(EventLoopTest, TimersRunInOrderAndCancelledOnesNever) {
  std::string order;
  loop_->After(std::chrono::milliseconds(3), [&] { loop_->Stop(); });
  const auto cancelled = loop_->After(std::chrono::milliseconds(1), [&] { order += 'x'; });
  loop_->After(std::chrono::milliseconds(2), [&] { order += 'b'; });
  loop_->After(std::chrono::milliseconds(1), [&] { order += 'a'; });
  loop_->Cancel(cancelled);
  loop_->Run();
  EXPECT_EQ(order, "ab");
}

TEST_F(EventLoopTest, AnotherThreadCanPost) {
  std::thread other([this] { loop_->Post([this] { loop_->Stop(); }); });
  loop_->Run();
  other.join();
}

TEST_F(EventLoopTest, SignalsArriveWithTheirSender) {
  pid_t sender = 0;
  ASSERT_TRUE(loop_
                  ->OnSignal(SIGUSR1,
                             [&](const signalfd_siginfo& info) {
                               sender = static_cast<pid_t>(info.ssi_pid);
                               loop_->Stop();
                             })
                  .ok());
  kill(getpid(), SIGUSR1);
  loop_->Run();
  EXPECT_EQ(sender, getpid());
}

TEST_F(EventLoopTest, GoesOnAfterACallbackThatCouldNotStartAThread) {
  std::string said;
  loop_->After(std::chrono::milliseconds(1), [] {
    throw std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again));
  });
  loop_->After(std::chrono::milliseconds(2), [&] { loop_->Stop(); });
  loop_->Run([&](const std::string& what) { said += what; });
  EXPECT_EQ(said, "a thread cannot be started: Resource temporarily unavailable");
}

}  // namespace
}  // namespace elsewhere::runtime
