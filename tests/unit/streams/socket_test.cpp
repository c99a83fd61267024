// Sockets that two hosts hold, and descriptors that pass through them.
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "runtime/stream/descriptor.h"
#include "tests/unit/streams/two_hosts.h"

namespace elsewhere::runtime {
namespace {

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

}  // namespace
}  // namespace elsewhere::runtime
