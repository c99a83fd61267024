// Pipes and sockets that are full, and ends of those who have filled them.
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <csignal>

#include "runtime/stream/descriptor.h"
#include "tests/unit/streams/two_hosts.h"

namespace elsewhere::runtime {
namespace {

TEST_F(TwoHosts, AFullPipeHoldsTheRemoteWriter) {
  Pipe pipe;
  auto child = MustFork({pipe.write});
  const size_t accepted = Fill((*child)[pipe.write]);
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_LE(accepted, wire::kLeastPipeWindow + ((64U + 64 + 16) << 10));
  EXPECT_EQ(stream::PollNow((*child)[pipe.write], POLLOUT), 0);
  size_t received = 0;
  EXPECT_TRUE(Until([&] {
    received += Take(pipe.read, 65536).size();
    return received == accepted;
  }));
}

// Of a pipe natively 64 KB have room, however small the writes.
class Messages : public TwoHosts {
 protected:
  void SetUp() override {
    TwoHosts::SetUp();
    child_ = MustFork({pipe_.write});
    end_ = (*child_)[pipe_.write];
    SetNonBlocking(end_);
  }
  size_t Write(size_t size, size_t most) {
    size_t count = 0;
    const std::string message(size, 'm');
    while (count < most && write(end_, message.data(), size) == static_cast<ssize_t>(size)) ++count;
    return count;
  }
  void Read(size_t bytes) {
    size_t received = 0;
    EXPECT_TRUE(Until([&] { return (received += Take(pipe_.read, 65536).size()) >= bytes; }));
    EXPECT_EQ(received, bytes);
  }

  Pipe pipe_;
  std::unique_ptr<RemoteProcess> child_;
  int end_ = -1;
};

TEST_F(Messages, OfSmallOnesAPipeHoldsMore) {
  for (const auto& [size, packets] :
       {std::pair(1000, 64U), {2000, 32U}, {1, 64U}, {3000, 16U}, {1000, 64U}}) {
    const auto bytes = static_cast<size_t>(size);
    EXPECT_EQ(Write(bytes, 16), 16U);
    Read(16 * bytes);
    EXPECT_EQ(fcntl(end_, F_GETPIPE_SZ), packets * PIPE_BUF) << size;
  }
}

// Then they stay there, and the next may be large.
TEST_F(Messages, OfSmallOnesAPipeHoldsNoMoreWhereTheWindowIsFull) {
  Write(1000, 16);
  Read(16000);
  ASSERT_EQ(fcntl(end_, F_GETPIPE_SZ), 64 * PIPE_BUF);
  EXPECT_TRUE(Until([&] { return Write(1000, 16) < 16 || fcntl(end_, F_GETPIPE_SZ) == 16 * PIPE_BUF; }));
  EXPECT_EQ(fcntl(end_, F_GETPIPE_SZ), 16 * PIPE_BUF);
}

// A writer elsewhere that writes more than a pipe holds, and less than is accepted on its way.
class BlocksOnTheirWay : public TwoHosts {
 protected:
  static constexpr size_t kBlock = 4096, kBlocks = 40;
  void PutBlocks(int descriptor) {
    SetNonBlocking(descriptor);
    for (size_t i = 0; i < kBlocks; ++i) {
      Put(descriptor, std::string(kBlock, 'b'));
      Turn();
    }
  }
};

// It was told that its bytes are written. Its end waits for nobody who reads.
TEST_F(BlocksOnTheirWay, WhatAKilledWriterWroteIsRead) {
  Pipe pipe;
  auto child = MustFork({pipe.write});
  PutBlocks((*child)[pipe.write]);
  pipe.CloseWrite();
  EXPECT_TRUE(End(*child, true, 300));
  size_t received = 0;
  EXPECT_TRUE(Until([&] { return (received += Take(pipe.read, 65536).size()) == kBlocks * kBlock; }));
  EXPECT_TRUE(Until([&] { return AtEnd(pipe.read); }));
}

// Natively the writer's bytes may all be in, and it is its siblings that wait for room: so its end waits
// until they are, and not for who reads.
TEST_F(BlocksOnTheirWay, TheEndOfAWriterThatNobodyReadsIsReportedWhenItsBytesAreIn) {
  Pipe pipe;
  auto child = MustFork({pipe.write});
  PutBlocks((*child)[pipe.write]);
  EXPECT_TRUE(End(*child, false, 10000));
  // Who has seen the end reads until nothing is there, and the agent is not asked.
  size_t received = 0;
  for (std::string some; !(some = Take(pipe.read, 65536)).empty();) received += some.size();
  EXPECT_EQ(received, kBlocks * kBlock);
}

// It is for what was written before. Else each end would leave a larger pipe full for the next to wait in.
TEST_F(TwoHosts, RoomThatWasMadeIsNotFilledByThoseWhoLive) {
  Pipe pipe;
  auto one = MustFork({pipe.write});
  auto other = MustFork({pipe.write});
  const size_t accepted = Fill((*one)[pipe.write]);
  EXPECT_TRUE(End(*one, false, 10000));
  EXPECT_EQ(stream::BytesWaiting(pipe.read), accepted) << "beyond what the pipe held";
  const size_t more = Fill((*other)[pipe.write]);
  EXPECT_EQ(more, 0U);
  size_t received = 0;
  EXPECT_TRUE(Until([&] { return (received += Take(pipe.read, 65536).size()) == accepted + more; }));
  EXPECT_TRUE(Until([&] { return (stream::PollNow((*other)[pipe.write], POLLOUT) & POLLOUT) != 0; }));
  EXPECT_GT(Fill((*other)[pipe.write]), 64U << 10);
}

// Numbered messages of one size, each of which takes a page of its own, here and in home's pipe.
class LooseMessages : public TwoHosts {
 protected:
  static constexpr size_t kSize = 2060;
  void Fill(int descriptor) {
    SetNonBlocking(descriptor);
    for (int idle = 0; idle < 20;) {
      const bool put = Put(descriptor, Message(written_)) > 0;
      written_ += put ? 1 : 0;
      idle = put ? 0 : idle + 1;
      Turn();
    }
  }
  void Write(int descriptor, size_t count) {
    for (size_t number = 0; number < count; ++number) {
      EXPECT_GT(Put(descriptor, Message(written_++)), 0);
      Turn();
    }
  }
  void ExpectAll(int descriptor) {
    std::string text;
    EXPECT_TRUE(Until([&] { return (text += Take(descriptor, kSize)).size() >= written_ * kSize; }));
    std::string all;
    for (size_t number = 0; number < written_; ++number) all += Message(number);
    EXPECT_TRUE(text == all);
  }
  static std::string Message(size_t number) {
    std::string message = std::to_string(number);
    message.resize(kSize, ' ');
    return message;
  }

  size_t written_ = 0;
};

TEST_F(LooseMessages, EndsMakeNoRoomForThoseWhoLive) {
  Pipe pipe;
  std::vector<std::unique_ptr<RemoteProcess>> children;
  for (int number = 0; number < 4; ++number) children.push_back(MustFork({pipe.write}));
  const int last = (*children.back())[pipe.write];
  Fill(last);
  const size_t accepted = written_;
  for (size_t number = 0; number < 3; ++number) {
    EXPECT_TRUE(End(*children[number], false, 10000));
    EXPECT_EQ(stream::BytesWaiting(pipe.read), accepted * kSize);
    Fill(last);
    EXPECT_EQ(written_, accepted);
  }
  ExpectAll(pipe.read);
  Fill(last);
  EXPECT_GT(written_, accepted);
}

// What was copied for one end stays in the stand-in, and more comes behind it.
TEST_F(LooseMessages, WhatIsWrittenBetweenEndsGoesOnce) {
  Pipe pipe;
  auto one = MustFork({pipe.write});
  auto other = MustFork({pipe.write});
  auto last = MustFork({pipe.write});
  const int end = (*last)[pipe.write];
  const size_t on_its_way = 16 + (wire::kLeastPipeWindow + kSize - 1) / kSize;
  Write(end, on_its_way);
  for (const auto& [ending, count] : {std::pair(one.get(), 3U), {other.get(), 4U}}) {
    Write(end, count);
    EXPECT_TRUE(End(*ending, false, 10000));
    EXPECT_EQ(stream::BytesWaiting(pipe.read), written_ * kSize);
    EXPECT_EQ(stream::BytesWaiting(end), (written_ - on_its_way) * kSize);
  }
  Write(end, 5);
  last->CloseAll();
  pipe.CloseWrite();
  ExpectAll(pipe.read);
  EXPECT_TRUE(Until([&] { return AtEnd(pipe.read); }));
}

// It holds fewer bytes than its size says.
TEST_F(LooseMessages, RoomThatWasMadeInALargePipeIsNotFilledByThoseWhoLive) {
  Pipe pipe;
  ASSERT_EQ(fcntl(pipe.write, F_SETPIPE_SZ, 256 << 10), 256 << 10);
  auto one = MustFork({pipe.write});
  auto other = MustFork({pipe.write});
  Fill((*one)[pipe.write]);
  const size_t accepted = written_;
  EXPECT_TRUE(End(*one, false, 10000));
  EXPECT_LT(stream::BytesWaiting(pipe.read), 256U << 10);
  Fill((*other)[pipe.write]);
  EXPECT_EQ(written_, accepted);
  ExpectAll(pipe.read);
}

// A pager: what is printed behind an end must not overtake what was printed before it.
TEST_F(TwoHosts, TheEndOfAWriterWaitsForAReaderOutsideOfTheSession) {
  Pipe pipe;
  auto child = MustFork({pipe.write});
  Fill((*child)[pipe.write]);
  const pid_t pager = fork();
  if (pager == 0) {
    pause();
    _exit(0);
  }
  auto killed = MustFork({pipe.write});
  Fill((*killed)[pipe.write]);
  pipe.CloseRead();
  EXPECT_FALSE(End(*child, false, 1500));
  EXPECT_TRUE(End(*killed, true));
  kill(pager, SIGKILL);
  waitpid(pager, nullptr, 0);
}

TEST_F(TwoHosts, TheEndOfAWriterIsReportedWhereMoreWaitsThanAPipeHolds) {
  Pipe pipe;
  auto one = MustFork({pipe.write});
  auto other = MustFork({pipe.write});
  const size_t accepted = Fill((*one)[pipe.write]);
  EXPECT_TRUE(End(*other, false, 10000));
  EXPECT_TRUE(End(*one, false, 10000));
  // What an ended process wrote is read, whatever happens to others.
  auto third = MustFork({pipe.write});
  pipe.CloseWrite();
  EXPECT_TRUE(End(*third, true));
  size_t received = 0;
  EXPECT_TRUE(Until([&] { return (received += Take(pipe.read, 65536).size()) == accepted; }));
  EXPECT_TRUE(Until([&] { return AtEnd(pipe.read); }));
}

TEST_F(TwoHosts, TheEndOfASocketsWriterIsReportedWhereNobodyReads) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  auto child = MustFork({ends[0]});
  const size_t accepted = Fill((*child)[ends[0]]);
  close(ends[0]);
  EXPECT_TRUE(End(*child, false, 10000));
  size_t received = 0;
  EXPECT_TRUE(Until([&] { return (received += Take(ends[1], 65536).size()) == accepted; }));
  close(ends[1]);
}

}  // namespace
}  // namespace elsewhere::runtime
