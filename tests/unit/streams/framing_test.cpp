// Whose requests are those of messages that begin with their length, and whose only look like it.
#include "runtime/stream/framing.h"

#include <gtest/gtest.h>

#include <array>

namespace elsewhere::runtime::stream {
namespace {

class FramingTest : public testing::Test {
 protected:
  static constexpr wire::Incarnation kOne = 1, kOther = 2;

  static std::array<uint8_t, 4> Header(uint32_t length) {
    return {static_cast<uint8_t>(length >> 24), static_cast<uint8_t>(length >> 16),
            static_cast<uint8_t>(length >> 8), static_cast<uint8_t>(length)};
  }
  void Read(wire::Incarnation reader, uint64_t asked, uint64_t bytes, uint32_t begins = 0) {
    framing_.Given(reader, asked, bytes, Header(begins));
  }
  void Message(wire::Incarnation reader, uint32_t length) {
    Read(reader, 4, 4, length);
    Read(reader, length, length);
  }
  void Messages(uint32_t length) {
    for (int i = 0; i < 20; ++i) Message(i % 3 == 0 ? kOne : kOther, length);
  }

  Framing framing_;
};

TEST_F(FramingTest, MessagesAreKnownAfterAWhile) {
  EXPECT_FALSE(framing_.IsSure());
  Message(kOne, 10);
  EXPECT_FALSE(framing_.IsSure());
  Messages(10);
  EXPECT_TRUE(framing_.IsSure());
  Read(kOther, 4, 14, 10);  // both at once
  EXPECT_TRUE(framing_.IsSure());
  Read(kOther, 4, 4, 100);  // not all of it was there
  EXPECT_FALSE(framing_.IsSure());
  Read(kOther, 100, 60);
  Read(kOther, 40, 40);
  EXPECT_TRUE(framing_.IsSure());
}

TEST_F(FramingTest, LargeOnesComeInPieces) {
  Messages(10);
  Read(kOne, 4, 4, 1 << 20);
  for (uint64_t left = 1 << 20; left != 0; left -= 1 << 16) Read(kOne, 1 << 16, 1 << 16);
  EXPECT_TRUE(framing_.IsSure());
}

TEST_F(FramingTest, NumbersOfFourBytesAreNone) {
  for (const uint32_t number : {0U, 3U, 4U, 5U, 8U, 12U, 16U, 1U << 20, UINT32_MAX}) {
    for (int i = 0; i < 50; ++i) {
      Read(kOne, 4, 4, number);
      EXPECT_FALSE(framing_.IsSure()) << number;
    }
  }
}

TEST_F(FramingTest, WhoReadsOtherwiseIsNotGivenMore) {
  Messages(10);
  Read(kOne, 4, 4, 10);
  Read(kOther, 10, 10);
  EXPECT_FALSE(framing_.IsSure()) << "somebody else reads the rest";
  Messages(10);
  Read(kOne, 4, 4, 10);
  Read(kOne, 5, 5);
  EXPECT_FALSE(framing_.IsSure()) << "not the whole message";
  Messages(10);
  Read(kOne, 1, 1);
  EXPECT_FALSE(framing_.IsSure()) << "not a length";
  Messages(10);
  Read(kOne, 4, 2, 10);
  EXPECT_FALSE(framing_.IsSure()) << "half a length";
}

}  // namespace
}  // namespace elsewhere::runtime::stream
