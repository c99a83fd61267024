// The same small session on the servers that users have: a restricted ACL user with a database number, a node
// of a cluster, TLS with client certificates.
#include <gtest/gtest.h>

#include "shim/broker/inbox.h"
#include "shim/broker/session_keys.h"
#include "tests/unit/broker/redis_fixture.h"

namespace elsewhere::broker {
namespace {

using testing::Client;
using testing::TcpRedis;
using testing::TemporaryDirectory;
using testing::Url;

const SessionKeys kKeys("d0d0");

// Waits until the server answers.
void AwaitServer(const std::string& url) {
  ConnectionOptions options;
  options.url = Url(url);
  Client client(options);
  ASSERT_EQ(client.Ask({"PING"}), "PONG");
}

void RunSession(const std::string& url_text) {
  AwaitServer(url_text);
  const RedisUrl url = Url(url_text);
  auto opened = SyncClient::Connect(url, std::chrono::seconds(5));
  ASSERT_TRUE(opened.ok()) << opened.error().message;
  SyncClient& sync = **opened;
  const auto version = sync.CheckVersion();
  ASSERT_TRUE(version.ok()) << version.error().message;
  const Status created = CreateSession(sync, kKeys, "secret");
  ASSERT_TRUE(created.ok()) << created.error().message;
  const Status joined = JoinHost(sync, kKeys, kHome);
  ASSERT_TRUE(joined.ok()) << joined.error().message;

  ConnectionOptions options;
  options.url = url;
  options.marker_key = kKeys.marker();
  options.marker_value = "secret";
  ConnectionOptions commands = options;
  commands.scripts = SessionScripts();
  Client client(commands);
  std::string failure;
  const auto on_failure = [&](const Error& why) { failure = why.message; };
  int messages = 0;
  auto inbox = InboxReader::Open(
      options, kKeys, kHome, [&](const InboxReader::Message&) { ++messages; }, on_failure);
  ASSERT_TRUE(inbox.ok());
  client.loop.Add((*inbox)->fd(), [&] { (*inbox)->OnReadable(); });
  InboxSender sender(*client.connection, kKeys, 1, [&](HostId, const Error& why) { failure = why.message; });

  std::string winner;
  bool beaten = false;
  Claim(*client.connection, kKeys, 1, "me",
        [&](const Result<std::string>& result) { winner = result ? *result : result.error().message; });
  Heartbeat(*client.connection, kKeys, [&](const Status& status) { beaten = status.ok(); });
  for (int i = 0; i < 200; ++i) sender.Send(kHome, "message");
  EXPECT_TRUE(client.loop.RunUntil([&] {
    return !failure.empty() || !client.lost.empty() ||
           (messages == 200 && beaten && client.connection->unanswered() == 0);
  })) << messages
      << " messages, winner " << winner;
  EXPECT_EQ(failure, "");
  EXPECT_EQ(client.lost, "");
  EXPECT_EQ(winner, "me");
  const Status gone = RemoveSession(sync, kKeys);
  EXPECT_TRUE(gone.ok()) << gone.error().message;
}

TEST(Deployments, ARestrictedUserInAnotherDatabase) {
  const std::string port = TcpRedis::FreePort();
  std::vector<std::string> options{"--port", port,  "--requirepass", "admin",         "--user", "elsewhere",
                                   "on",     ">pw", "~elsewhere:*",  "resetchannels", "-@all"};
  for (const char* command :
       {"ping",  "select", "get",    "info",         "script|load", "eval",   "evalsha",  "xadd",
        "xread", "xtrim",  "xgroup", "client|reply", "del",         "unlink", "smembers", "set",
        "sadd",  "expire", "exists", "hget",         "hset",        "hsetnx"})
    options.push_back("+" + std::string(command));
  TcpRedis server(options);
  RunSession("redis://elsewhere:pw@127.0.0.1:" + port + "/3");
  auto admin = SyncClient::Connect(Url("redis://:admin@127.0.0.1:" + port + "/3"), std::chrono::seconds(5));
  ASSERT_TRUE(admin.ok());
  EXPECT_EQ((*admin)->Command({"DBSIZE"})->view().integer(), 0);
}

TEST(Deployments, ANodeOfACluster) {
  const std::string port = TcpRedis::FreePort();
  TcpRedis server({"--port", port, "--cluster-enabled", "yes", "--cluster-port", TcpRedis::FreePort(),
                   "--cluster-require-full-coverage", "no"});
  const std::string url = "redis://127.0.0.1:" + port;
  AwaitServer(url);
  auto admin = SyncClient::Connect(Url(url), std::chrono::seconds(5));
  ASSERT_TRUE(admin.ok());
  ASSERT_TRUE((*admin)->Command({"CLUSTER", "ADDSLOTSRANGE", "0", "16383"}).ok());
  for (;;) {  // the node declares itself ready in its own time
    const auto info = (*admin)->Command({"CLUSTER", "INFO"});
    ASSERT_TRUE(info.ok());
    if (info->view().text().find("cluster_state:ok") != std::string_view::npos) break;
  }
  RunSession(url);
  EXPECT_EQ((*admin)->Command({"DBSIZE"})->view().integer(), 0);
}

TEST(Deployments, TlsWithClientCertificates) {
  TemporaryDirectory directory;
  const std::string cert = directory.path() + "/cert", key = directory.path() + "/key";
  const std::string command =
      "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=elsewhere-test "
      "-addext subjectAltName=IP:127.0.0.1,DNS:localhost -keyout " +
      key + " -out " + cert + " 2>/dev/null";
  ASSERT_EQ(system(command.c_str()), 0);
  const std::string port = TcpRedis::FreePort();
  TcpRedis server({"--port", "0", "--tls-port", port, "--tls-cert-file", cert, "--tls-key-file", key,
                   "--tls-ca-cert-file", cert, "--tls-auth-clients", "yes"});
  RunSession("rediss://127.0.0.1:" + port + "?cacert=" + cert + "&cert=" + cert + "&key=" + key);
}

}  // namespace
}  // namespace elsewhere::broker
