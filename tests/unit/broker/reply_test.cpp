#include "shim/broker/reply.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

namespace elsewhere::broker {
namespace {

void Feed(ReplyReader* reader, std::string_view bytes) {
  while (!bytes.empty()) {
    const auto room = reader->Room();
    const size_t size = std::min(room.size(), bytes.size());
    std::memcpy(room.data(), bytes.data(), size);
    reader->Commit(size);
    bytes.remove_prefix(size);
  }
}

// A readable form of any reply.
std::string Show(const Reply& reply) {
  if (reply.IsNil()) return "nil";
  if (reply.IsInteger()) return std::to_string(reply.integer());
  if (reply.IsError()) return "!" + std::string(reply.text());
  if (reply.IsString()) return "'" + std::string(reply.text()) + "'";
  std::string text = "[";
  for (size_t i = 0; i < reply.size(); ++i) text += (i == 0 ? "" : " ") + Show(reply[i]);
  return text + "]";
}

const std::string_view kStream =
    "+OK\r\n:-42\r\n$-1\r\n*-1\r\n-ERR no\r\n$0\r\n\r\n*0\r\n"
    "*1\r\n*2\r\n$1\r\nk\r\n*2\r\n*2\r\n$3\r\n1-0\r\n*2\r\n$2\r\n\r\n\r\n$1\r\nb\r\n*2\r\n$3\r\n2-0\r\n*"
    "1\r\n:7\r\n+end\r\n";
const std::vector<std::string> kShown{"'OK'",    "-42", "nil", "nil",
                                      "!ERR no", "''",  "[]",  "[['k' [['1-0' ['\r\n' 'b']] ['2-0' [7]]]]]",
                                      "'end'"};

TEST(ReplyReader, ReadsEveryKindHoweverTheBytesArrive) {
  for (size_t step = 1; step <= kStream.size(); ++step) {
    ReplyReader reader;
    std::vector<std::string> shown;
    for (size_t at = 0; at < kStream.size(); at += step) {
      Feed(&reader, kStream.substr(at, step));
      for (;;) {
        const auto reply = reader.Next();
        if (!reply) {
          ASSERT_EQ(reply.error().code, ENODATA);
          break;
        }
        shown.push_back(Show(*reply));
        ASSERT_EQ(Show(reader.Own().view()), shown.back());
      }
    }
    EXPECT_EQ(shown, kShown) << step;
  }
}

TEST(ReplyReader, ReadsLargeRepliesBetweenSmallOnes) {
  ReplyReader reader;
  const std::string big(3'000'000, 'b');
  for (int i = 0; i < 5; ++i) {
    Feed(&reader, ":1\r\n*2\r\n$3000000\r\n" + big + "\r\n$20000000\r\n");
    ASSERT_EQ(Show(*reader.Next()), "1");
    ASSERT_EQ(reader.Next().error().code, ENODATA);
    EXPECT_GE(reader.Room().size(), 20'000'002u);
    Feed(&reader, std::string(20'000'000, 'c') + "\r\n:2\r\n");
    const auto reply = reader.Next();
    ASSERT_TRUE(reply.ok());
    EXPECT_EQ((*reply)[0].text(), big);
    EXPECT_EQ((*reply)[1].text().size(), 20'000'000u);
    ASSERT_EQ(Show(*reader.Next()), "2");
  }
}

TEST(ReplyReader, RefusesWhatIsNoProtocol) {
  for (const char* bytes :
       {"\r\n", "x\r\n", "$x\r\n", "$-2\r\n", ":\r\n", ":1x\r\n", "*-2\r\n", "*99999999\r\n",
        "$9999999999999\r\n", "$1\r\nabc", "HTTP/1.1 400 Bad Request\r\n",
        "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n"}) {
    ReplyReader reader;
    Feed(&reader, bytes);
    const auto reply = reader.Next();
    ASSERT_FALSE(reply.ok()) << bytes;
    EXPECT_EQ(reply.error().code, EPROTO) << bytes;
  }
  ReplyReader reader;
  Feed(&reader, std::string(70'000, '+'));
  EXPECT_EQ(reader.Next().error().code, EPROTO);
}

TEST(ReplyReader, SurvivesRandomBytes) {
  std::mt19937 random(1);
  for (int round = 0; round < 20'000; ++round) {
    std::string bytes(kStream);
    for (unsigned int i = 0; i < 1 + random() % 4; ++i)
      bytes[random() % bytes.size()] = "*$:+-0123456789\r\nx"[random() % 18];
    ReplyReader reader;
    Feed(&reader, bytes);
    for (;;) {
      const auto reply = reader.Next();
      if (!reply) break;
      (void)Show(*reply);
    }
  }
}

TEST(Reply, AnswersEveryQuestionSafely) {
  const Reply none;
  EXPECT_TRUE(none.IsNil());
  EXPECT_EQ(none.text(), "");
  EXPECT_EQ(none.integer(), 0);
  EXPECT_EQ(none.size(), 0u);
  EXPECT_TRUE(none[3][4][5].IsNil());
}

}  // namespace
}  // namespace elsewhere::broker
