#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <csignal>
#include <filesystem>

#include "runtime/stream/descriptor.h"
#include "shim/wire/stream_mark.h"
#include "tests/unit/streams/two_hosts.h"

namespace elsewhere::runtime {
namespace {

TEST_F(TwoHosts, BytesWrittenElsewhereComeInAndThenTheEnd) {
  Pipe pipe;
  auto child = MustFork({pipe.write});
  pipe.CloseWrite();
  EXPECT_EQ(Put((*child)[pipe.write], "hello"), 5);
  EXPECT_EQ(Put((*child)[pipe.write], " world"), 6);
  ASSERT_TRUE(Until([&] { return stream::BytesWaiting(pipe.read) == 11; }));
  EXPECT_EQ(Take(pipe.read, 100), "hello world");
  EXPECT_FALSE(AtEnd(pipe.read));
  child->Close(pipe.write);
  EXPECT_TRUE(Until([&] { return AtEnd(pipe.read); }));
}

TEST_F(TwoHosts, TheEndComesWithTheLastOfSeveralHolders) {
  Pipe pipe;
  auto one = MustFork({pipe.write});
  auto two = MustFork({pipe.write});
  pipe.CloseWrite();
  one->CloseAll();
  Settle();
  EXPECT_EQ(stream::PollNow(pipe.read, POLLIN), 0);
  Put((*two)[pipe.write], "x");
  two->CloseAll();
  EXPECT_TRUE(Until([&] { return stream::BytesWaiting(pipe.read) == 1; }));
  EXPECT_EQ(Take(pipe.read, 9), "x");
  EXPECT_TRUE(Until([&] { return AtEnd(pipe.read); }));
}

TEST_F(TwoHosts, AStreamThatClosesWhileAJobWithItIsOnItsWayStaysOpen) {
  Pipe pipe;
  auto one = MustFork({pipe.write});
  one->CloseAll();  // its close meets the second grant
  auto two = MustFork({pipe.write});
  pipe.CloseWrite();
  Settle();
  EXPECT_EQ(Put((*two)[pipe.write], "y"), 1);
  EXPECT_TRUE(Until([&] { return stream::BytesWaiting(pipe.read) == 1; }));
  EXPECT_EQ(Take(pipe.read, 9), "y");
  two->CloseAll();
  EXPECT_TRUE(Until([&] { return AtEnd(pipe.read); }));
}

// One may wait longer for its image than another.
TEST_F(TwoHosts, AStreamThatClosesBeforeAnEarlierJobWithItHasComeStaysOpen) {
  Pipe pipe;
  auto first = std::make_unique<RemoteProcess>();
  first->process.incarnation = 77;
  first->process.runs_on = 1;
  const auto job = Capture({pipe.write}, first->process);
  ASSERT_TRUE(job.ok());
  auto second = MustFork({pipe.write});
  pipe.CloseWrite();
  second->CloseAll();
  Settle();
  EXPECT_FALSE(AtEnd(pipe.read));
  const auto restored = Restore(*job, std::move(first));
  ASSERT_TRUE(restored.ok());
  RemoteProcess* const one = restored->get();
  EXPECT_EQ(Put((*one)[pipe.write], "y"), 1);
  EXPECT_TRUE(Until([&] { return stream::BytesWaiting(pipe.read) == 1; }));
  EXPECT_EQ(Take(pipe.read, 9), "y");
  one->CloseAll();
  EXPECT_TRUE(Until([&] { return AtEnd(pipe.read); }));
}

TEST_F(TwoHosts, AJobThatIsNeverSentLeavesNothingOpen) {
  Pipe pipe;
  Process process;
  process.incarnation = 77;
  process.runs_on = 1;
  auto one = MustFork({pipe.write});
  const auto job = Capture({pipe.write}, process);
  ASSERT_TRUE(job.ok());
  pipe.CloseWrite();
  one->CloseAll();
  Settle();
  EXPECT_EQ(stream::PollNow(pipe.read, POLLIN), 0);
  home_streams_->JobWithdrawn(*job);
  EXPECT_TRUE(AtEnd(pipe.read));
}

TEST_F(TwoHosts, AWriterElsewhereLearnsThatNobodyReads) {
  Pipe pipe;
  auto child = MustFork({pipe.write});
  pipe.CloseWrite();
  pipe.CloseRead();
  EXPECT_TRUE(Until([&] { return (stream::PollNow((*child)[pipe.write], POLLOUT) & POLLERR) != 0; }));
  signal(SIGPIPE, SIG_IGN);
  EXPECT_EQ(Put((*child)[pipe.write], "x"), -1);
  EXPECT_EQ(errno, EPIPE);
}

TEST_F(TwoHosts, APipeThatNobodyReadsAnyMoreIsBrokenFromTheStart) {
  Pipe pipe;
  pipe.CloseRead();
  auto child = MustFork({pipe.write});
  signal(SIGPIPE, SIG_IGN);
  EXPECT_EQ(Put((*child)[pipe.write], "x"), -1);
  EXPECT_EQ(errno, EPIPE);
}

TEST_F(TwoHosts, SmallWritesAreNeverTorn) {
  Pipe pipe;
  auto child = MustFork({pipe.write});
  // Two writers, one of them here; records of one letter each, of odd sizes, more than the pipe holds.
  std::string expected_a, expected_b, seen;
  const auto writer = [](int descriptor, char letter) {
    for (int i = 0; i < 300; ++i) {
      const size_t size = 1 + static_cast<size_t>(i * 37 % 4096);
      ASSERT_EQ(Put(descriptor, std::string(size - 1, letter) + '\n'), static_cast<ssize_t>(size));
    }
  };
  std::thread remote(writer, (*child)[pipe.write], 'r');
  std::thread local(writer, pipe.write, 'l');
  SetNonBlocking(pipe.read);
  size_t total = 0;
  for (int i = 0; i < 300; ++i) total += 2 * (1 + static_cast<size_t>(i * 37 % 4096));
  EXPECT_TRUE(Until(
      [&] {
        seen += Take(pipe.read, 10000);
        return seen.size() == total;
      },
      10000));
  remote.join();
  local.join();
  size_t start = 0, records = 0;
  for (size_t at = seen.find('\n'); at != std::string::npos; start = at + 1, at = seen.find('\n', start)) {
    const std::string record = seen.substr(start, at - start);
    EXPECT_TRUE(record.find('r') == std::string::npos || record.find('l') == std::string::npos) << "torn";
    ++records;
  }
  EXPECT_EQ(records, 600U);
}

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

TEST_F(TwoHosts, ASocketWorksBothWaysAndCanBeShutDown) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  auto child = MustFork({ends[1]});
  close(ends[1]);
  const int remote = (*child)[ends[1]];
  Put(remote, "up");
  EXPECT_TRUE(Until([&] { return stream::BytesWaiting(ends[0]) == 2; }));
  EXPECT_EQ(Take(ends[0], 10), "up");
  Put(ends[0], "down");
  EXPECT_EQ(Read(remote, 10), "down");
  shutdown(remote, SHUT_WR);
  EXPECT_TRUE(Until([&] { return AtEnd(ends[0]); }));
  Put(ends[0], "still");
  EXPECT_EQ(Read(remote, 10), "still");
  close(ends[0]);
  EXPECT_EQ(Read(remote, 10), "");
}

TEST_F(TwoHosts, TheEndOfASocketsHolderIsTheEndForItsPeer) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  auto child = MustFork({ends[1]});
  close(ends[1]);
  Put((*child)[ends[1]], "last words");
  child->CloseAll();
  EXPECT_TRUE(Until([&] { return stream::BytesWaiting(ends[0]) == 10; }));
  EXPECT_EQ(Take(ends[0], 100), "last words");
  EXPECT_TRUE(Until([&] { return AtEnd(ends[0]); }));
  close(ends[0]);
}

TEST_F(TwoHosts, APolledSocketIsFedAtOnce) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  auto child = MustFork({ends[1]});
  const int remote = (*child)[ends[1]];
  Await(CallOn(abi::Operation::kWatch, remote, {2, 0}));
  Put(ends[0], "a");
  EXPECT_TRUE(Until([&] { return stream::PollNow(remote, POLLIN) == POLLIN; }));
  EXPECT_EQ(Read(remote, 10), "a");
  close(ends[0]);
  close(ends[1]);
}

// Sends one byte with a descriptor.
void PassOn(int socket, int descriptor) {
  char byte = 'x';
  iovec part{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof descriptor)] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof descriptor);
  std::memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
  EXPECT_EQ(sendmsg(socket, &message, 0), 1);
}

TEST_F(TwoHosts, DescriptorsThatAreLostOnTheWayAreSaidToBe) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  auto child = MustFork({ends[1]});
  PassOn(ends[0], epoll);
  close(epoll);
  EXPECT_EQ(Read((*child)[ends[1]], 10), "x");
  EXPECT_EQ(home_->report().notes.size(), 1U);
  close(ends[0]);
  close(ends[1]);
}

TEST_F(TwoHosts, APipeThatWasPassedAndNeverTakenEndsWithItsSocket) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  Pipe pipe;
  auto child = MustFork({ends[1]});
  PassOn(ends[0], pipe.write);
  pipe.CloseWrite();
  EXPECT_EQ(Read((*child)[ends[1]], 10), "x");
  EXPECT_TRUE(Until([&] { return AtEnd(pipe.read); }));
  close(ends[0]);
  close(ends[1]);
}

// The message names it by what its host has said of it.
TEST_F(TwoHosts, AnEndThatGoesWithAMessageIsNotClosedBeforeIt) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  Pipe pipe;
  auto child = MustFork({ends[1], pipe.write});
  pipe.CloseWrite();
  PassOn((*child)[ends[1]], (*child)[pipe.write]);
  child->Close(pipe.write);
  ASSERT_TRUE(Until([&] { return stream::BytesWaiting(ends[0]) == 1; }));
  std::vector<stream::Descriptor> passed;
  uint8_t byte;
  ASSERT_EQ(stream::ReceiveBytes(ends[0], true, std::span(&byte, 1), passed), 1);
  ASSERT_EQ(passed.size(), 1U);
  EXPECT_FALSE(AtEnd(pipe.read));
  EXPECT_EQ(Put(passed[0].get(), "up"), 2);
  EXPECT_EQ(Take(pipe.read, 10), "up");
  passed.clear();
  EXPECT_TRUE(Until([&] { return AtEnd(pipe.read); }));
  close(ends[0]);
  close(ends[1]);
}

TEST_F(TwoHosts, DatagramsKeepTheirBorders) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
  auto child = MustFork({ends[1]});
  const int remote = (*child)[ends[1]];
  Put(remote, "one");
  Put(remote, "three");
  Settle();
  EXPECT_EQ(Take(ends[0], 100), "one");
  EXPECT_EQ(Take(ends[0], 100), "three");
  Put(ends[0], "x");
  Put(ends[0], "yy");
  EXPECT_EQ(Read(remote, 100), "x");
  EXPECT_EQ(Read(remote, 100), "yy");
  close(ends[0]);
  close(ends[1]);
}

TEST_F(TwoHosts, ADeadHostLeavesTheEndOfItsStreams) {
  Pipe pipe;
  auto child = MustFork({pipe.write});
  pipe.CloseWrite();
  home_streams_->HostGone(1);
  EXPECT_TRUE(AtEnd(pipe.read));
}

size_t OpenDescriptors() {
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++count;
  return count;
}

TEST_F(TwoHosts, HomeHoldsAnObjectOnceHoweverManyChildrenShareIt) {
  std::vector<int> pipes;
  for (int i = 0; i < 500; ++i) {
    int ends[2];
    ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
    pipes.push_back(ends[0]);
    pipes.push_back(ends[1]);
  }
  std::vector<std::unique_ptr<RemoteProcess>> children;
  children.push_back(MustFork(pipes));
  for (int i = 0; i < 10; ++i) {
    const size_t before = OpenDescriptors();
    children.push_back(MustFork(pipes));
    EXPECT_EQ(OpenDescriptors(), before + pipes.size());  // the child's own, in this same process
  }
  for (const int end : pipes) close(end);
}

}  // namespace
}  // namespace elsewhere::runtime
