#include "shim/memory/diff.h"

#include <gtest/gtest.h>

#include <random>

namespace elsewhere::memory {
namespace {

struct Buffer {
  explicit Buffer(size_t bytes) : words((bytes + 7) / 8), size(bytes) {}
  uint8_t* data() { return reinterpret_cast<uint8_t*>(words.data()); }
  std::vector<uint64_t> words;
  size_t size;
};

std::vector<uint8_t> Diff(Buffer& live, Buffer& shadow) {
  DiffWriter writer;
  EXPECT_EQ(CollectChanges({live.data(), shadow.data(), live.size}, 0, SIZE_MAX, &writer), live.size);
  return writer.Take();
}

void Apply(Buffer& live, Buffer& shadow, std::span<const uint8_t> diff) {
  DiffReader reader(diff, live.size);
  for (memory::Run run; reader.Next(&run);) ApplyRun({live.data(), shadow.data(), live.size}, run);
  EXPECT_TRUE(reader.ok());
}

TEST(Diff, EqualMemoryHasNone) {
  Buffer live(4096), shadow(4096);
  EXPECT_TRUE(Diff(live, shadow).empty());
}

TEST(Diff, EachCallGetsOnWhereTheWriterIsFull) {
  Buffer live(4096), shadow(4096), copy(4096), other(4096);
  std::fill(live.words.begin(), live.words.end(), 0x0101010101010101);
  DiffWriter writer;
  size_t calls = 0;
  for (uint64_t at = 0; at < live.size && calls <= live.size; ++calls)
    at = CollectChanges({live.data(), shadow.data(), live.size}, at, 64, &writer);
  EXPECT_LT(calls, live.size);
  Apply(copy, other, writer.Take());
  EXPECT_EQ(copy.words, live.words);
}

TEST(Diff, HoldsOnlyChangedBytes) {
  Buffer live(4096), shadow(4096);
  live.data()[0] = 1;
  live.data()[2] = 1;  // the byte between is somebody else's
  live.data()[4095] = 9;
  const auto diff = Diff(live, shadow);
  DiffReader reader(diff, live.size);
  std::vector<std::pair<uint64_t, size_t>> runs;
  for (memory::Run run; reader.Next(&run);) runs.emplace_back(run.offset, run.bytes.size());
  EXPECT_EQ(runs, (std::vector<std::pair<uint64_t, size_t>>{{0, 1}, {2, 1}, {4095, 1}}));
  EXPECT_TRUE(Diff(live, shadow).empty()) << "the shadow has taken the change";
}

TEST(Diff, TwoWritersOfOneWordBothSurvive) {
  Buffer live_a(64), shadow_a(64), live_b(64), shadow_b(64);
  live_a.data()[8] = 0xaa;
  live_b.data()[9] = 0xbb;
  const auto from_a = Diff(live_a, shadow_a);
  Apply(live_b, shadow_b, from_a);
  const auto from_b = Diff(live_b, shadow_b);
  Apply(live_a, shadow_a, from_b);
  EXPECT_EQ(live_a.words, live_b.words);
  EXPECT_EQ(live_a.data()[8], 0xaa);
  EXPECT_EQ(live_a.data()[9], 0xbb);
}

TEST(Diff, AnyMixOfChangesArrives) {
  std::mt19937 random(7);
  for (const size_t size : {1UL, 7UL, 8UL, 4095UL, 4096UL, 40961UL}) {
    Buffer live(size), shadow(size), copy(size), copy_shadow(size);
    for (int round = 0; round < 20; ++round) {
      for (int change = 0; change < 50; ++change) {
        const size_t at = random() % size;
        const size_t length = std::min<size_t>(random() % 40, size - at);
        for (size_t i = 0; i < length; ++i) live.data()[at + i] = static_cast<uint8_t>(random() % 3);
      }
      Apply(copy, copy_shadow, Diff(live, shadow));
      ASSERT_EQ(live.words, copy.words) << size;
      ASSERT_EQ(shadow.words, copy_shadow.words) << size;
    }
  }
}

// Long stretches of words that changed in every byte, and words that kept some of theirs.
TEST(Diff, SaysTheBytesThatChangedAndNoOther) {
  std::mt19937 random(5);
  for (const uint32_t kept : {1000U, 40U, 8U, 2U}) {
    Buffer live(20003), shadow(20003);
    for (size_t at = 0; at < live.size; ++at) {
      shadow.data()[at] = static_cast<uint8_t>(random());
      const bool keeps = random() % kept == 0;
      live.data()[at] = static_cast<uint8_t>(shadow.data()[at] + (keeps ? 0 : 1 + random() % 255));
    }
    const Buffer before = shadow;
    const auto diff = Diff(live, shadow);
    EXPECT_EQ(live.words, shadow.words);
    std::vector<uint8_t> said(live.size);
    DiffReader reader(diff, live.size);
    for (memory::Run run; reader.Next(&run);) {
      for (size_t i = 0; i < run.bytes.size(); ++i) {
        said[run.offset + i] = 1;
        EXPECT_EQ(run.bytes[i], live.data()[run.offset + i]);
      }
    }
    const auto* old = reinterpret_cast<const uint8_t*>(before.words.data());
    for (size_t at = 0; at < live.size; ++at) ASSERT_EQ(said[at] != 0, live.data()[at] != old[at]) << at;
  }
}

TEST(Diff, StopsAtTheLimitAndGoesOn) {
  Buffer live(1 << 16), shadow(1 << 16);
  std::fill_n(live.data(), live.size, uint8_t{1});
  DiffWriter writer;
  const uint64_t stopped = CollectChanges({live.data(), shadow.data(), live.size}, 0, 300, &writer);
  EXPECT_GE(stopped, 300U);
  EXPECT_LT(stopped, 320U);
  writer.Take();
  EXPECT_EQ(CollectChanges({live.data(), shadow.data(), live.size}, stopped, SIZE_MAX, &writer), live.size);
  EXPECT_EQ(live.words, shadow.words);
}

TEST(Diff, ContentArrivesWholeAndWithoutLongZeros) {
  std::mt19937 random(9);
  for (const size_t size : {1UL, 63UL, 64UL, 4095UL, 40961UL}) {
    Buffer content(size), copy(size), copy_shadow(size);
    for (int change = 0; change < 5; ++change) content.data()[random() % size] = 7;
    size_t sent = 0;
    for (uint64_t at = 0; at < size;) {
      DiffWriter writer;
      at = CollectContent(content.data(), at, size, 128, &writer);
      const auto diff = writer.Take();
      sent += diff.size();
      Apply(copy, copy_shadow, diff);
    }
    EXPECT_EQ(content.words, copy.words) << size;
    EXPECT_LE(sent, 5 * (64U + 8)) << size;
  }
}

TEST(Diff, FindsTheUnpublishedByte) {
  Buffer live(64), shadow(64);
  live.data()[11] = 1;
  const std::vector<uint8_t> bytes(8);
  EXPECT_EQ(FirstUnpublished({live.data(), shadow.data(), 64}, memory::Run{8, bytes}), 11U);
  EXPECT_EQ(FirstUnpublished({live.data(), shadow.data(), 64}, memory::Run{16, bytes}), 24U);
}

TEST(DiffReader, RefusesWhatLeadsOutside) {
  const std::vector<std::vector<uint8_t>> bad = {
      {0},                                                                 // no length
      {0, 0},                                                              // empty run
      {0, 2, 1},                                                           // shorter than it says
      {9, 1, 1},                                                           // behind the end
      {7, 2, 1, 1},                                                        // over the end
      {0x80},                                                              // unfinished number
      {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 1, 1},  // too large a number
      {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 1, 1},  // wraps around
  };
  for (const auto& bytes : bad) {
    DiffReader reader(bytes, 8);
    memory::Run run;
    while (reader.Next(&run)) ASSERT_LE(run.offset + run.bytes.size(), 8U);
    EXPECT_FALSE(reader.ok());
  }
}

TEST(DiffReader, SurvivesNoise) {
  std::mt19937 random(11);
  for (int round = 0; round < 20000; ++round) {
    std::vector<uint8_t> noise(random() % 24);
    for (auto& byte : noise) byte = static_cast<uint8_t>(random());
    DiffReader reader(noise, 64);
    for (memory::Run run; reader.Next(&run);) ASSERT_LE(run.offset + run.bytes.size(), 64U);
  }
}

}  // namespace
}  // namespace elsewhere::memory
