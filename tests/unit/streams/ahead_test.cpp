// What goes ahead of a message, and what waits to be said with others: ends that broke or closed.
#include <poll.h>

#include <array>
#include <functional>
#include <vector>

#include "runtime/stream/descriptor.h"
#include "tests/unit/streams/two_hosts.h"

namespace elsewhere::runtime {
namespace {

// Before each message that goes by itself shared memory is compared.
TEST_F(TwoHosts, PipesThatBreakTogetherAreSaidTogether) {
  size_t compared = 0;
  home_->before_send = [&] {
    ++compared;
    home_streams_->BeforeSend(1);
  };
  std::array<Pipe, 8> pipes;
  std::vector<int> ends;
  for (const Pipe& pipe : pipes) ends.push_back(pipe.write);
  auto child = MustFork(ends);
  Settle();
  compared = 0;
  for (Pipe& pipe : pipes) {
    pipe.CloseWrite();
    pipe.CloseRead();
  }
  for (const int end : ends) {
    EXPECT_TRUE(Until([&] { return (stream::PollNow((*child)[end], POLLOUT) & POLLERR) != 0; }));
  }
  EXPECT_EQ(compared, 1U);
}

// With a message of what happened before shared memory was compared goes no word of what happened since.
TEST_F(TwoHosts, EndsThatClosedAreSaidBehindWhatWasWrittenBefore) {
  std::vector<std::function<void()>> held;
  const auto hold = [&held](std::function<void()> action) { held.push_back(std::move(action)); };
  home_->send_soon = worker_->send_soon = hold;
  home_->before_send = [this] { home_streams_->BeforeSend(1); };
  Pipe broken;
  Pipe ended;
  auto child = MustFork({broken.write, ended.write});
  broken.CloseWrite();
  ended.CloseWrite();
  broken.CloseRead();
  child->Close(ended.write);
  EXPECT_TRUE(Until([&] { return held.size() == 2; }));
  home_->PublicationBegins();
  worker_->PublicationBegins();
  home_->SendAsOf(0, 1, wire::StreamDrained{12345});
  worker_->SendAsOf(0, 0, wire::StreamDrained{12345});
  Settle();
  EXPECT_EQ(stream::PollNow((*child)[broken.write], POLLOUT) & POLLERR, 0);
  EXPECT_EQ(stream::PollNow(ended.read, POLLIN), 0);
  for (const auto& action : held) action();
  EXPECT_TRUE(Until([&] { return (stream::PollNow((*child)[broken.write], POLLOUT) & POLLERR) != 0; }));
  EXPECT_TRUE(AtEnd(ended.read));
}

// Bytes that wait are sent with whatever goes first, and are of now.
TEST_F(TwoHosts, WhatGoesAheadOfAMessageOfBeforeNeedsAPublication) {
  std::vector<bool> published;
  home_->before_send = [&] {
    published.push_back(home_->published());
    if (published.size() == 1) home_->Send(1, wire::StreamDrained{12345});
  };
  home_->PublicationBegins();
  home_->SendAsOf(0, 1, wire::StreamDrained{12345});
  EXPECT_EQ(published, (std::vector<bool>{true, false}));
  EXPECT_FALSE(home_->published());
}

}  // namespace
}  // namespace elsewhere::runtime
