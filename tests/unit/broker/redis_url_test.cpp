#include "shim/broker/redis_url.h"

#include <gtest/gtest.h>

namespace elsewhere::broker {
namespace {

TEST(RedisUrl, ReadsEveryPart) {
  const auto url = ParseRedisUrl("redis://me:s%40cret@cache.example:7000/3");
  ASSERT_TRUE(url.ok());
  EXPECT_EQ(url->kind, RedisUrl::Kind::kTcp);
  EXPECT_EQ(url->user, "me");
  EXPECT_EQ(url->password, "s@cret");
  EXPECT_EQ(url->host, "cache.example");
  EXPECT_EQ(url->port, 7000);
  EXPECT_EQ(url->database, 3);
  EXPECT_EQ(url->Display(), "redis://me:***@cache.example:7000/3");
}

TEST(RedisUrl, HasDefaults) {
  const auto url = ParseRedisUrl("rediss://h/");
  ASSERT_TRUE(url.ok());
  EXPECT_EQ(url->kind, RedisUrl::Kind::kTls);
  EXPECT_EQ(url->port, 6379);
  EXPECT_EQ(url->database, 0);
  EXPECT_EQ(url->user, "");
  EXPECT_EQ(url->password, "");
}

TEST(RedisUrl, TakesAPasswordWithoutUserAndAnIpv6Address) {
  const auto url = ParseRedisUrl("redis://:pw@[::1]:6380");
  ASSERT_TRUE(url.ok());
  EXPECT_EQ(url->user, "");
  EXPECT_EQ(url->password, "pw");
  EXPECT_EQ(url->host, "::1");
  EXPECT_EQ(url->port, 6380);
  EXPECT_EQ(url->Display(), "redis://:***@[::1]:6380");
}

TEST(RedisUrl, TakesASocketWithParameters) {
  const auto url = ParseRedisUrl("unix:///run/r%20s.sock?db=2&user=u&password=p%26q");
  ASSERT_TRUE(url.ok());
  EXPECT_EQ(url->path, "/run/r s.sock");
  EXPECT_EQ(url->database, 2);
  EXPECT_EQ(url->user, "u");
  EXPECT_EQ(url->password, "p&q");
}

TEST(RedisUrl, RefusesBadInputInOneLineWithoutThePassword) {
  for (const char* text : {
           "",
           "redis",
           "http://h",
           "redis://",
           "redis://h:0",
           "redis://h:65536",
           "redis://h:x",
           "redis://h:",
           "redis://h/x",
           "redis://h/-1",
           "redis://u@h",
           "redis://u:hunter2@",
           "redis://u:hunter2@h:port",
           "redis://:hunter2@h/1/2",
           "redis://[::1",
           "redis://[::1]6379",
           "redis://h?what=1",
           "redis://h?cacert=/x",
           "redis://h%zz",
           "redis://u:hunter2%@h",
           "unix://relative",
           "unix:///s?db=x",
           "unix:///s?password",
           "unix:///s?db=1x&password=hunter2",
           "rediss://h?cert=/c",
           "redis://h/99999999999",
           "redis://h%00",
           "unix:///s?x=1&password=hunter2&y=2",
       }) {
    const auto url = ParseRedisUrl(text);
    ASSERT_FALSE(url.ok()) << text;
    EXPECT_EQ(url.error().code, EINVAL);
    EXPECT_EQ(url.error().message.find("hunter2"), std::string::npos) << url.error().message;
    EXPECT_EQ(url.error().message.find('\n'), std::string::npos);
    EXPECT_TRUE(url.error().message.starts_with("bad Redis URL '")) << url.error().message;
  }
}

}  // namespace
}  // namespace elsewhere::broker
