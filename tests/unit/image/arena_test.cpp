// The chunk arena under many writers.
#include "shim/wire/arena.h"

#include <gtest/gtest.h>

#include <cstring>
#include <thread>
#include <vector>

#include "tests/unit/image/arena_file.h"

namespace elsewhere::arena {
namespace {

constexpr uint64_t kCapacity = 32 << 20;

class ArenaTest : public testing::Test {
 protected:
  void SetUp() override {
    file_ = harness::MakeArenaFile(kCapacity);
    ASSERT_GE(file_, 0);
    memory_ = static_cast<uint8_t*>(mmap(nullptr, kCapacity, PROT_READ | PROT_WRITE, MAP_SHARED, file_, 0));
    arena_ = {reinterpret_cast<ArenaHeader*>(memory_), memory_, kCapacity};
  }
  void TearDown() override {
    munmap(memory_, kCapacity);
    close(file_);
  }

  // Finds or stores a page filled with `value`; 0: full.
  uint64_t Store(uint64_t value) {
    const uint64_t hash[2] = {value * 0x9e3779b97f4a7c15, value};
    const auto same = [&](uint64_t offset) {
      uint64_t first;
      std::memcpy(&first, memory_ + offset, 8);
      return first == value;
    };
    if (const uint64_t known = Find(arena_, hash, kPageSize, same)) return known;
    const uint64_t offset = Claim(arena_, kPageSize);
    if (offset == 0) return 0;
    for (uint64_t at = 0; at < kPageSize; at += 8) std::memcpy(memory_ + offset + at, &value, 8);
    const uint64_t location = MakeLocation(offset, kPageSize);
    Publish(arena_, hash, location);
    return location;
  }

  int file_ = -1;
  uint8_t* memory_ = nullptr;
  Arena arena_{};
};

TEST_F(ArenaTest, IsRecognised) {
  EXPECT_TRUE(HeaderValid(*arena_.header, kCapacity));
  EXPECT_FALSE(HeaderValid(*arena_.header, kCapacity + kPageSize));
  arena_.header->index_slots = 3;
  EXPECT_FALSE(HeaderValid(*arena_.header, kCapacity));
}

TEST_F(ArenaTest, FindsWhatWasPublished) {
  const uint64_t first = Store(7);
  EXPECT_EQ(Store(7), first);
  EXPECT_NE(Store(8), first);
  EXPECT_EQ(arena_.header->chunks, 2U);
}

TEST_F(ArenaTest, EndsWhenFull) {
  uint64_t stored = 0;
  while (Store(stored + 1) != 0) ++stored;
  EXPECT_EQ(stored, (kCapacity - arena_.header->data_offset) / kPageSize);
  EXPECT_LE(arena_.header->used, kCapacity);
}

TEST_F(ArenaTest, StepsOverAWriterThatDied) {
  const uint64_t hash[2] = {5 * 0x9e3779b97f4a7c15, 5};
  Index(arena_)[hash[0] & (arena_.header->index_slots - 1)].location = kSlotClaimed;
  const uint64_t location = Store(5);
  EXPECT_EQ(Store(5), location);
}

TEST_F(ArenaTest, RemembersByAddressAndLength) {
  const uint64_t location = Store(9);
  Remember(arena_, 0x7000, kPageSize, location);
  EXPECT_EQ(Recall(arena_, 0x7000, kPageSize), location);
  EXPECT_EQ(Recall(arena_, 0x7000, 2 * kPageSize), 0U);
  EXPECT_EQ(Recall(arena_, 0x8000, kPageSize), 0U);
  // A hint that points outside is no hint.
  Remember(arena_, 0x7000, kPageSize, MakeLocation(kCapacity, kPageSize));
  EXPECT_EQ(Recall(arena_, 0x7000, kPageSize), 0U);
}

TEST_F(ArenaTest, ManyWritersAgree) {
  std::vector<std::thread> writers;
  for (int writer = 0; writer < 4; ++writer) {
    writers.emplace_back([this] {
      for (uint64_t value = 1; value <= 1000; ++value) {
        const uint64_t location = Store(value);
        ASSERT_NE(location, 0U);
        uint64_t last;
        std::memcpy(&last, memory_ + LocationOffset(location) + kPageSize - 8, 8);
        ASSERT_EQ(last, value);
      }
    });
  }
  for (auto& writer : writers) writer.join();
}

}  // namespace
}  // namespace elsewhere::arena
