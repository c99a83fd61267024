// What a well-behaved server cannot be made to do: faults, temporary credentials, wrong regions.
// The client against a real server: tests/s3.
#include <gtest/gtest.h>

#include <chrono>
#include <deque>
#include <fstream>
#include <thread>
#include <vector>

#include "scratch_directory.h"
#include "scripted_server.h"
#include "shim/store/http_client.h"
#include "shim/store/s3_store.h"

namespace elsewhere::store {
namespace {

using Server = ScriptedServer;

class S3ClientTest : public testing::Test {
 protected:
  void SetUp() override {
    for (auto name :
         {"AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL",
          "AWS_CA_BUNDLE", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
          "AWS_ENDPOINT_URL_S3", "AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_EC2_METADATA_SERVICE_ENDPOINT"})
      unsetenv(name);
    setenv("HOME", home_.path().c_str(), 1);
    setenv("AWS_EC2_METADATA_DISABLED", "true", 1);
    setenv("AWS_ACCESS_KEY_ID", "key", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "secret", 1);
  }
  void WithoutKeys() {
    unsetenv("AWS_ACCESS_KEY_ID");
    unsetenv("AWS_SECRET_ACCESS_KEY");
  }
  std::shared_ptr<S3Store> Open(const Server& server) {
    auto store = S3Store::Open("bucket", "", {.endpoint = server.url(), .attempts = 4});
    if (!store) ADD_FAILURE() << store.error().message;
    return *store;
  }
  static std::string ErrorAnswer(int status, const std::string& code, const std::string& headers = "",
                                 const std::string& more = "") {
    return Server::Answer(status, "<Error><Code>" + code + "</Code>" + more + "</Error>", headers);
  }

  ScratchDirectory home_;
};

TEST_F(S3ClientTest, RepeatsAfterServerErrorsAndBrokenConnections) {
  Server server({ErrorAnswer(503, "SlowDown"), "", Server::Answer(500, ""),
                 Server::Answer(200, "body", "ETag: \"x\"\r\n")});
  auto got = Open(server)->Get("k");
  ASSERT_TRUE(got.ok()) << got.error().message;
  EXPECT_EQ(got->body, "body");
  EXPECT_EQ(server.requests().size(), 4u);
}

TEST_F(S3ClientTest, ABodyThatBreaksOffIsFetchedAgain) {
  Server server(
      {"HTTP/1.1 200 X\r\nContent-Length: 100\r\nX-Break: 1\r\n\r\npart", Server::Answer(200, "whole")});
  char buffer[100];
  auto got = Open(server)->GetInto("k", buffer);
  ASSERT_TRUE(got.ok()) << got.error().message;
  EXPECT_EQ(std::string(buffer, *got), "whole");
}

TEST_F(S3ClientTest, GivesUpWithAClearError) {
  Server server(
      {Server::Answer(500, ""), Server::Answer(500, ""), Server::Answer(500, ""), Server::Answer(500, "")});
  auto got = Open(server)->Get("k");
  EXPECT_EQ(got.error().code, EIO);
  EXPECT_EQ(got.error().message, "s3://bucket: get k: status 500");
  auto refused = S3Store::Open("bucket", "", {.endpoint = "http://127.0.0.1:1", .attempts = 2});
  auto none = (*refused)->Get("k");
  EXPECT_EQ(none.error().code, ECONNREFUSED);
  EXPECT_NE(none.error().message.find("http://127.0.0.1:1"), std::string::npos) << none.error().message;
  EXPECT_NE(none.error().message.find("2 attempts"), std::string::npos) << none.error().message;
}

TEST_F(S3ClientTest, DoesNotRepeatWhatTheServerRefuses) {
  Server server({ErrorAnswer(403, "AccessDenied")});
  EXPECT_EQ(Open(server)->Put("k", "x").error().code, EACCES);
  EXPECT_EQ(server.requests().size(), 1u);
}

TEST_F(S3ClientTest, RecognisesItsOwnConditionalWriteAfterALostAnswer) {
  // The first attempt was carried out, but its answer is lost; the second is refused because of it.
  Server server({"", ErrorAnswer(412, "PreconditionFailed"),
                 Server::Answer(200, "", "ETag: \"e\"\r\nx-amz-meta-elsewhere-put: @mark@\r\n")});
  auto put = Open(server)->Put("k", "x", {.if_absent = true});
  ASSERT_TRUE(put.ok()) << put.error().message;
  EXPECT_EQ(put->etag, "e");
  EXPECT_TRUE(put->metadata.empty());
  EXPECT_EQ(server.requests()[2].substr(0, 4), "HEAD");
}

TEST_F(S3ClientTest, AConditionalWriteIsRefusedWhenAnotherWasFirst) {
  for (bool absent : {true, false}) {
    PutOptions options{.if_absent = absent};
    if (!absent) options.if_match = "e";
    std::string refused = ErrorAnswer(412, "PreconditionFailed");
    std::string other = Server::Answer(200, "", "x-amz-meta-elsewhere-put: other\r\n");
    Server server({refused, other});
    EXPECT_EQ(Open(server)->Put("k", "x", options).error().code, absent ? EEXIST : ESTALE);
    Server busy({ErrorAnswer(409, "ConditionalRequestConflict"), refused, other});
    EXPECT_EQ(Open(busy)->Put("k", "x", options).error().code, absent ? EEXIST : ESTALE);
    // It may have been carried out, and the object replaced by the other since.
    for (const std::string& lost : {std::string(), ErrorAnswer(500, "InternalError")}) {
      Server losing({lost, refused, other});
      EXPECT_EQ(Open(losing)->Put("k", "x", options).error().code, EALREADY);
    }
  }
}

TEST_F(S3ClientTest, TakesOverTheRightRegionAndTheServersClock) {
  Server server({ErrorAnswer(400, "AuthorizationHeaderMalformed", "", "<Region>eu-west-1</Region>"),
                 ErrorAnswer(403, "RequestTimeTooSkewed", "Date: Wed, 21 Nov 2029 03:00:00 GMT\r\n"),
                 Server::Answer(200, "x")});
  ASSERT_TRUE(Open(server)->Get("k").ok());
  auto requests = server.requests();
  EXPECT_NE(requests[0].find("/us-east-1/s3/"), std::string::npos);
  EXPECT_NE(requests[1].find("/eu-west-1/s3/"), std::string::npos);
  EXPECT_NE(requests[2].find("Credential=key/20291121/eu-west-1"), std::string::npos);
}

TEST_F(S3ClientTest, ProfilesGiveKeysRegionAndEndpoint) {
  Server server({Server::Answer(200, "x"), Server::Answer(200, "x")});
  WithoutKeys();
  ASSERT_EQ(mkdir((home_.path() + "/.aws").c_str(), 0700), 0);
  std::ofstream(home_.path() + "/.aws/credentials")
      << "[default]\naws_access_key_id=D\naws_secret_access_key = s\n"
         "# comment\n[work]\naws_access_key_id = W\naws_secret_access_key = s\n";
  std::ofstream(home_.path() + "/.aws/config")
      << "[default]\nregion = eu-north-1\nendpoint_url = " << server.url()
      << "\n[profile work]\nregion=ap-south-1\nendpoint_url=" << server.url()
      << "\n[profile sso]\nsso_start_url = x\n";
  auto store = S3Store::Open("bucket", "");
  ASSERT_TRUE(store.ok()) << store.error().message;
  ASSERT_TRUE((*store)->Get("k").ok());
  EXPECT_NE(server.requests()[0].find("Credential=D/"), std::string::npos);
  EXPECT_NE(server.requests()[0].find("/eu-north-1/"), std::string::npos);
  setenv("AWS_PROFILE", "work", 1);
  ASSERT_TRUE((*S3Store::Open("bucket", ""))->Get("k").ok());
  EXPECT_NE(server.requests()[1].find("Credential=W/"), std::string::npos);
  EXPECT_NE(server.requests()[1].find("/ap-south-1/"), std::string::npos);
  auto sso = S3Store::Open("bucket", "", {.profile = "sso"});
  EXPECT_EQ(sso.error().code, EACCES);
  EXPECT_NE(sso.error().message.find("sso_start_url"), std::string::npos);
}

TEST_F(S3ClientTest, ContainerCredentialsAreFetchedAgainWhenTheyExpire) {
  auto keys = [](const std::string& key, const std::string& expiration) {
    return Server::Answer(200, "{\"AccessKeyId\": \"" + key +
                                   "\", \"SecretAccessKey\":\"s\\/x\",\"Token\":\"t\", \"Expiration\" : \"" +
                                   expiration + "\"}");
  };
  WithoutKeys();
  Server metadata({keys("FIRST", "2027-01-01T00:00:00Z"), keys("SECOND", "2099-01-01T00:00:00Z")});
  Server server({Server::Answer(200, "x"), ErrorAnswer(400, "ExpiredToken"), Server::Answer(200, "x")});
  setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", (metadata.url() + "/creds").c_str(), 1);
  setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "allowed", 1);
  auto store = Open(server);
  ASSERT_TRUE(store->Get("k").ok());
  ASSERT_TRUE(store->Get("k").ok());
  EXPECT_NE(metadata.requests()[0].find("Authorization: allowed"), std::string::npos);
  EXPECT_NE(server.requests()[0].find("Credential=FIRST/"), std::string::npos);
  EXPECT_NE(server.requests()[0].find("x-amz-security-token: t"), std::string::npos);
  EXPECT_NE(server.requests()[2].find("Credential=SECOND/"), std::string::npos);
}

TEST_F(S3ClientTest, InstanceMetadataGivesCredentials) {
  WithoutKeys();
  unsetenv("AWS_EC2_METADATA_DISABLED");
  Server metadata(
      {Server::Answer(200, "TOKEN"), Server::Answer(200, "role"),
       Server::Answer(
           200,
           R"({"AccessKeyId":"I","SecretAccessKey":"s","Token":"t","Expiration":"2099-01-01T00:00:00Z"})"),
       Server::Answer(200, "sa-east-1")});
  setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.url().c_str(), 1);
  Server server({Server::Answer(200, "x")});
  ASSERT_TRUE(Open(server)->Get("k").ok());
  EXPECT_NE(server.requests()[0].find("Credential=I/"), std::string::npos);
  EXPECT_NE(server.requests()[0].find("/sa-east-1/"), std::string::npos);
  EXPECT_NE(metadata.requests()[1].find("X-aws-ec2-metadata-token: TOKEN"), std::string::npos);
}

TEST_F(S3ClientTest, WithoutCredentialsSaysWhereItLooked) {
  WithoutKeys();
  auto store = OpenStore("s3://bucket/prefix");
  EXPECT_EQ(store.error().code, EACCES);
  EXPECT_NE(store.error().message.find("AWS_ACCESS_KEY_ID"), std::string::npos);
  EXPECT_EQ(OpenStore("s3://").error().code, EINVAL);
  EXPECT_EQ(S3Store::Open("bucket", "", {.endpoint = "localhost:80"}).error().code, EACCES);
  SetUp();
  EXPECT_EQ(S3Store::Open("bucket", "", {.endpoint = "localhost:80"}).error().code, EINVAL);
  EXPECT_EQ((*OpenStore("s3://bucket/a/b/"))->url(), "s3://bucket/a/b");
}

TEST_F(S3ClientTest, DamagedContentIsFetchedAgainAndThenRefused) {
  // MD5 of "good"
  std::string etag = "ETag: \"755f85c2723bb39381c7379a604160d8\"\r\n";
  Server server({Server::Answer(200, "goad", etag), Server::Answer(200, "good", etag)});
  EXPECT_EQ(Open(server)->Get("k")->body, "good");
  Server worse(
      {Server::Answer(200, "a", etag), Server::Answer(200, "b", etag), Server::Answer(200, "c", etag)});
  EXPECT_EQ(Open(worse)->Get("k").error().code, EBADMSG);
  Server other({Server::Answer(200, "a", etag), Server::Answer(200, "a", etag)});
  EXPECT_EQ(Open(other)->Get("k")->body, "a") << "a version that only looks like an MD5";
}

TEST_F(S3ClientTest, AServerThatAnswersNoChangesIsNotWaitedForByEachOfThem) {
  Server server({Server::kNothing, Server::kNothing, Server::Answer(200, "read"), Server::Answer(200, "")});
  auto store = S3Store::Open("bucket", "", {.endpoint = server.url(), .stall_timeout_ms = 1000});
  EXPECT_EQ((*store)->Put("k", "bytes").error().code, ETIMEDOUT);
  EXPECT_EQ(server.requests().size(), 2u) << "two time-outs are all that it waits";
  EXPECT_EQ((*store)->Put("k", "bytes").error().code, ETIMEDOUT);
  EXPECT_EQ((*store)->Delete("k").error().code, ETIMEDOUT);
  EXPECT_EQ(server.requests().size(), 2u) << "what follows fails at once";
  EXPECT_EQ((*store)->Get("k")->body, "read") << "what it answers goes on";
  std::this_thread::sleep_for(std::chrono::milliseconds(400));
  EXPECT_TRUE((*store)->Put("k", "bytes").ok()) << "it is asked again";
}

TEST_F(S3ClientTest, AFullServerIsToldFromABrokenOne) {
  Server server({Server::Answer(507, "<Error><Code>XMinioStorageFull</Code></Error>")});
  EXPECT_EQ(Open(server)->Put("k", "bytes").error().code, ENOSPC);
}

TEST_F(S3ClientTest, InterruptEndsWhatWaits) {
  Server server({""});
  auto store = S3Store::Open("bucket", "", {.endpoint = server.url(), .attempts = 100});
  std::thread waiting([&] { EXPECT_EQ((*store)->Get("k").error().code, ECANCELED); });
  while (server.requests().size() < 3) std::this_thread::yield();
  (*store)->Interrupt();
  waiting.join();
  EXPECT_EQ((*store)->Get("k").error().code, ECANCELED);
}

TEST_F(S3ClientTest, MoreRequestsThanConnectionsWaitForTheirTurn) {
  constexpr int kThreads = 6, kEach = 20;
  std::deque<std::string> answers(2 * kThreads * kEach, Server::Answer(200, ""));
  Server server(answers);
  HttpClient client({.connections = 2});
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i)
    threads.emplace_back([&, i] {
      const std::string url = server.url();
      const std::vector<HttpRequest> many(kEach, {.method = "GET", .url = url});
      for (int j = 0; j < kEach; ++j) EXPECT_TRUE(client.Perform(many[0]).ok());
      for (auto& result : client.PerformAll(many)) EXPECT_TRUE(result.ok());
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(server.requests().size(), answers.size());
  EXPECT_LE(server.connections_at_once(), 2u);
}

TEST_F(S3ClientTest, AmazonsAddressesAreVirtualHosts) {
  // Nothing listens behind the proxy; the message must not hide what was tried.
  setenv("https_proxy", "http://127.0.0.1:1", 1);
  auto got = (*S3Store::Open("bucket", "", {.attempts = 1}))->Get("k");
  unsetenv("https_proxy");
  EXPECT_NE(got.error().message.find("Amazon S3"), std::string::npos) << got.error().message;
}

}  // namespace
}  // namespace elsewhere::store
