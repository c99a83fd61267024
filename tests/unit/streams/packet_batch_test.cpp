// Many packets of a pipe at once: every byte, in order, and the borders of what was written.
#include "runtime/stream/packet_batch.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <limits.h>

namespace elsewhere::runtime::stream {
namespace {

constexpr size_t kRoom = 64 << 10;

class PacketBatchTest : public testing::Test {
 protected:
  void SetUp() override {
    int ends[2];
    ASSERT_EQ(pipe2(ends, O_CLOEXEC | O_NONBLOCK | O_DIRECT), 0);
    read_.Reset(ends[0]);
    write_.Reset(ends[1]);
    ASSERT_GE(fcntl(write_.get(), F_SETPIPE_SZ, 256 << 10), 256 << 10);
  }
  // Bytes that tell where they belong.
  void Write(size_t size) {
    std::vector<uint8_t> bytes(size);
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(written_++ % 251);
    ASSERT_EQ(write(write_.get(), bytes.data(), size), static_cast<ssize_t>(size));
  }
  void ExpectBytes(const std::vector<uint8_t>& bytes) {
    for (size_t at = 0; at < bytes.size(); ++at) ASSERT_EQ(bytes[at], at % 251) << at;
  }

  Descriptor read_;
  Descriptor write_;
  size_t written_ = 0;
  PacketBatch batch_;
};

TEST_F(PacketBatchTest, FullPacketsComeTogether) {
  Write(160 << 10);
  std::vector<uint8_t> bytes;
  std::vector<uint32_t> records;
  EXPECT_EQ(batch_.Take(read_.get(), kRoom, bytes, records), kRoom);
  EXPECT_EQ(batch_.Take(read_.get(), kRoom, bytes, records), kRoom);
  EXPECT_EQ(batch_.Take(read_.get(), kRoom, bytes, records), 32 << 10);
  EXPECT_EQ(batch_.Take(read_.get(), kRoom, bytes, records), 0U);
  EXPECT_EQ(records, std::vector<uint32_t>(40, PIPE_BUF));
  ExpectBytes(bytes);
}

TEST_F(PacketBatchTest, BordersOfSmallWritesStay) {
  const std::vector<uint32_t> sizes{4096, 1, 4096, 4095, 7, 4096};
  std::vector<uint32_t> all;
  for (int round = 0; round < 5; ++round) {
    for (const uint32_t size : sizes) Write(size);
    all.insert(all.end(), sizes.begin(), sizes.end());
  }
  std::vector<uint8_t> bytes;
  std::vector<uint32_t> records;
  while (batch_.Take(read_.get(), kRoom, bytes, records) > 0) {
  }
  EXPECT_EQ(records, all);
  EXPECT_EQ(bytes.size(), written_);
  ExpectBytes(bytes);
}

TEST_F(PacketBatchTest, WithoutRoomForAllNothingIsTaken) {
  Write(kRoom);
  std::vector<uint8_t> bytes;
  std::vector<uint32_t> records;
  EXPECT_EQ(batch_.Take(read_.get(), kRoom - 1, bytes, records), 0U);
  EXPECT_TRUE(bytes.empty() && records.empty());
  EXPECT_EQ(BytesWaiting(read_.get()), kRoom);
}

TEST_F(PacketBatchTest, TheEndIsLeftToAReadToSay) {
  Write(PIPE_BUF);
  write_.Reset();
  std::vector<uint8_t> bytes;
  std::vector<uint32_t> records;
  EXPECT_EQ(batch_.Take(read_.get(), kRoom, bytes, records), static_cast<size_t>(PIPE_BUF));
  EXPECT_EQ(batch_.Take(read_.get(), kRoom, bytes, records), 0U);
}

TEST_F(PacketBatchTest, WhatIsCopiedStays) {
  const std::vector<uint32_t> sizes{4096, 1, 4096, 4095, 7, 4096};
  std::vector<uint32_t> all;
  for (int round = 0; round < 10; ++round) {
    for (const uint32_t size : sizes) Write(size);
    all.insert(all.end(), sizes.begin(), sizes.end());
  }
  for (int round = 0; round < 2; ++round) {
    std::vector<uint8_t> bytes;
    std::vector<uint32_t> records;
    EXPECT_TRUE(CopyPackets(read_.get(), bytes, records));
    EXPECT_EQ(records, all);
    EXPECT_EQ(bytes.size(), written_);
    ExpectBytes(bytes);
    EXPECT_EQ(BytesWaiting(read_.get()), written_);
  }
}

}  // namespace
}  // namespace elsewhere::runtime::stream
