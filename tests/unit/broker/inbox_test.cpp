#include "shim/broker/inbox.h"

#include "shim/broker/session_keys.h"
#include "tests/unit/broker/redis_fixture.h"

namespace elsewhere::broker {
namespace {

using testing::Client;
using testing::PrivateRedisTest;

const SessionKeys kKeys("abc");

class InboxTest : public PrivateRedisTest {
 protected:
  void SetUp() override {
    PrivateRedisTest::SetUp();
    sync_ = Sync();
    ASSERT_TRUE(CreateSession(*sync_, kKeys, "secret").ok());
    for (const HostId host : {0u, 1u, 2u}) ASSERT_TRUE(JoinHost(*sync_, kKeys, host).ok());
    ConnectionOptions options = Options();
    options.patience = std::chrono::seconds(10);
    options.scripts = SessionScripts();
    client_ = std::make_unique<Client>(options);
    sender_ = std::make_unique<InboxSender>(*client_->connection, kKeys, 1,
                                            [this](HostId, const Error& why) { undelivered_ = why.message; });
    reader_ = OpenReader(kHome, &received_);
  }

  std::unique_ptr<InboxReader> OpenReader(HostId host, std::vector<std::string>* received) {
    ConnectionOptions options = Options();
    options.patience = std::chrono::seconds(10);
    auto reader = InboxReader::Open(
        options, kKeys, host,
        [received](const InboxReader::Message& message) { received->emplace_back(message.bytes); },
        [this](const Error& why) { lost_ = why.message; });
    EXPECT_TRUE(reader.ok());
    client_->loop.Add((*reader)->fd(), [raw = reader->get()] { raw->OnReadable(); });
    return std::move(*reader);
  }

  bool Await(size_t count) {
    return client_->loop.RunUntil([&] { return received_.size() >= count || !lost_.empty(); });
  }

  // Cuts every other connection, as a broken network would.
  void Cut() { ASSERT_TRUE(sync_->Command({"CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"}).ok()); }

  std::unique_ptr<SyncClient> sync_;
  std::unique_ptr<Client> client_;
  std::unique_ptr<InboxSender> sender_;
  std::vector<std::string> received_;
  std::unique_ptr<InboxReader> reader_;
  std::string lost_;
  std::string undelivered_;
};

TEST_F(InboxTest, DeliversInOrderAndTrims) {
  for (int i = 0; i < 1000; ++i) sender_->Send(kHome, "message " + std::to_string(i));
  ASSERT_TRUE(Await(1000));
  for (size_t i = 0; i < 1000; ++i) EXPECT_EQ(received_[i], "message " + std::to_string(i));
  sender_->Send(kHome, std::string(1'000'000, 'x'));
  ASSERT_TRUE(Await(1001));
  EXPECT_EQ(received_[1000].size(), 1'000'000u);
  long long left = 1;
  ASSERT_TRUE(client_->loop.RunUntil([&] {
    left = sync_->Command({"XLEN", kKeys.inbox(kHome)})->view().integer();
    return left < 64;
  }));
}

TEST_F(InboxTest, IsExactlyOnceAcrossBrokenConnections) {
  constexpr int kMessages = 3000;
  int sent = 0;
  for (int round = 0; round < 30; ++round) {
    for (int i = 0; i < kMessages / 30; ++i) sender_->Send(kHome, std::to_string(sent++));
    if (round % 3 == 1)
      client_->loop.RunUntil([&] { return received_.size() + 50 > static_cast<size_t>(sent); });
    Cut();
  }
  ASSERT_TRUE(Await(kMessages)) << received_.size();
  ASSERT_EQ(lost_, "");
  ASSERT_EQ(client_->Ask({"PING"}), "PONG");
  ASSERT_EQ(received_.size(), static_cast<size_t>(kMessages));
  for (size_t i = 0; i < received_.size(); ++i) ASSERT_EQ(received_[i], std::to_string(i));
}

TEST_F(InboxTest, ARepeatedEntryIsDroppedAndAGapIsALoss) {
  const auto append = [&](uint64_t number) {
    return sync_
        ->Command({"XADD", kKeys.inbox(kHome), "*", EncodeInboxHeader(9, number), std::to_string(number)})
        .ok();
  };
  for (const uint64_t number : {1u, 2u, 2u, 1u, 3u}) ASSERT_TRUE(append(number));
  ASSERT_TRUE(Await(3));
  EXPECT_EQ(received_, (std::vector<std::string>{"1", "2", "3"}));
  ASSERT_TRUE(append(6));
  ASSERT_TRUE(Await(4));
  EXPECT_NE(lost_.find("messages 4 to 5 of host 9 are missing"), std::string::npos) << lost_;
  EXPECT_NE(lost_.find(kKeys.inbox(kHome)), std::string::npos);
}

TEST_F(InboxTest, SaysWhenTheReceiverIsGone) {
  sender_->Send(77, "nobody");
  ASSERT_TRUE(client_->loop.RunUntil([&] { return !undelivered_.empty(); }));
  EXPECT_NE(undelivered_.find(kKeys.inbox(77)), std::string::npos);
}

TEST_F(InboxTest, MalformedEntriesNameTheKey) {
  for (const char* header : {"short", "elevenbytes", "thirteen bytes"}) {
    lost_.clear();
    std::vector<std::string> received;
    auto reader = OpenReader(2, &received);
    ASSERT_TRUE(sync_->Command({"XADD", kKeys.inbox(2), "*", header, "x"}).ok());
    ASSERT_TRUE(client_->loop.RunUntil([&] { return !lost_.empty(); }));
    EXPECT_NE(lost_.find(kKeys.inbox(2)), std::string::npos);
    ASSERT_TRUE(sync_->Command({"XTRIM", kKeys.inbox(2), "MAXLEN", "0"}).ok());
    break;
  }
}

TEST_F(InboxTest, AVanishedOrForeignStreamIsALoss) {
  ASSERT_TRUE(client_->loop.RunUntil([&] { return client_->connection->ready(); }));
  sender_->Send(kHome, "x");
  ASSERT_TRUE(Await(1));
  ASSERT_TRUE(sync_->Command({"DEL", kKeys.inbox(kHome)}).ok());
  ASSERT_TRUE(sync_->Command({"SET", kKeys.inbox(kHome), "a string"}).ok());
  Cut();
  ASSERT_TRUE(client_->loop.RunUntil([&] { return !lost_.empty(); }));
  EXPECT_NE(lost_.find(kKeys.inbox(kHome)), std::string::npos) << lost_;
}

}  // namespace
}  // namespace elsewhere::broker
