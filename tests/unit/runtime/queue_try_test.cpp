// Sends and receives on another process's message queue, of this kernel.
#include "runtime/ipc/queue_try.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <mqueue.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <string>

#include "shim/store/unique_fd.h"

namespace elsewhere::runtime {
namespace {

constexpr long kSize = 16;

// A process with one queue of two messages, open as `flags` say.
class QueueTry : public testing::Test {
 protected:
  void Open(int flags) {
    const std::string name = "/elsewhere-try-" + std::to_string(getpid());
    mq_attr attributes{};
    attributes.mq_maxmsg = 2;
    attributes.mq_msgsize = kSize;
    queue_ = mq_open(name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NONBLOCK, 0600, &attributes);
    ASSERT_GE(queue_, 0) << std::strerror(errno);
    theirs_ = mq_open(name.c_str(), flags);
    mq_unlink(name.c_str());
    child_.kernel_pid = fork();
    if (child_.kernel_pid == 0) {
      pause();
      _exit(0);
    }
    child_.pidfd = static_cast<int>(syscall(SYS_pidfd_open, child_.kernel_pid, 0));
    ASSERT_GE(child_.pidfd, 0);
  }
  void TearDown() override {
    if (child_.kernel_pid <= 0) return;
    kill(child_.kernel_pid, SIGKILL);
    waitpid(child_.kernel_pid, nullptr, 0);
    for (const int descriptor : {child_.pidfd, queue_, theirs_}) close(descriptor);
  }

  std::optional<QueueAnswer> Send(const std::string& text, int64_t size = -1) {
    abi::KernelCall call{};
    call.number = SYS_mq_timedsend;
    call.arguments[0] = theirs_;
    call.arguments[2] = size < 0 ? static_cast<int64_t>(text.size()) : size;
    call.arguments[3] = 5;
    call.pointers = 1 << 1;
    call.data = call.memory = static_cast<uint32_t>(text.size());
    return TryQueueCall(child_, call, {reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  }
  std::optional<QueueAnswer> Receive(uint32_t room = kSize) {
    abi::KernelCall call{};
    call.number = SYS_mq_timedreceive;
    call.arguments[0] = theirs_;
    call.arguments[1] = sizeof(unsigned);
    call.arguments[2] = kSize;
    call.pointers = 1 << 1 | 1 << 3;
    call.memory = sizeof(unsigned) + room;
    call.answer = sizeof(unsigned);
    call.grows = 1;
    return TryQueueCall(child_, call, {});
  }

  Process child_;
  int queue_ = -1;
  int theirs_ = -1;
};

TEST_F(QueueTry, MakesWhatNeedNotWait) {
  Open(O_RDWR);
  const auto sent = Send("one");
  ASSERT_TRUE(sent);
  EXPECT_EQ(sent->result, 0);
  EXPECT_TRUE(sent->bytes.empty());
  const auto received = Receive();
  ASSERT_TRUE(received);
  EXPECT_EQ(received->result, 3);
  unsigned priority = 0;
  ASSERT_EQ(received->bytes.size(), sizeof priority + 3);
  std::memcpy(&priority, received->bytes.data(), sizeof priority);
  EXPECT_EQ(priority, 5U);
  EXPECT_EQ(std::string(received->bytes.begin() + sizeof priority, received->bytes.end()), "one");
}

TEST_F(QueueTry, LeavesWhatWouldWaitToItsProcess) {
  Open(O_RDWR);
  EXPECT_FALSE(Receive());
  EXPECT_TRUE(Send("one"));
  EXPECT_TRUE(Send("two"));
  EXPECT_FALSE(Send("three"));
}

TEST_F(QueueTry, ObeysTheProcessesOwnDescription) {
  Open(O_RDONLY | O_NONBLOCK);
  ASSERT_TRUE(Send("one"));
  EXPECT_EQ(Send("one")->result, -EBADF);
  ASSERT_TRUE(Receive());
  EXPECT_EQ(Receive()->result, -EAGAIN);
}

TEST_F(QueueTry, StaysWithinTheMemoryOfTheCall) {
  Open(O_RDWR);
  EXPECT_FALSE(Send("one", 4));
  ASSERT_TRUE(Send("one"));
  EXPECT_FALSE(Receive(kSize - 1));
}

}  // namespace
}  // namespace elsewhere::runtime
