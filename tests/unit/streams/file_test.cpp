#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <termios.h>

#include <cstring>

#include "runtime/stream/descriptor.h"
#include "shim/wire/stream_call.h"
#include "shim/wire/stream_mark.h"
#include "shim/wire/stream_message.h"
#include "tests/unit/streams/two_hosts.h"

namespace elsewhere::runtime {
namespace {

struct TemporaryFile {
  explicit TemporaryFile(const std::string& content = "") {
    descriptor = mkostemp(path, O_CLOEXEC);
    EXPECT_GE(descriptor, 0);
    EXPECT_EQ(write(descriptor, content.data(), content.size()), static_cast<ssize_t>(content.size()));
  }
  ~TemporaryFile() {
    close(descriptor);
    unlink(path);
  }
  char path[32] = "/tmp/streams_test_XXXXXX";
  int descriptor;
};

std::string Content(const char* path) {
  std::string content(1 << 16, 0);
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  content.resize(static_cast<size_t>(read(file, content.data(), content.size())));
  close(file);
  return content;
}

TEST_F(TwoHosts, AFileThatIsOnlyWrittenSharesItsOffset) {
  TemporaryFile file;
  const int out = open(file.path, O_WRONLY | O_CLOEXEC);
  ASSERT_EQ(write(out, "home ", 5), 5);
  auto child = MustFork({out});
  const int remote = (*child)[out];
  ASSERT_EQ(write(remote, "child ", 6), 6);
  ASSERT_TRUE(End(*child));
  ASSERT_EQ(write(out, "home again", 10), 10);
  EXPECT_EQ(Content(file.path), "home child home again");
  close(out);
}

// The last process that had it there ends just before.
TEST_F(TwoHosts, AFileOfAJobThatIsAboutToStartStaysShared) {
  TemporaryFile file("0123456789");
  const auto one = MustFork({file.descriptor});
  RemoteProcess two;
  two.process = {.kernel_pid = 1000077, .incarnation = 77, .runs_on = 1};
  const auto job = Capture({file.descriptor}, two.process);
  ASSERT_TRUE(job.ok());
  std::vector<HeldDescriptor> made;
  worker_streams_->Prepare(*job, made, [](Status status) { EXPECT_TRUE(status.ok()); });
  ASSERT_EQ(made.size(), 1U);
  two.Add(made[0].number, made[0].descriptor);
  EXPECT_TRUE(End(*one));
  worker_streams_->ProcessStarted(two.process, nullptr);
  EXPECT_EQ(lseek(two[file.descriptor], 7, SEEK_SET), 7);
  EXPECT_TRUE(End(two));
  EXPECT_EQ(lseek(file.descriptor, 0, SEEK_CUR), 7);
}

TEST_F(TwoHosts, AFileThatIsOnlyWrittenCanBeAskedAbout) {
  TemporaryFile file;
  const int out = open(file.path, O_WRONLY | O_CLOEXEC);
  auto child = MustFork({out});
  const int remote = (*child)[out];
  EXPECT_EQ(fcntl(remote, F_GETSIG), static_cast<int>(wire::StreamMark::kOutputFile));
  ASSERT_EQ(write(remote, "12345", 5), 5);
  const auto* status = Await(CallOn(abi::Operation::kStat, remote, {}));
  ASSERT_NE(status, nullptr);
  struct stat told {};
  ASSERT_EQ(status->payload.size(), sizeof told);
  std::memcpy(&told, status->payload.data(), sizeof told);
  EXPECT_TRUE(S_ISREG(told.st_mode));
  EXPECT_EQ(told.st_size, 5);
  const auto* seek = Await(CallOn(abi::Operation::kSeek, remote, {1, SEEK_SET}));
  EXPECT_EQ(seek->result, 1);
  ASSERT_EQ(write(remote, "x", 1), 1);
  EXPECT_TRUE(Until([&] { return Content(file.path) == "1x345"; }));
  close(out);
}

TEST_F(TwoHosts, TwoNumbersOfOneDescriptionStayOne) {
  TemporaryFile file;
  const int out = open(file.path, O_WRONLY | O_CLOEXEC);
  const int same = fcntl(out, F_DUPFD_CLOEXEC, 3);
  const int other = open(file.path, O_WRONLY | O_CLOEXEC);
  auto child = MustFork({out, same, other});
  ASSERT_EQ(write((*child)[out], "ab", 2), 2);
  ASSERT_EQ(write((*child)[same], "cd", 2), 2);
  Settle();
  EXPECT_EQ(Content(file.path), "abcd");
  ASSERT_EQ(write((*child)[other], "XX", 2), 2);
  ASSERT_TRUE(End(*child));
  EXPECT_EQ(Content(file.path), "XXcd") << "an open file of its own has an offset of its own";
  close(out);
  close(same);
  close(other);
}

TEST_F(TwoHosts, AReadFileTakesItsOffsetThereAndBack) {
  TemporaryFile file("first\nsecond\nthird\n");
  const int in = open(file.path, O_RDONLY | O_CLOEXEC);
  lseek(in, 6, SEEK_SET);
  auto child = MustFork({in});
  char line[8] = {};
  ASSERT_EQ(read((*child)[in], line, 7), 7);
  EXPECT_STREQ(line, "second\n");
  ASSERT_TRUE(End(*child));
  EXPECT_EQ(lseek(in, 0, SEEK_CUR), 13);
  close(in);
}

TEST_F(TwoHosts, WritersOfAFileGetPlacesOfTheirOwn) {
  using wire::StreamCall;
  TemporaryFile file("0123456789");
  lseek(file.descriptor, 0, SEEK_SET);
  auto child = MustFork({file.descriptor});
  const int remote = (*child)[file.descriptor];
  EXPECT_EQ(fcntl(remote, F_GETSIG), static_cast<int>(wire::StreamMark::kSharedFile));
  const auto at_origin = [&](StreamCall what, int64_t first, int64_t third = 0) {
    Call call;
    call.operation = abi::Operation::kAtOrigin;
    call.kernel_pid = getpid();
    call.arguments = {0, 0, static_cast<int64_t>(what), first, remote, third};
    const auto* answer = Await(worker_->Make(call));
    return answer == nullptr ? -2 : answer->result;
  };
  EXPECT_EQ(at_origin(StreamCall::kAdvance, 8), 0);
  EXPECT_EQ(lseek(remote, 0, SEEK_CUR), 8);
  ASSERT_EQ(write(file.descriptor, "home", 4), 4);
  EXPECT_EQ(at_origin(StreamCall::kTakeBack, 8, 2), 12) << "the place of another was given away";
  EXPECT_EQ(at_origin(StreamCall::kAdvance, 5), 12);
  EXPECT_EQ(at_origin(StreamCall::kTakeBack, 17, 14), 14);
  EXPECT_EQ(lseek(remote, 0, SEEK_CUR), 14);
  EXPECT_EQ(lseek(file.descriptor, 0, SEEK_CUR), 14);
  lseek(remote, 3, SEEK_SET);
  EXPECT_EQ(at_origin(StreamCall::kAdvance, 1), 3) << "where the writer has gone to";
  EXPECT_TRUE(home_->report().notes.empty());
}

TEST_F(TwoHosts, AnOffsetThatIsRecalledIsAwayUntilItIsAskedFor) {
  TemporaryFile file("0123456789");
  const int in = open(file.path, O_RDONLY | O_CLOEXEC);
  RemoteProcess child;
  child.process = {.kernel_pid = getpid(), .incarnation = 77, .runs_on = 1};
  const auto job = Capture({in}, child.process);
  ASSERT_TRUE(job.ok());
  const wire::StreamId stream = job->descriptors.at(0).stream;
  std::vector<HeldDescriptor> made;
  worker_streams_->Prepare(*job, made, [](Status status) { EXPECT_TRUE(status.ok()); });
  child.Add(made.at(0).number, made.at(0).descriptor);
  worker_streams_->ProcessStarted(child.process, nullptr);
  const int remote = child[in];

  char bytes[16];
  ASSERT_EQ(read(remote, bytes, 4), 4);
  home_->Send(1, wire::StreamOffsetNow{stream, 0, true});
  Settle();
  EXPECT_TRUE(wire::IsAway(lseek(remote, 0, SEEK_CUR)));
  EXPECT_EQ(read(remote, bytes, 4), 0);
  EXPECT_EQ(lseek(in, 0, SEEK_CUR), 4);
  home_->Send(1, wire::StreamOffsetNow{stream, 0, true});
  Settle();
  EXPECT_EQ(lseek(in, 0, SEEK_CUR), 4) << "it had none";

  Call call;
  call.operation = abi::Operation::kAtOrigin;
  call.kernel_pid = getpid();
  call.arguments = {0, 0, static_cast<int64_t>(wire::StreamCall::kTakeOffset), 0, remote};
  const auto* answer = Await(worker_->Make(call));
  ASSERT_NE(answer, nullptr);
  EXPECT_EQ(answer->result, 4);
  EXPECT_EQ(lseek(remote, 0, SEEK_CUR), 4);
  ASSERT_EQ(read(remote, bytes, 2), 2);
  EXPECT_TRUE(End(child));
  EXPECT_EQ(lseek(in, 0, SEEK_CUR), 6);
  EXPECT_TRUE(home_->report().notes.empty());
  close(in);
}

// Its job says where the file was when it was made.
TEST_F(TwoHosts, AJobOnItsWayFindsAFileWhereItIsNow) {
  TemporaryFile file("0123456789");
  const int in = open(file.path, O_RDONLY | O_CLOEXEC);
  const auto one = MustFork({in});
  RemoteProcess two, three;
  two.process = {.kernel_pid = 1000077, .incarnation = 77, .runs_on = 1};
  three.process = {.kernel_pid = 1000078, .incarnation = 78, .runs_on = 1};
  const auto job = Capture({in}, two.process);
  const auto last = Capture({in}, three.process);
  ASSERT_TRUE(job.ok() && last.ok());
  const auto start = [this, in](const wire::Job& of, RemoteProcess& process) {
    std::vector<HeldDescriptor> made;
    worker_streams_->Prepare(of, made, [](Status status) { EXPECT_TRUE(status.ok()); });
    process.Add(made.at(0).number, made.at(0).descriptor);
    worker_streams_->ProcessStarted(process.process, nullptr);
    return lseek(process[in], 0, SEEK_CUR);
  };
  char bytes[16];
  ASSERT_EQ(read((*one)[in], bytes, 6), 6);
  ASSERT_TRUE(End(*one));
  EXPECT_EQ(start(*job, two), 6);
  home_->Send(1, wire::StreamOffsetNow{job->descriptors.at(0).stream, 0, true});
  Settle();
  ASSERT_TRUE(End(two));
  EXPECT_TRUE(wire::IsAway(start(*last, three)));
  EXPECT_TRUE(End(three));
  EXPECT_EQ(lseek(in, 0, SEEK_CUR), 6);
  close(in);
}

TEST_F(TwoHosts, WhatTwoHostsReadAtTheSameTimeIsSaid) {
  TemporaryFile file("all of it");
  const int in = open(file.path, O_RDONLY | O_CLOEXEC);
  auto child = MustFork({in});
  char bytes[16];
  ASSERT_EQ(read((*child)[in], bytes, sizeof bytes), 9);
  ASSERT_EQ(read(in, bytes, sizeof bytes), 9);
  ASSERT_TRUE(End(*child));
  EXPECT_EQ(home_->report().notes.size(), 1U);
  close(in);
}

TEST_F(TwoHosts, WhereTwoHostsSetAnOffsetBackNothingIsSaid) {
  TemporaryFile file("all of it");
  const int in = open(file.path, O_RDONLY | O_CLOEXEC);
  lseek(in, 5, SEEK_SET);
  auto child = MustFork({in});
  lseek((*child)[in], 0, SEEK_SET);
  lseek(in, 0, SEEK_SET);
  ASSERT_TRUE(End(*child));
  EXPECT_TRUE(home_->report().notes.empty());
  close(in);
}

TEST_F(TwoHosts, AFileThatIsPrintedIntoIsWrittenAtHome) {
  TemporaryFile file;
  const int kept = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
  ASSERT_EQ(dup2(file.descriptor, STDOUT_FILENO), STDOUT_FILENO);
  auto child = MustFork({STDOUT_FILENO, file.descriptor});
  dup2(kept, STDOUT_FILENO);
  close(kept);
  for (const int number : {STDOUT_FILENO, file.descriptor})
    EXPECT_EQ(fcntl((*child)[number], F_GETSIG), static_cast<int>(wire::StreamMark::kOutputFile));
  ASSERT_EQ(write((*child)[STDOUT_FILENO], "child ", 6), 6);
  ASSERT_TRUE(Until([&] { return Content(file.path) == "child "; }));
  ASSERT_EQ(write(file.descriptor, "home ", 5), 5);
  ASSERT_EQ(write((*child)[file.descriptor], "child", 5), 5);
  ASSERT_TRUE(End(*child));
  EXPECT_EQ(Content(file.path), "child home child");
}

TEST_F(TwoHosts, AnonymousFilesAndDevicesAreMadeAnew) {
  const int memory = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  ASSERT_EQ(write(memory, "content", 7), 7);
  ASSERT_EQ(fcntl(memory, F_ADD_SEALS, F_SEAL_WRITE), 0);
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  const int directory = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  auto child = MustFork({memory, null, directory});
  char content[8] = {};
  EXPECT_EQ(pread((*child)[memory], content, 7, 0), 7);
  EXPECT_STREQ(content, "content");
  EXPECT_EQ(lseek((*child)[memory], 0, SEEK_CUR), 7);
  EXPECT_EQ(write((*child)[null], "x", 1), 1);
  EXPECT_EQ(faccessat((*child)[directory], ".", F_OK, 0), 0);
  for (const int each : {memory, null, directory}) close(each);
}

TEST_F(TwoHosts, WhatCannotMoveSaysWhy) {
  const int unconnected = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const auto refused = Fork({ends[0], ends[1], unconnected});
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().message, "a socket that is not connected cannot move to another host");
  // What was granted before the refusal was taken back.
  close(ends[1]);
  EXPECT_NE(stream::PollNow(ends[0], POLLIN) & POLLHUP, 0);
  close(ends[0]);
  close(unconnected);

  const int memory = memfd_create("test", MFD_CLOEXEC);
  const auto writable = Fork({memory});
  ASSERT_FALSE(writable.ok());
  EXPECT_EQ(writable.error().message, "a file in memory that can be written cannot move to another host");
  close(memory);
}

struct Terminal {
  Terminal() {
    winsize size{33, 77, 0, 0};
    EXPECT_EQ(openpty(&master, &slave, nullptr, nullptr, &size), 0);
  }
  ~Terminal() {
    close(master);
    close(slave);
  }
  int master, slave;
};

TEST_F(TwoHosts, ATerminalIsATerminalElsewhere) {
  Terminal terminal;
  auto child = MustFork({terminal.slave});
  const int remote = (*child)[terminal.slave];
  EXPECT_TRUE(isatty(remote));
  winsize size{};
  EXPECT_EQ(ioctl(remote, TIOCGWINSZ, &size), 0);
  EXPECT_EQ(size.ws_row, 33);
  EXPECT_EQ(size.ws_col, 77);
  ASSERT_EQ(write(remote, "out\n", 4), 4);
  EXPECT_TRUE(Until([&] { return stream::BytesWaiting(terminal.master) >= 5; }));
  EXPECT_EQ(Take(terminal.master, 100), "out\r\n") << "home's terminal does the processing";
  ASSERT_EQ(write(terminal.master, "typed\n\4", 7), 7);
  EXPECT_EQ(Read(remote, 100), "typed\n");
  const auto* end = Await(Pull(remote, 100));
  EXPECT_EQ(end->result, 0);
  EXPECT_EQ(read(remote, &size, 1), 0) << "the end of file is what the read itself sees";
}

TEST_F(TwoHosts, TerminalAttributesAreHomes) {
  Terminal terminal;
  auto child = MustFork({terminal.slave});
  const int remote = (*child)[terminal.slave];
  const auto* told = Await(CallOn(abi::Operation::kIoctl, remote, {TCGETS, 0}, std::vector<uint8_t>(36)));
  ASSERT_NE(told, nullptr);
  ASSERT_EQ(told->result, 0);
  uint32_t flags[4];
  ASSERT_GE(told->payload.size(), sizeof flags);
  std::memcpy(flags, told->payload.data(), sizeof flags);
  EXPECT_NE(flags[3] & ICANON, 0U);
  auto changed = told->payload;
  flags[3] &= ~static_cast<uint32_t>(ICANON | ECHO);
  std::memcpy(changed.data(), flags, sizeof flags);
  EXPECT_EQ(Await(CallOn(abi::Operation::kIoctl, remote, {TCSETS, 0}, changed))->result, 0);
  termios now;
  ASSERT_EQ(tcgetattr(terminal.slave, &now), 0);
  EXPECT_EQ(now.c_lflag & ICANON, 0U);
}

}  // namespace
}  // namespace elsewhere::runtime
