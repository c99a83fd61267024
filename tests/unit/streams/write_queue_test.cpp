#include "runtime/stream/write_queue.h"

#include <gtest/gtest.h>

#include <cerrno>

namespace elsewhere::runtime::stream {
namespace {

// An object with room for so many bytes that notes every write.
struct Sink {
  size_t room = SIZE_MAX;
  std::vector<size_t> writes;
  Result<size_t> operator()(std::span<const uint8_t> bytes) {
    if (room == 0) return Error{EAGAIN, ""};
    const size_t taken = std::min(room, bytes.size());
    room -= taken;
    writes.push_back(taken);
    return taken;
  }
};

Result<bool> Flush(WriteQueue& queue, Borders borders, Sink& sink) {
  return queue.Flush(
      borders, [&](std::span<const uint8_t> bytes, const std::vector<Descriptor>&) { return sink(bytes); },
      [](auto, auto) {});
}

TEST(WriteQueue, SmallWritesShareOneUpToPipeBuf) {
  WriteQueue queue;
  queue.Push(1, std::vector<uint8_t>(4000 + 90 + 100), {4000, 90, 100});
  Sink sink;
  EXPECT_TRUE(*Flush(queue, Borders::kAtomic, sink));
  EXPECT_EQ(sink.writes, (std::vector<size_t>{4090, 100}));
}

TEST(WriteQueue, PagesOfALargeWriteGoTogetherAndItsRestAlone) {
  WriteQueue queue;
  queue.Push(1, std::vector<uint8_t>(3 * 4096 + 10 + 20), {4096, 4096, 4096, 10, 20});
  Sink sink;
  EXPECT_TRUE(*Flush(queue, Borders::kAtomic, sink));
  EXPECT_EQ(sink.writes, (std::vector<size_t>{3 * 4096, 30}));
}

TEST(WriteQueue, StopsAtTheBorderOfAPageAndGoesOn) {
  WriteQueue queue;
  queue.Push(1, std::vector<uint8_t>(2 * 4096 + 5), {4096, 4096, 5});
  Sink sink{4096, {}};
  EXPECT_FALSE(*Flush(queue, Borders::kAtomic, sink));
  sink.room = SIZE_MAX;
  EXPECT_TRUE(*Flush(queue, Borders::kAtomic, sink));
  EXPECT_EQ(sink.writes, (std::vector<size_t>{4096, 4096, 5}));
  EXPECT_TRUE(queue.empty());
}

TEST(WriteQueue, DatagramsGoOneByOne) {
  WriteQueue queue;
  queue.Push(1, {1, 2, 3}, {1, 0, 2});
  Sink sink;
  EXPECT_TRUE(*Flush(queue, Borders::kDatagram, sink));
  EXPECT_EQ(sink.writes, (std::vector<size_t>{1, 0, 2}));
}

TEST(WriteQueue, DropsOnlyWhatBelongsToTheShare) {
  WriteQueue queue;
  queue.Push(1, {1, 2, 3}, {});
  queue.Push(2, {4}, {});
  EXPECT_EQ(queue.Drop(1), 3U);
  Sink sink;
  EXPECT_TRUE(*Flush(queue, Borders::kNone, sink));
  EXPECT_EQ(sink.writes, (std::vector<size_t>{1}));
}

}  // namespace
}  // namespace elsewhere::runtime::stream
