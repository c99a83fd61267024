// Pipes of home's that become the worker's (runtime/stream/pipe_moves.h, mirror_moves.cpp): when.
#include "tests/unit/streams/moves.h"

namespace elsewhere::runtime {
namespace {

TEST_F(Moves, APipeThatTheWorkerAloneHoldsBecomesItsKernels) {
  ForkBoth();
  CloseAtHome();
  PullUntilLook();
  EXPECT_EQ(moved(), 1U);
  EXPECT_FALSE(HasPackets(writer()));
  EXPECT_EQ(fcntl(writer(), F_GETSIG), 0);
  ASSERT_EQ(Put(writer(), "native"), 6);
  EXPECT_EQ(ReadOrSwitch(3), "nat");
  EXPECT_EQ(InodeOf(reader()), InodeOf(writer()));
  EXPECT_EQ(Take(reader(), 10), "ive");
  const size_t messages = home_->messages() + worker_->messages();
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(Put(writer(), "x"), 1);
    ASSERT_EQ(Take(reader(), 10), "x");
  }
  EXPECT_EQ(home_->messages() + worker_->messages(), messages);
  writer_->CloseAll();
  EXPECT_EQ(stream::PollNow(reader(), POLLIN), POLLHUP);
}

TEST_F(Moves, AReaderThatWaitsWhileItMovesIsAnswered) {
  ForkBoth();
  CloseAtHome();
  for (int i = 1; i < kLooks; ++i) {
    Put(writer(), ".");
    ASSERT_EQ(ReadOrSwitch(1), ".");
  }
  const CallId waits = Pull(reader(), 5);  // with which home looks, and nothing is there
  Settle();
  EXPECT_EQ(moved(), 1U);
  const auto* answer = Await(waits);
  ASSERT_NE(answer, nullptr);
  Switch(*answer);
  Put(writer(), "after");
  EXPECT_EQ(Take(reader(), 5), "after");
}

TEST_F(Moves, WhatWasWrittenBeforeIsReadBeforeInItsOrder) {
  ForkBoth();
  CloseAtHome();
  std::string written, seen;
  for (int i = 1; i < kLooks; ++i) {
    Put(writer(), ".");
    ASSERT_EQ(ReadOrSwitch(1), ".");
  }
  // Home's pipe is full, the window is, the local pipe has packets.
  SetNonBlocking(writer());
  for (int idle = 0, next = 0; idle < 30; Turn(), ++idle) {
    for (std::string block; Put(writer(), block = std::to_string(next) + std::string(700, ',')) > 0; ++next) {
      written += block;
      idle = 0;
    }
  }
  EXPECT_GT(written.size(), 64U << 10);
  const auto* answer = Await(Pull(reader(), 100));
  ASSERT_NE(answer, nullptr);
  Settle();
  EXPECT_EQ(moved(), 1U);
  seen = Take(reader(), 100);
  written += "end";
  while (Put(writer(), "end") != 3) seen += *ReadOrSwitch(100);
  while (seen.size() < written.size()) {
    const auto more = ReadOrSwitch(100);
    ASSERT_TRUE(more && !more->empty()) << seen.size() << " of " << written.size();
    seen += *more;
  }
  EXPECT_TRUE(seen == written);
  EXPECT_TRUE(switched_);
}

TEST_F(Moves, AnEndThatAProcessAtHomeHasKeepsThePipeThere) {
  for (const int end : {0, 1}) {
    ForkBoth();
    int kept[2];
    ASSERT_EQ(fcntl(ends_[end], F_GETFD) >= 0, true);
    // Another process: HasOtherReaders and the scan leave this one out, or count what it has.
    ASSERT_EQ(pipe2(kept, O_CLOEXEC), 0);
    const pid_t holder = fork();
    if (holder == 0) {
      close(kept[1]);
      dup2(ends_[end], 100);
      for (int fd = 3; fd < 1000; ++fd) {
        if (fd != 100 && fd != kept[0]) close(fd);
      }
      char byte;
      _exit(static_cast<int>(read(kept[0], &byte, 1)));
    }
    CloseAtHome();
    // The child's other copies are gone.
    const std::string other = "/proc/" + std::to_string(holder) + "/fd/" + std::to_string(kept[1]);
    ASSERT_TRUE(Until([&] { return access(other.c_str(), F_OK) != 0; }));
    PullUntilLook();
    EXPECT_EQ(moved(), 0U);
    EXPECT_TRUE(HasPackets(writer()));
    close(kept[0]);
    close(kept[1]);
    waitpid(holder, nullptr, 0);
    // Later it may go.
    PullUntilLook(4 * kLooks);
    EXPECT_EQ(moved(), 1U);
    reader_->CloseAll();
    writer_->CloseAll();
    if (end == 1) return;
    Settle();
    home_->report().pipes_moved = 0;
    switched_ = closed_[0] = closed_[1] = false;
    ASSERT_EQ(pipe2(ends_, O_CLOEXEC), 0);
  }
}

TEST_F(Moves, ADescriptorInFlightKeepsIt) {
  ForkBoth();
  int sockets[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
  std::vector<stream::Descriptor> passed;
  passed.emplace_back(dup(ends_[1]));
  uint8_t byte = 'x';
  ASSERT_EQ(stream::SendBytes(sockets[0], std::span(&byte, 1), passed), 1);
  passed.clear();
  CloseAtHome();
  PullUntilLook();
  EXPECT_EQ(moved(), 0U);
  std::vector<stream::Descriptor> received;
  ASSERT_EQ(stream::ReceiveBytes(sockets[1], true, std::span(&byte, 1), received), 1);
  received.clear();
  PullUntilLook(4 * kLooks);
  EXPECT_EQ(moved(), 1U);
  close(sockets[0]);
  close(sockets[1]);
}

TEST_F(Moves, AJobOnItsWayKeepsIt) {
  ForkBoth();
  Process late;
  late.incarnation = 77;
  late.runs_on = 1;
  const auto job = Capture({ends_[1]}, late);
  ASSERT_TRUE(job.ok());
  CloseAtHome();
  PullUntilLook();
  EXPECT_EQ(moved(), 0U);
  std::vector<HeldDescriptor> made;
  worker_streams_->Prepare(*job, made, [](Status status) { EXPECT_TRUE(status.ok()); });
  PullUntilLook(2 * kLooks);
  EXPECT_EQ(moved(), 0U) << "it is not known yet whether it starts";
  worker_streams_->ProcessStarted(late, nullptr);
  PullUntilLook(4 * kLooks);
  EXPECT_EQ(moved(), 1U);
  EXPECT_FALSE(HasPackets(made.front().descriptor)) << "another description of the same pipe";
  ASSERT_EQ(Put(made.front().descriptor, "late"), 4);
  EXPECT_EQ(ReadOrSwitch(10), "late");
  writer_->CloseAll();
  EXPECT_EQ(stream::PollNow(reader(), POLLIN), 0);
  close(made.front().descriptor);
  EXPECT_EQ(stream::PollNow(reader(), POLLIN), POLLHUP);
}

TEST_F(Moves, WhoWatchesKeepsItUntilItStops) {
  ForkBoth();
  CloseAtHome();
  Await(CallOn(abi::Operation::kWatch, reader(), {2, 0}));
  PullUntilLook();
  EXPECT_EQ(moved(), 0U);
  Await(CallOn(abi::Operation::kWatch, reader(), {4, 0}));
  PullUntilLook(4 * kLooks);
  EXPECT_EQ(moved(), 1U);
}

TEST_F(Moves, FlagsThatAProcessIsAboutToChangeKeepIt) {
  ForkBoth();
  CloseAtHome();
  Await(CallOn(abi::Operation::kKeepPlace, writer(), {1}));
  PullUntilLook();
  EXPECT_EQ(moved(), 0U);
  Await(CallOn(abi::Operation::kKeepPlace, writer(), {0}));
  PullUntilLook(4 * kLooks);
  EXPECT_EQ(moved(), 1U);
}

TEST_F(Moves, AReaderThatNeverAsksAgainKeepsTheWritersUntilItIsGone) {
  ForkBoth();
  CloseAtHome();
  PullUntilLook();
  ASSERT_EQ(moved(), 1U);
  Settle();
  EXPECT_EQ(Put(writer(), "x"), 1) << "it may still read";
  reader_->CloseAll();
  EXPECT_TRUE(Until([&] { return (stream::PollNow(writer(), POLLOUT) & POLLERR) != 0; }));
  EXPECT_EQ(Put(writer(), "x"), -1);
  EXPECT_EQ(errno, EPIPE);
}

// A process says that it has taken the pipe, and does nothing before it is answered.
TEST_F(Moves, WhoHasTakenItIsItsOnlyReader) {
  ForkBoth();
  CloseAtHome();
  PullUntilLook();
  ASSERT_EQ(moved(), 1U);
  const auto stand_in = stream::OpenAgain(reader(), O_PATH);
  ASSERT_EQ(Put(writer(), "x"), 1);
  ASSERT_EQ(ReadOrSwitch(1), "x");
  ASSERT_TRUE(switched_);
  constexpr int64_t kHasLeft = 5;
  const CallId said = CallOn(abi::Operation::kWatch, stand_in->get(), {kHasLeft, 0});
  ASSERT_NE(worker_->AnswerOf(said), nullptr);
  reader_->CloseAll();
  EXPECT_EQ(Put(writer(), "x"), -1);
  EXPECT_EQ(errno, EPIPE);
  Settle();
}

TEST_F(Moves, ItsReadersSeeWhatItsDescriptionSaidAndItsSize) {
  ForkBoth();
  SetNonBlocking(ends_[0]);
  ASSERT_GT(fcntl(ends_[0], F_SETPIPE_SZ, 16384), 0);
  CloseAtHome();
  PullUntilLook();
  ASSERT_EQ(moved(), 1U);
  EXPECT_EQ(ReadOrSwitch(1), "");
  ASSERT_TRUE(switched_);
  EXPECT_EQ(fcntl(reader(), F_GETFL) & (O_NONBLOCK | O_DIRECT), O_NONBLOCK);
  EXPECT_EQ(fcntl(reader(), F_GETPIPE_SZ), 16384);
}

TEST_F(Moves, APipeInPacketModeOfItsOwnStays) {
  CloseAtHome();
  closed_[0] = closed_[1] = false;
  ASSERT_EQ(pipe2(ends_, O_CLOEXEC | O_DIRECT), 0);
  ForkBoth();
  CloseAtHome();
  PullUntilLook();
  EXPECT_EQ(moved(), 0U);
}

TEST_F(Moves, AWriterThatIsPassedHomeKeepsIt) {
  ForkBoth();
  int sockets[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
  auto passes = MustFork({sockets[1]});
  CloseAtHome();
  for (int i = 1; i < kLooks; ++i) {
    Put(writer(), ".");
    ASSERT_EQ(ReadOrSwitch(1), ".");
  }
  // On its way when home looks.
  std::vector<stream::Descriptor> passed;
  passed.emplace_back(dup(writer()));
  uint8_t byte = 'x';
  ASSERT_EQ(stream::SendBytes((*passes)[sockets[1]], std::span(&byte, 1), passed), 1);
  passed.clear();
  const CallId waits = Pull(reader(), 5);
  Settle();
  EXPECT_EQ(moved(), 0U);
  ASSERT_EQ(stream::ReceiveBytes(sockets[0], true, std::span(&byte, 1), passed), 1);
  ASSERT_EQ(passed.size(), 1U);
  ASSERT_EQ(Put(passed[0].get(), "home"), 4);
  ASSERT_EQ(Await(waits)->result, 4);
  EXPECT_EQ(Take(reader(), 10), "home");
  passed.clear();
  PullUntilLook(4 * kLooks);
  EXPECT_EQ(moved(), 1U);
  close(sockets[0]);
  close(sockets[1]);
}

}  // namespace
}  // namespace elsewhere::runtime
