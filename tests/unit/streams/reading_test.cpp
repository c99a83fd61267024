// Processes elsewhere that read from a pipe of home's: who gets which bytes, and what poll sees.
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>

#include <thread>

#include "runtime/stream/descriptor.h"
#include "tests/unit/streams/two_hosts.h"

namespace elsewhere::runtime {
namespace {

TEST_F(TwoHosts, AWaitingReadElsewhereGetsWhatItAskedFor) {
  Pipe pipe;
  auto child = MustFork({pipe.read});
  const int read_end = (*child)[pipe.read];
  const CallId call = Pull(read_end, 4);
  Settle();
  EXPECT_EQ(worker_->AnswerOf(call), nullptr);
  Put(pipe.write, "headbody");
  ASSERT_NE(Await(call), nullptr);
  EXPECT_EQ(worker_->AnswerOf(call)->result, 4);
  EXPECT_EQ(Take(read_end, 100), "head");
  EXPECT_EQ(stream::BytesWaiting(pipe.read), 4U) << "not asked for, not taken";
  EXPECT_EQ(Read(read_end, 100), "body");
  const auto* empty = Await(Pull(read_end, 5, false));
  ASSERT_NE(empty, nullptr);
  EXPECT_EQ(empty->error, EAGAIN);
  pipe.CloseWrite();
  EXPECT_EQ(Read(read_end, 100), "");
  EXPECT_TRUE(AtEnd(read_end));
  EXPECT_EQ(Read(read_end, 100), "");
}

TEST_F(TwoHosts, AMessageThatIsWholeComesWithItsLength) {
  Pipe pipe;
  auto child = MustFork({pipe.read});
  const int read_end = (*child)[pipe.read];
  const std::string message("\0\0\0\4body", 8);
  for (int i = 0; i < 10; ++i) {
    Put(pipe.write, std::string("\0\0\0\5", 4) + "learn");
    ASSERT_EQ(Read(read_end, 4)->size(), 4U);
    ASSERT_EQ(Read(read_end, 5), "learn");
  }
  auto other = MustFork({pipe.read});  // who alone may read is given all that is there
  Put(pipe.write, message + message.substr(0, 7));
  EXPECT_EQ(Read(read_end, 4), message.substr(0, 4));
  EXPECT_EQ(stream::BytesWaiting(read_end), 4U);
  EXPECT_EQ(stream::BytesWaiting(pipe.read), 7U) << "only one message";
  EXPECT_EQ(Read(read_end, 4), "body");
  EXPECT_EQ(Read(read_end, 4), message.substr(0, 4));
  EXPECT_EQ(stream::BytesWaiting(pipe.read), 3U) << "half a message stays";
  Put(pipe.write, "y");
  EXPECT_EQ(Read(read_end, 4), "body");
}

// By what the loop has not told yet.
TEST_F(TwoHosts, AReadFindsTheEndThatWasClosedBefore) {
  Pipe pipe;
  SetNonBlocking(pipe.read);
  auto child = MustFork({pipe.read, pipe.write});
  pipe.CloseWrite();
  Settle();
  child->Close(pipe.write);
  const auto* answer = Await(Pull((*child)[pipe.read], 1));
  ASSERT_NE(answer, nullptr);
  EXPECT_EQ(answer->error, 0);
  EXPECT_EQ(answer->result, 0);
}

TEST_F(TwoHosts, AReadThatIsTakenBackTakesNothing) {
  Pipe pipe;
  auto child = MustFork({pipe.read});
  const CallId interrupted = Pull((*child)[pipe.read], 10);
  const CallId died = Pull((*child)[pipe.read], 10);
  Settle();
  worker_streams_->CallCancelled(interrupted);
  worker_streams_->CallDropped(died);
  const auto* answer = Await(interrupted);
  ASSERT_NE(answer, nullptr);
  EXPECT_EQ(answer->error, EINTR);
  Settle();
  EXPECT_EQ(worker_->AnswerOf(died), nullptr);
  Put(pipe.write, "kept");
  Settle();
  EXPECT_EQ(stream::BytesWaiting(pipe.read), 4U);
}

TEST_F(TwoHosts, BytesThatCameForAnInterruptedReadGoBack) {
  Pipe pipe;
  auto child = MustFork({pipe.read});
  const int read_end = (*child)[pipe.read];
  Put(pipe.write, "header and body");
  // Taken back while the bytes are on their way.
  const CallId first = Pull(read_end, 6);
  worker_streams_->CallCancelled(first);
  EXPECT_EQ(Await(first)->error, EINTR);
  EXPECT_EQ(stream::BytesWaiting(read_end), 0U);
  EXPECT_EQ(Read(read_end, 6), "header");
  // A read that goes on takes them all the same.
  const CallId second =
      CallOn(abi::Operation::kPull, read_end, {5, static_cast<int64_t>(abi::kPullContinues)});
  worker_streams_->CallCancelled(second);
  EXPECT_EQ(Await(second)->result, 5);
  EXPECT_EQ(Take(read_end, 100), " and ");
  // Taken back when they are here.
  EXPECT_EQ(Await(Pull(read_end, 2))->result, 2);
  EXPECT_EQ(Await(CallOn(abi::Operation::kPull, read_end, {0, static_cast<int64_t>(abi::kPullBack)}))->result,
            0);
  EXPECT_EQ(stream::BytesWaiting(read_end), 0U);
  EXPECT_EQ(Read(read_end, 100), "body");
}

TEST_F(TwoHosts, BytesOfAReaderThatDiedGoToTheNext) {
  Pipe pipe;
  auto child = MustFork({pipe.read});
  Put(pipe.write, "precious");
  Await(Pull((*child)[pipe.read], 8));  // now it dies before it reads
  EXPECT_EQ(stream::BytesWaiting(pipe.read), 0U);
  EXPECT_TRUE(End(*child, true));
  EXPECT_TRUE(Until([&] { return stream::BytesWaiting(pipe.read) == 8; }));
  EXPECT_EQ(Take(pipe.read, 100), "precious");
}

// The loop has seen that nobody reads, and before it says so the job of a new reader is prepared.
TEST_F(TwoHosts, AReaderThatComesAsTheLastOneGoesFindsThePipe) {
  Pipe pipe;
  auto one = MustFork({pipe.read});
  std::unique_ptr<RemoteProcess> two;
  const int job = eventfd(1, EFD_CLOEXEC);
  const auto added = loop_->Add(job, EPOLLIN, [&](uint32_t) {
    if (two == nullptr) two = MustFork({pipe.read});
  });
  ASSERT_TRUE(added.ok());
  one->CloseAll();  // in the same round of the loop, behind the job
  ASSERT_TRUE(Until([&] { return two != nullptr; }));
  loop_->Remove(job);
  close(job);
  Put(pipe.write, "for the second");
  EXPECT_EQ(Read((*two)[pipe.read], 100), "for the second");
}

TEST_F(TwoHosts, TheEndOfInputStaysWhenAnotherHolderGoes) {
  Pipe pipe;
  auto one = MustFork({pipe.read});
  auto two = MustFork({pipe.read});
  pipe.CloseRead();
  pipe.CloseWrite();
  ASSERT_EQ(Await(Pull((*one)[pipe.read], 8))->result, 0);
  EXPECT_TRUE(End(*two));
  EXPECT_TRUE(AtEnd((*one)[pipe.read]));  // a read that waited would wait for ever
}

TEST_F(TwoHosts, TheWriterAtHomeLearnsThatTheReaderElsewhereIsGone) {
  Pipe pipe;
  auto child = MustFork({pipe.read});
  pipe.CloseRead();
  EXPECT_EQ(Put(pipe.write, "x"), 1);
  child->CloseAll();
  EXPECT_TRUE(Until([&] { return (stream::PollNow(pipe.write, POLLOUT) & POLLERR) != 0; }));
}

TEST_F(TwoHosts, ALargeReadComesInOneGo) {
  Pipe pipe;
  auto child = MustFork({pipe.read});
  const int read_end = (*child)[pipe.read];
  const CallId call = Pull(read_end, 1 << 20);
  Settle();
  std::string text(1 << 20, 0);
  for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * 7 >> 3);
  std::thread writer([&] { EXPECT_EQ(Put(pipe.write, text), 1 << 20); });
  ASSERT_NE(Await(call), nullptr);
  std::string got = Take(read_end, 1 << 20);
  EXPECT_EQ(static_cast<int64_t>(got.size()), worker_->AnswerOf(call)->result);
  while (got.size() < text.size()) {
    const auto more = Read(read_end, text.size() - got.size());
    ASSERT_TRUE(more.has_value());
    got += *more;
  }
  writer.join();
  EXPECT_EQ(got, text);
}

TEST_F(TwoHosts, APollSeesWhatIsReadableAtTheOriginAndMovesNothing) {
  Pipe pipe;
  auto child = MustFork({pipe.read});
  const int read_end = (*child)[pipe.read];
  const auto* first = Await(CallOn(abi::Operation::kWatch, read_end, {1, 1}));
  ASSERT_NE(first, nullptr);
  EXPECT_EQ(first->result, 0);
  EXPECT_EQ(stream::PollNow(read_end, POLLIN), 0);
  Put(pipe.write, "abc");
  EXPECT_TRUE(Until([&] { return stream::PollNow(read_end, POLLIN) != 0; }));
  EXPECT_EQ(stream::BytesWaiting(pipe.read), 3U) << "looking takes nothing";
  const auto* status = Await(CallOn(abi::Operation::kWatch, read_end, {0, 0}));
  EXPECT_EQ(status->result, POLLIN);
  EXPECT_EQ(stream::PollNow(read_end, POLLIN), 0);
  EXPECT_EQ(Read(read_end, 10), "abc");
  pipe.CloseWrite();
  const auto* end = Await(CallOn(abi::Operation::kWatch, read_end, {1, 1}));
  EXPECT_EQ(end->result, POLLHUP);
  EXPECT_EQ(Read(read_end, 10), "");
}

TEST_F(TwoHosts, AWatchUntilClosedIsArmedAgainByEveryRead) {
  Pipe pipe;
  auto child = MustFork({pipe.read});
  const int read_end = (*child)[pipe.read];
  Await(CallOn(abi::Operation::kWatch, read_end, {2, 0}));
  for (int round = 0; round < 3; ++round) {
    Settle();
    EXPECT_EQ(stream::PollNow(read_end, POLLIN), 0);
    Put(pipe.write, "12");
    EXPECT_TRUE(Until([&] { return stream::PollNow(read_end, POLLIN) != 0; }));
    EXPECT_EQ(Read(read_end, 1), "1");
    EXPECT_TRUE(Until([&] { return stream::PollNow(read_end, POLLIN) != 0; })) << "one byte is left";
    EXPECT_EQ(Read(read_end, 1), "2");
  }
  // A reader that goes while the pipe shows readable is noticed when its process ends.
  Put(pipe.write, "x");
  Until([&] { return stream::PollNow(read_end, POLLIN) != 0; });
  pipe.CloseRead();
  EXPECT_TRUE(End(*child));
  EXPECT_TRUE(Until([&] { return (stream::PollNow(pipe.write, POLLOUT) & POLLERR) != 0; }));
}

TEST_F(TwoHosts, ReadersOnBothHostsShareWithoutLoss) {
  Pipe pipe;
  auto one = MustFork({pipe.read});
  auto two = MustFork({pipe.read});
  const CallId first = Pull((*one)[pipe.read], 3);
  const CallId second = Pull((*two)[pipe.read], 3);
  Settle();
  Put(pipe.write, "aaabbbccc");
  Await(first);
  Await(second);
  EXPECT_EQ(Take((*one)[pipe.read], 3), "aaa");
  EXPECT_EQ(Take((*two)[pipe.read], 3), "bbb");
  EXPECT_EQ(Take(pipe.read, 100), "ccc");
}

}  // namespace
}  // namespace elsewhere::runtime
