// Pipes of home's that become the worker's: while home's bytes are awaited, and until they are read.
#include "tests/unit/streams/moves.h"

namespace elsewhere::runtime {
namespace {

// The first bytes are there still.
class FirstBytesThere : public Moves {
 protected:
  void MoveWithBytes(const std::string& bytes) {
    ForkBoth();
    CloseAtHome();
    for (int i = 1; i < kLooks; ++i) {
      Put(writer(), ".");
      ASSERT_EQ(ReadOrSwitch(1), ".");
    }
    Put(writer(), ":" + bytes);
    Settle();
    ASSERT_EQ(ReadOrSwitch(1), ":");
    Settle();
    ASSERT_EQ(moved(), 1U);
  }
};

TEST_F(FirstBytesThere, AWatchSaysSoAndIsOverWhenTheyAreRead) {
  MoveWithBytes(std::string(50 << 10, 'b'));
  const auto* watch = Await(CallOn(abi::Operation::kWatch, reader(), {1, 0}));
  EXPECT_EQ(watch->result, POLLIN);
  EXPECT_NE(stream::PollNow(reader(), POLLIN), 0) << "who waits in the kernel is woken";
  size_t seen = 0;
  while (!switched_ && seen < (50 << 10)) seen += ReadOrSwitch(50000)->size();
  EXPECT_EQ(seen, size_t{50 << 10});
  if (!switched_) {
    EXPECT_NE(stream::PollNow(reader(), POLLIN), 0) << "and comes back to hear that it has moved";
    Switch(*Await(CallOn(abi::Operation::kWatch, reader(), {0, 0})));
  }
  EXPECT_EQ(stream::PollNow(reader(), POLLIN), 0);
}

TEST_F(FirstBytesThere, WhatAnInterruptedReaderLeavesIsReadNext) {
  MoveWithBytes("abcdef");
  const auto* answer = Await(Pull(reader(), 4));
  ASSERT_GT(answer->result, 0);
  Await(CallOn(abi::Operation::kPull, reader(), {0, abi::kPullBack}));
  EXPECT_EQ(stream::BytesWaiting(reader()), 0U);
  EXPECT_EQ(ReadOrSwitch(10), "abcdef");
}

TEST_F(FirstBytesThere, AReadEndThatIsPassedHomeHasThemFirst) {
  MoveWithBytes("abcdef");
  int sockets[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
  auto passes = MustFork({sockets[1]});
  std::vector<stream::Descriptor> passed;
  passed.emplace_back(dup(reader()));
  uint8_t byte = 'x';
  ASSERT_EQ(stream::SendBytes((*passes)[sockets[1]], std::span(&byte, 1), passed), 1);
  passed.clear();
  reader_->CloseAll();
  ASSERT_TRUE(Until([&] { return stream::BytesWaiting(sockets[0]) == 1; }));
  ASSERT_EQ(stream::ReceiveBytes(sockets[0], true, std::span(&byte, 1), passed), 1);
  ASSERT_EQ(passed.size(), 1U);
  ASSERT_EQ(Put(writer(), "gh"), 2);
  // Home asks for it, as a worker otherwise does.
  struct stat status {};
  ASSERT_EQ(fstat(passed[0].get(), &status), 0);
  std::string seen;
  while (seen.size() < 8) {
    Call call;
    call.operation = abi::Operation::kPull;
    call.arguments = {static_cast<int64_t>(status.st_dev), static_cast<int64_t>(status.st_ino), 100, 0};
    const CallId id = home_->Make(call);
    ASSERT_TRUE(Until([&] { return home_->AnswerOf(id) != nullptr; }));
    const std::string more = Take(passed[0].get(), 100);
    ASSERT_FALSE(more.empty());
    seen += more;
  }
  EXPECT_EQ(seen, "abcdefgh");
  passed.clear();
  EXPECT_TRUE(Until([&] { return (stream::PollNow(writer(), POLLOUT) & POLLERR) != 0; }));
  close(sockets[0]);
  close(sockets[1]);
}

TEST_F(FirstBytesThere, WhoCannotReplaceItsDescriptorIsBroughtTheBytes) {
  MoveWithBytes("abc");
  const auto ask = [&] { return CallOn(abi::Operation::kPull, reader(), {10, abi::kPullStays}); };
  ASSERT_GT(Await(ask())->result, 0);
  EXPECT_EQ(Take(reader(), 10), "abc");
  const CallId waits = ask();
  Settle();
  EXPECT_EQ(worker_->AnswerOf(waits), nullptr);
  Put(writer(), "def");
  ASSERT_EQ(Await(waits)->result, 3);
  EXPECT_EQ(Take(reader(), 10), "def");
  const CallId watch = CallOn(abi::Operation::kWatch, reader(), {1, abi::kWatchStays});
  EXPECT_EQ(Await(watch)->result, 0);
  EXPECT_EQ(stream::PollNow(reader(), POLLIN), 0);
  Put(writer(), "g");
  EXPECT_TRUE(Until([&] { return stream::PollNow(reader(), POLLIN) != 0; }));
  EXPECT_EQ(Await(CallOn(abi::Operation::kWatch, reader(), {0, abi::kWatchStays}))->result, POLLIN);
  ASSERT_GT(Await(ask())->result, 0);
  EXPECT_EQ(Take(reader(), 10), "g");
  writer_->CloseAll();
  EXPECT_EQ(Await(ask())->result, 0);
  char byte;
  EXPECT_EQ(read(reader(), &byte, 1), 0);
}

// The worker has taken it; home's bytes are not there yet.
class BytesAwaited : public Moves {
 protected:
  // Returns a call that waits for them.
  CallId MoveAndWait() {
    ForkBoth();
    CloseAtHome();
    for (int i = 1; i < kLooks; ++i) {
      Put(writer(), ".");
      EXPECT_EQ(ReadOrSwitch(1), ".");
    }
    home_->HoldFrom(wire::MessageType::kStreamMoved);
    const CallId waits = Pull(reader(), 5);
    EXPECT_TRUE(Until([&] { return home_->holds(); }));
    return waits;
  }
};

TEST_F(BytesAwaited, ReadersThatAreGoneBeforeTheBytesCameLeaveABrokenPipe) {
  MoveAndWait();
  reader_->CloseAll();
  EXPECT_TRUE(Until([&] { return (stream::PollNow(writer(), POLLOUT) & POLLERR) != 0; }));
  home_->Release();
  Settle();
  EXPECT_EQ(moved(), 1U);
}

TEST_F(BytesAwaited, AReaderKilledWhileItWaitsLeavesNoAnswerBehind) {
  const CallId waits = MoveAndWait();
  worker_streams_->CallDropped(waits);
  home_->Release();
  Settle();
  EXPECT_EQ(worker_->AnswerOf(waits), nullptr);
  Put(writer(), "next");
  EXPECT_EQ(ReadOrSwitch(10), "next");
}

TEST_F(BytesAwaited, AnInterruptedReaderIsToldSo) {
  const CallId waits = MoveAndWait();
  worker_streams_->CallCancelled(waits);
  const CallId other = Pull(reader(), 5);
  worker_streams_->CallCancelled(other);
  EXPECT_EQ(Await(other)->error, EINTR);
  home_->Release();
  EXPECT_EQ(Await(waits)->error, EINTR);
}

TEST_F(BytesAwaited, WhoAsksAndWritesMeanwhileIsServedBehind) {
  const CallId waits = MoveAndWait();
  const CallId watch = CallOn(abi::Operation::kWatch, reader(), {1, 1});
  const CallId size = CallOn(abi::Operation::kIoctl, reader(), {FIONREAD});
  ASSERT_EQ(Put(writer(), "new"), 3);
  Settle();
  for (const CallId call : {waits, watch, size}) EXPECT_EQ(worker_->AnswerOf(call), nullptr);
  home_->Release();
  EXPECT_EQ(Await(size)->result, 3);
  EXPECT_EQ(Await(watch)->error, wire::kPipeHasMoved);
  Switch(*Await(waits));
  EXPECT_EQ(Take(reader(), 10), "new");
}

// A write end is the worker's own by then, a read end has home's bytes first.
TEST_F(BytesAwaited, BothEndsCanBePassedHome) {
  int sockets[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
  auto passes = MustFork({sockets[1]});
  MoveAndWait();
  std::vector<stream::Descriptor> passed;
  passed.emplace_back(dup(reader()));
  passed.emplace_back(dup(writer()));
  uint8_t byte = 'x';
  ASSERT_EQ(stream::SendBytes((*passes)[sockets[1]], std::span(&byte, 1), passed), 1);
  passed.clear();
  reader_->CloseAll();
  Settle();
  home_->Release();
  ASSERT_TRUE(Until([&] { return stream::BytesWaiting(sockets[0]) == 1; }));
  ASSERT_EQ(stream::ReceiveBytes(sockets[0], true, std::span(&byte, 1), passed), 1);
  ASSERT_EQ(passed.size(), 2U);
  ASSERT_EQ(Put(passed[1].get(), "home"), 4);
  Settle();
  struct stat status {};
  ASSERT_EQ(fstat(passed[0].get(), &status), 0);
  Call call;
  call.operation = abi::Operation::kPull;
  call.arguments = {static_cast<int64_t>(status.st_dev), static_cast<int64_t>(status.st_ino), 100, 0};
  const CallId id = home_->Make(call);
  ASSERT_TRUE(Until([&] { return home_->AnswerOf(id) != nullptr; }));
  EXPECT_EQ(Take(passed[0].get(), 100), "home");
  close(sockets[0]);
  close(sockets[1]);
}

// It has been sent, and still is in the stand-in.
TEST_F(Moves, WhatWasCopiedForAnEndIsReadOnce) {
  ForkBoth();
  auto other = MustFork({ends_[1]});
  CloseAtHome();
  SetNonBlocking(writer());
  std::string written, seen;
  for (int idle = 0, next = 0; idle < 30; Turn(), ++idle) {
    for (std::string block; Put(writer(), block = std::to_string(next) + std::string(2060, ',')) > 0;
         ++next) {
      written += block;
      idle = 0;
    }
  }
  EXPECT_TRUE(End(*other, false, 10000));
  for (int i = 0; i < kLooks; ++i) seen += *ReadOrSwitch(1);
  Settle();
  while (seen.size() < written.size()) {
    const auto more = ReadOrSwitch(4096);
    ASSERT_TRUE(more && !more->empty()) << seen.size() << " of " << written.size();
    seen += *more;
  }
  EXPECT_TRUE(seen == written);
}

}  // namespace
}  // namespace elsewhere::runtime
