#include "shim/broker/private_redis.h"

#include "tests/unit/broker/redis_fixture.h"

namespace elsewhere::broker {
namespace {

using testing::PrivateRedisTest;
using testing::TemporaryDirectory;

TEST_F(PrivateRedisTest, AnswersWhenStartReturnsAndLeavesNothing) {
  auto client = Sync();
  auto version = client->CheckVersion();
  ASSERT_TRUE(version.ok()) << version.error().message;
  EXPECT_GE(std::stoi(*version), 7);

  const pid_t pid = redis_->pid();
  EXPECT_EQ(getsid(pid), pid);
  redis_.reset();
  EXPECT_EQ(kill(pid, 0), -1);
  EXPECT_TRUE(std::filesystem::is_empty(directory_.path()));
}

TEST_F(PrivateRedisTest, ShowsItsDeathOnThePidfd) {
  pollfd entry{redis_->pidfd(), POLLIN, 0};
  EXPECT_EQ(poll(&entry, 1, 0), 0);
  kill(redis_->pid(), SIGKILL);
  EXPECT_EQ(poll(&entry, 1, 5000), 1);
}

TEST_F(PrivateRedisTest, RefusesRatherThanEvicts) {
  auto client = Sync();
  ASSERT_TRUE(client->Command({"CONFIG", "SET", "maxmemory", "1mb"}).ok());
  const auto reply = client->Command({"SET", "k", std::string(100'000, 'x')});
  ASSERT_FALSE(reply.ok());
  EXPECT_EQ(reply.error().code, ENOMEM);
}

TEST(PrivateRedis, SaysWhatIsMissing) {
  TemporaryDirectory directory;
  const auto absent = PrivateRedis::Start({.directory = directory.path(), .program = "no-such-redis-server"});
  ASSERT_FALSE(absent.ok());
  EXPECT_NE(absent.error().message.find("no-such-redis-server"), std::string::npos);

  const auto failing = PrivateRedis::Start({.directory = directory.path(), .program = "/bin/false"});
  ASSERT_FALSE(failing.ok());
  EXPECT_TRUE(std::filesystem::is_empty(directory.path()));

  const auto nowhere = PrivateRedis::Start({.directory = directory.path() + "/absent"});
  EXPECT_FALSE(nowhere.ok());
}

}  // namespace
}  // namespace elsewhere::broker
