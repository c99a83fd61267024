// rediss:// against a real redis-server with a certificate made for this test.
#include "tests/unit/broker/redis_fixture.h"

namespace elsewhere::broker {
namespace {

using testing::Client;
using testing::TcpRedis;
using testing::TemporaryDirectory;
using testing::Url;

class TlsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string base = directory_.path() + "/";
    const std::string command =
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "
        "/CN=elsewhere-test "
        "-addext subjectAltName=IP:127.0.0.1 -keyout " +
        base + "key -out " + base + "cert 2>/dev/null";
    ASSERT_EQ(system(command.c_str()), 0);
    port_ = TcpRedis::FreePort();
    server_ = std::make_unique<TcpRedis>(std::vector<std::string>{
        "--port", "0", "--tls-port", port_, "--tls-cert-file", base + "cert", "--tls-key-file", base + "key",
        "--tls-ca-cert-file", base + "cert", "--tls-auth-clients", "optional", "--requirepass", "pw"});
  }

  ConnectionOptions Options(const std::string& host, const std::string& query) {
    ConnectionOptions options;
    options.url = Url("rediss://:pw@" + host + ":" + port_ + "/1" + query);
    options.patience = std::chrono::seconds(3);
    return options;
  }
  std::string Trusted() { return "?cacert=" + directory_.path() + "/cert"; }

  TemporaryDirectory directory_;
  std::string port_;
  std::unique_ptr<TcpRedis> server_;
};

TEST_F(TlsTest, CarriesCommandsLargeAndSmall) {
  Client client(Options("127.0.0.1", Trusted()));
  EXPECT_EQ(client.Ask({"SET", "k", "v"}), "OK");
  const std::string big(5'000'000, 'b');
  EXPECT_EQ(client.Ask({"SET", "big", big}), "OK");
  EXPECT_EQ(client.Ask({"GET", "big"}), big);

  auto sync =
      SyncClient::Connect(Url("rediss://:pw@127.0.0.1:" + port_ + "/1" + Trusted()), std::chrono::seconds(5));
  ASSERT_TRUE(sync.ok()) << sync.error().message;
  EXPECT_TRUE((*sync)->CheckVersion().ok());
}

TEST_F(TlsTest, RefusesAnUnknownAuthorityAndAWrongName) {
  Client ready(Options("127.0.0.1", Trusted()));  // the server is up
  ASSERT_EQ(ready.Ask({"PING"}), "PONG");

  ConnectionOptions strange = Options("127.0.0.1", "");
  strange.patience = std::chrono::milliseconds(100);
  Client stranger(strange);
  EXPECT_NE(stranger.Ask({"PING"}).find("certificate refused"), std::string::npos) << stranger.lost;

  ConnectionOptions wrong = Options("localhost", Trusted());
  wrong.patience = std::chrono::milliseconds(100);
  Client misnamed(wrong);
  EXPECT_NE(misnamed.Ask({"PING"}).find("certificate refused"), std::string::npos) << misnamed.lost;
}

TEST_F(TlsTest, SaysWhichFileIsMissing) {
  Client client(Options("127.0.0.1", "?cacert=/no/such/file"));
  EXPECT_NE(client.lost.find("/no/such/file"), std::string::npos) << client.lost;
}

}  // namespace
}  // namespace elsewhere::broker
