#include "shim/broker/redis_connection.h"

#include "shim/broker/scripts.h"
#include "tests/unit/broker/redis_fixture.h"

namespace elsewhere::broker {
namespace {

using testing::Client;
using testing::PrivateRedisTest;
using testing::TcpRedis;
using testing::Url;

TEST_F(PrivateRedisTest, AnswersInOrderWithAnyBytes) {
  Client client(Options());
  const std::string bytes("a\0\r\n\xff$5", 7);
  EXPECT_EQ(client.Ask({"SET", "k", bytes}), "OK");
  EXPECT_EQ(client.Ask({"GET", "k"}), bytes);
  EXPECT_EQ(client.Ask({"GET", "absent"}), "nil");

  std::vector<long long> answers;
  {
    RedisConnection::Batch batch(*client.connection);
    for (int i = 0; i < 1000; ++i)
      client.connection->Command({"INCR", "n"},
                                 [&](const Reply& reply) { answers.push_back(reply.integer()); });
  }
  ASSERT_TRUE(client.loop.RunUntil([&] { return answers.size() == 1000; }));
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(answers[static_cast<size_t>(i)], i + 1);
  EXPECT_EQ(client.connection->unanswered_bytes(), 0u);
}

TEST_F(PrivateRedisTest, MovesMoreThanTheSocketHolds) {
  Client client(Options());
  const std::string big(20'000'000, 'b');
  int answers = 0;
  for (int i = 0; i < 3; ++i) {
    client.connection->Command({"SET", "big", big}, [&](const Reply&) { ++answers; });
    client.connection->Command({"GET", "big"},
                               [&](const Reply& reply) { answers += reply.text() == big ? 1 : 100; });
  }
  EXPECT_GT(client.connection->unanswered_bytes(), 60'000'000u);
  ASSERT_TRUE(client.loop.RunUntil([&] { return answers >= 6; }));
  EXPECT_EQ(answers, 6);
}

TEST_F(PrivateRedisTest, LossIsFinalWithoutPatience) {
  Client client(Options());
  EXPECT_EQ(client.Ask({"PING"}), "PONG");
  kill(redis_->pid(), SIGKILL);
  ASSERT_TRUE(client.loop.RunUntil([&] { return !client.lost.empty(); }));
  EXPECT_TRUE(client.connection->lost());
  EXPECT_NE(client.lost.find("was lost"), std::string::npos) << client.lost;
}

TEST_F(PrivateRedisTest, ACutConnectionIsMadeAgainAndRepeatsWhatIsSafe) {
  ConnectionOptions options = Options();
  options.patience = std::chrono::seconds(10);
  Client client(options);
  ASSERT_EQ(client.Ask({"PING"}), "PONG");
  const std::string id = client.Ask({"CLIENT", "ID"});

  std::vector<std::string> answers;
  const auto note = [&](const Reply& reply) { answers.emplace_back(reply.text()); };
  {
    RedisConnection::Batch batch(*client.connection);
    client.connection->Command({"BLPOP", "never", "0"}, note, Repeat::kUnsafe);
    client.connection->Command({"SET", "k", "v"}, note);
    client.connection->Command({"GET", "k"}, note);
  }
  auto other = Sync();
  for (;;) {  // the kill must find the client blocked
    auto list = other->Command({"CLIENT", "LIST", "ID", id});
    ASSERT_TRUE(list.ok());
    if (list->view().text().find("cmd=blpop") != std::string_view::npos) break;
  }
  ASSERT_TRUE(other->Command({"CLIENT", "KILL", "ID", id}).ok());
  ASSERT_TRUE(client.loop.RunUntil([&] { return answers.size() == 3; }));
  EXPECT_TRUE(answers[0].starts_with("ELSEWHERE")) << answers[0];
  EXPECT_EQ(answers[1], "OK");
  EXPECT_EQ(answers[2], "v");
  EXPECT_EQ(client.lost, "");
}

TEST_F(PrivateRedisTest, AStoppedServerIsLostWhereAnswersMustCome) {
  ConnectionOptions options = Options();
  Client patient(options);
  options.silence = std::chrono::milliseconds(300);
  Client client(options);
  EXPECT_EQ(client.Ask({"PING"}), "PONG");
  EXPECT_EQ(patient.Ask({"PING"}), "PONG");
  // Nothing is asked: nothing is missing.
  EXPECT_FALSE(client.loop.RunUntil([&] { return !client.lost.empty(); }, std::chrono::milliseconds(600)));
  kill(redis_->pid(), SIGSTOP);
  std::string answer;
  patient.connection->Command({"PING"}, [&](const Reply& reply) { answer = reply.text(); });
  EXPECT_NE(client.Ask({"PING"}).find("was lost: no answer"), std::string::npos);
  EXPECT_FALSE(patient.loop.RunUntil([&] { return !answer.empty(); }, std::chrono::milliseconds(300)));
  kill(redis_->pid(), SIGCONT);
  EXPECT_TRUE(patient.loop.RunUntil([&] { return !answer.empty(); }));
  EXPECT_EQ(patient.lost, "");
}

TEST_F(PrivateRedisTest, AServerThatAnswersInTimeIsNotLost) {
  ConnectionOptions options = Options();
  options.silence = std::chrono::seconds(3);
  Client client(options);
  EXPECT_EQ(client.Ask({"PING"}), "PONG");
  kill(redis_->pid(), SIGSTOP);
  std::string answer;
  client.connection->Command({"PING"}, [&](const Reply& reply) { answer = reply.text(); });
  EXPECT_FALSE(client.loop.RunUntil([&] { return !client.lost.empty(); }, std::chrono::milliseconds(1500)));
  kill(redis_->pid(), SIGCONT);
  EXPECT_TRUE(client.loop.RunUntil([&] { return !answer.empty(); }));
  EXPECT_EQ(answer, "PONG");
}

TEST_F(PrivateRedisTest, AMissingMarkerIsAFinalLoss) {
  ASSERT_TRUE(Sync()->Command({"SET", "marker", "secret"}).ok());
  ConnectionOptions options = Options();
  options.patience = std::chrono::seconds(10);
  options.marker_key = "marker";
  options.marker_value = "secret";
  Client client(options);
  EXPECT_EQ(client.Ask({"PING"}), "PONG");

  options.marker_value = "other";
  Client stranger(options);
  EXPECT_NE(stranger.Ask({"PING"}).find("does not hold this session"), std::string::npos);
}

TEST_F(PrivateRedisTest, AFlushedScriptIsSentAgain) {
  static const Script script("-- elsewhere test 1\nreturn ARGV[1] .. KEYS[1]");
  ConnectionOptions options = Options();
  options.scripts = {script.body()};
  Client client(options);
  ASSERT_EQ(client.Ask({"PING"}), "PONG");
  EXPECT_EQ(client.Ask({"SCRIPT", "EXISTS", script.digest()}), "");
  for (const bool flush : {false, true}) {
    if (flush) {
      EXPECT_EQ(client.Ask({"SCRIPT", "FLUSH"}), "OK");
    }
    std::string answer;
    const std::string_view key = "k", argument = "a";
    RunScript(*client.connection, script, std::span(&key, 1), std::span(&argument, 1),
              [&](const Reply& reply) { answer = reply.text(); });
    ASSERT_TRUE(client.loop.RunUntil([&] { return !answer.empty(); }));
    EXPECT_EQ(answer, "ak");
  }
}

TEST(RedisConnection, WaitsForAServerThatComesLaterAndTellsARestartedOne) {
  const std::string port = TcpRedis::FreePort();
  ConnectionOptions options;
  options.url = Url("redis://127.0.0.1:" + port);
  options.patience = std::chrono::seconds(10);
  options.marker_key = "m";
  options.marker_value = "v";
  Client client(options);
  ASSERT_FALSE(client.loop.RunUntil([&] { return !client.lost.empty(); }, std::chrono::milliseconds(50)));
  TcpRedis server({"--port", port});
  ConnectionOptions setup = options;
  setup.marker_key = "";
  EXPECT_EQ(Client(setup).Ask({"SET", "m", "v"}), "OK");
  const std::string answer = client.Ask({"PING"});
  // It may have connected before the marker was there; that is a loss as well.
  if (answer != "PONG") {
    EXPECT_NE(answer.find("does not hold"), std::string::npos) << answer;
    return;
  }
  server.Kill();
  server.Start();
  EXPECT_NE(client.Ask({"PING"}).find("does not hold"), std::string::npos);
}

TEST(RedisConnection, GivesUpAfterItsPatience) {
  ConnectionOptions options;
  options.url = Url("redis://127.0.0.1:" + TcpRedis::FreePort());
  options.patience = std::chrono::milliseconds(150);
  Client client(options);
  const std::string answer = client.Ask({"PING"});
  EXPECT_NE(answer.find("cannot be reached: Connection refused"), std::string::npos) << answer;
}

TEST(RedisConnection, ExplainsRefusedCredentials) {
  const std::string port = TcpRedis::FreePort();
  TcpRedis server(
      {"--port", port, "--requirepass", "hunter2", "--user", "worker", "on", ">pw", "~*", "+@all"});
  const auto answer = [&](const std::string& credentials, const std::string& database = "") {
    ConnectionOptions options;
    options.url = Url("redis://" + credentials + "127.0.0.1:" + port + database);
    Client client(options);
    return client.Ask({"SET", "k", "v"});
  };
  EXPECT_EQ(answer(":hunter2@"), "OK");
  EXPECT_EQ(answer("worker:pw@", "/5"), "OK");
  EXPECT_NE(answer(":wrong@").find("refuses this user name or password"), std::string::npos);
  EXPECT_NE(answer("worker:pw@", "/99").find("has no database 99"), std::string::npos);
  EXPECT_EQ(answer("").substr(0, 6), "NOAUTH");

  const auto sync = SyncClient::Connect(Url("redis://127.0.0.1:" + port), std::chrono::seconds(5));
  ASSERT_FALSE(sync.ok());
  EXPECT_EQ(sync.error().code, EACCES);
  EXPECT_NE(sync.error().message.find("needs a password"), std::string::npos);
}

TEST(SyncClient, SaysThatNobodyListens) {
  const auto client =
      SyncClient::Connect(Url("redis://127.0.0.1:" + TcpRedis::FreePort()), std::chrono::seconds(5));
  ASSERT_FALSE(client.ok());
  EXPECT_NE(client.error().message.find("Connection refused"), std::string::npos) << client.error().message;
  EXPECT_FALSE(SyncClient::Connect(Url("redis://no-such-host.invalid"), std::chrono::seconds(5)).ok());
  EXPECT_FALSE(SyncClient::Connect(Url("unix:///no/such/socket"), std::chrono::seconds(5)).ok());
}

}  // namespace
}  // namespace elsewhere::broker
