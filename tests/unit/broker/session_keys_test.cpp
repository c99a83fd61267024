#include "shim/broker/session_keys.h"

#include "shim/broker/inbox.h"
#include "tests/unit/broker/redis_fixture.h"

namespace elsewhere::broker {
namespace {

using testing::Client;
using testing::PrivateRedisTest;

const SessionKeys kKeys("00ff");

std::string ClaimAs(Client& client, uint64_t incarnation, std::string_view who) {
  std::string winner;
  Claim(*client.connection, kKeys, incarnation, who,
        [&](Result<std::string> result) { winner = result ? *result : "error: " + result.error().message; });
  client.loop.RunUntil([&] { return !winner.empty(); });
  return winner;
}

TEST_F(PrivateRedisTest, TheFirstClaimantWinsForEver) {
  auto sync = Sync();
  ASSERT_TRUE(CreateSession(*sync, kKeys, "secret").ok());
  ConnectionOptions options = Options();
  options.scripts = SessionScripts();
  Client client(options);
  EXPECT_EQ(ClaimAs(client, 7, "worker 1"), "worker 1");
  EXPECT_EQ(ClaimAs(client, 7, "deputy"), "worker 1");
  EXPECT_EQ(ClaimAs(client, 7, "worker 1"), "worker 1");
  EXPECT_EQ(ClaimAs(client, 8, "deputy"), "deputy");
}

TEST_F(PrivateRedisTest, EveryKeyExpiresAndRemovalLeavesNothing) {
  auto sync = Sync();
  ASSERT_TRUE(CreateSession(*sync, kKeys, "secret").ok());
  ASSERT_TRUE(CreateSession(*sync, kKeys, "secret").ok());
  const Status again = CreateSession(*sync, kKeys, "another");
  ASSERT_FALSE(again.ok());
  EXPECT_EQ(again.error().code, EEXIST);
  for (const HostId host : {0u, 1u, 200u}) ASSERT_TRUE(JoinHost(*sync, kKeys, host).ok());

  ConnectionOptions options = Options();
  options.scripts = SessionScripts();
  Client client(options);
  bool beaten = false;
  ASSERT_EQ(client.Ask({"EXPIRE", kKeys.inbox(200), "5"}), "1");
  Heartbeat(*client.connection, kKeys, [&](Status status) { beaten = status.ok(); });
  ASSERT_TRUE(client.loop.RunUntil([&] { return beaten; }));

  auto names = sync->Command({"KEYS", "*"});
  ASSERT_TRUE(names.ok());
  EXPECT_EQ(names->view().size(), 6u);  // three fixed ones and the inboxes
  for (size_t i = 0; i < names->view().size(); ++i) {
    const auto ttl = sync->Command({"TTL", names->view()[i].text()});
    EXPECT_GT(ttl->view().integer(), kKeyLifetime.count() - 60) << names->view()[i].text();
  }

  ASSERT_TRUE(RemoveSession(*sync, kKeys).ok());
  // A straggler must not bring anything back.
  EXPECT_NE(ClaimAs(client, 9, "late").find("the session is gone"), std::string::npos);
  std::string undelivered;
  InboxSender sender(*client.connection, kKeys, 1,
                     [&](HostId, const Error& why) { undelivered = why.message; });
  sender.Send(0, "late");
  ASSERT_TRUE(client.loop.RunUntil([&] { return !undelivered.empty(); }));

  EXPECT_FALSE(JoinHost(*sync, kKeys, 3).ok());
  EXPECT_EQ(client.Ask({"DBSIZE"}), "0");
}

TEST_F(PrivateRedisTest, AWrongTypeInRedisIsAnError) {
  auto sync = Sync();
  ASSERT_TRUE(CreateSession(*sync, kKeys, "secret").ok());
  ASSERT_TRUE(sync->Command({"SET", kKeys.claims(), "a string"}).ok());
  Client client(Options());
  EXPECT_NE(ClaimAs(client, 7, "worker 1").find("WRONGTYPE"), std::string::npos);
}

}  // namespace
}  // namespace elsewhere::broker
