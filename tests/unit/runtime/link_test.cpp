// Two links on one loop, as home and a worker have them on two.
#include "runtime/link.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <cstring>
#include <string>

namespace elsewhere::runtime {
namespace {

std::vector<uint8_t> Bytes(std::string_view text) {
  return {text.begin(), text.end()};
}

class LinkTest : public testing::Test {
 protected:
  void SetUp() override {
    auto ends = Link::Make();
    ASSERT_TRUE(ends.ok());
    ends_ = std::move(*ends);
  }
  std::unique_ptr<Link> Open(store::UniqueFd end) {
    auto link = std::make_unique<Link>(
        *loop_, std::move(end), [this](std::span<const uint8_t> message) { Take(message); },
        [this](const std::string& what) {
          broken_ = what;
          loop_->Stop();
        });
    EXPECT_TRUE(link->Start().ok());
    return link;
  }
  void Take(std::span<const uint8_t> message) {
    received_.emplace_back(message.begin(), message.end());
    if (on_message_) on_message_(received_.back());
    if (received_.size() == awaited_) loop_->Stop();
  }
  void Await(size_t count) {
    awaited_ = count;
    if (received_.size() < count) loop_->Run();
  }

  std::unique_ptr<EventLoop> loop_ = std::move(*EventLoop::Create());
  Link::Ends ends_;
  std::vector<std::string> received_;
  std::function<void(const std::string&)> on_message_;
  std::string broken_;
  size_t awaited_ = 0;
};

TEST_F(LinkTest, MessagesOfAnySizeArriveInOrder) {
  const auto home = Open(std::move(ends_.home));
  const auto worker = Open(std::move(ends_.worker));
  std::vector<std::string> sent;
  // More than a socket takes, so that some wait here; around the reader's buffer size in particular.
  for (size_t size : {0UL, 1UL, 100UL, 262139UL, 262140UL, 262141UL, 9'000'000UL, 3UL, 262144UL, 70'000UL}) {
    for (int i = 0; i < 3; ++i) {
      sent.emplace_back(size, static_cast<char>('a' + sent.size() % 26));
      home->Send(Bytes(sent.back()));
    }
  }
  Await(sent.size());
  EXPECT_TRUE(received_ == sent);
}

TEST_F(LinkTest, WhatIsHeldGoesTogether) {
  const int peer = ends_.worker.get();
  const auto home = Open(std::move(ends_.home));
  char bytes[64];
  home->Hold();
  home->Send(Bytes("one"));
  home->Send(Bytes("two"));
  EXPECT_EQ(recv(peer, bytes, sizeof bytes, MSG_DONTWAIT), -1);
  home->Release();
  EXPECT_EQ(recv(peer, bytes, sizeof bytes, MSG_DONTWAIT), 2 * (4 + 3));
  home->Send(Bytes("three"));
  EXPECT_EQ(recv(peer, bytes, sizeof bytes, MSG_DONTWAIT), 4 + 5);
}

// The socket was full before, and is while it is held.
TEST_F(LinkTest, WhatIsHeldKeepsItsPlace) {
  const auto home = Open(std::move(ends_.home));
  const auto worker = Open(std::move(ends_.worker));
  home->Send(Bytes(std::string(9'000'000, 'a')));
  home->Hold();
  home->Send(Bytes("b"));
  home->Release();
  home->Send(Bytes("c"));
  Await(3);
  EXPECT_EQ(received_[1] + received_[2], "bc");
}

TEST_F(LinkTest, AnswersTravelWhileMessagesAreTaken) {
  const auto home = Open(std::move(ends_.home));
  const auto worker = Open(std::move(ends_.worker));
  on_message_ = [&](const std::string& text) {
    if (text.size() < 64) (text.size() % 2 == 0 ? worker : home)->Send(Bytes(text + "x"));
  };
  home->Send({});
  Await(65);
  EXPECT_EQ(received_.back().size(), 64U);
}

TEST_F(LinkTest, WhatAPeerSentBeforeItsEndIsRead) {
  const auto home = Open(std::move(ends_.home));
  auto worker = Open(std::move(ends_.worker));
  home->Send(Bytes("never read"));  // so that the worker's end is closed with bytes unread
  std::vector<std::string> sent;
  for (int i = 0; i < 50; ++i) {
    sent.push_back(std::to_string(i) + std::string(5000, 'x'));
    worker->Send(Bytes(sent.back()));
  }
  worker.reset();
  home->Send(Bytes("into the void"));
  home->ReadAll();
  EXPECT_TRUE(received_ == sent);
  home->ReadAll();
  home->Send(Bytes("still nobody"));
  EXPECT_EQ(broken_, "");
}

TEST_F(LinkTest, ALengthThatNobodySendsIsTold) {
  const auto home = Open(std::move(ends_.home));
  const uint32_t length = Link::kLongestMessage + 1;
  ASSERT_EQ(send(ends_.worker.get(), &length, sizeof length, 0), static_cast<ssize_t>(sizeof length));
  loop_->Run();
  EXPECT_NE(broken_.find("536870913 bytes"), std::string::npos) << broken_;
  EXPECT_TRUE(received_.empty());
}

}  // namespace
}  // namespace elsewhere::runtime
