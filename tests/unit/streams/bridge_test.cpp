// An object of home's and processes elsewhere that hold it: bytes, ends, and when it closes.
#include <fcntl.h>
#include <poll.h>

#include <filesystem>
#include <thread>

#include "runtime/stream/descriptor.h"
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
