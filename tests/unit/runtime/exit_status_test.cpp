#include "runtime/exit_status.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace elsewhere::runtime {
namespace {

constexpr int kProcesses = 3000;
constexpr int kStatus = 7;

// Forks a child, tells its pid, and waits for it as soon as the other side has let it go.
[[noreturn]] void Parent(int socket) {
  for (;;) {
    const pid_t child = fork();
    if (child == 0) {
      char go;
      _exit(read(socket, &go, 1) == 1 ? kStatus : 1);
    }
    if (write(socket, &child, sizeof child) != sizeof child) _exit(1);
    if (waitpid(child, nullptr, 0) != child) _exit(1);
  }
}

// Linux before 6.15 forgets how a process ended when its parent has waited for it.
bool KernelRemembers() {
  const pid_t child = fork();
  if (child == 0) _exit(kStatus);
  const int pidfd = static_cast<int>(syscall(SYS_pidfd_open, child, 0));
  waitpid(child, nullptr, 0);
  const bool remembers = StatusOfEnded(child, pidfd).has_value();
  close(pidfd);
  return remembers;
}

// Its parent may take it away while we look: then it is neither a zombie any more nor yet gone.
TEST(ExitStatusTest, IsKnownWhenTheParentReapsMeanwhile) {
  if (!KernelRemembers()) GTEST_SKIP() << "needs Linux 6.15";
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
  const pid_t parent = fork();
  if (parent == 0) {
    close(ends[0]);
    Parent(ends[1]);
  }
  close(ends[1]);
  int unknown = 0, wrong = 0;
  for (int i = 0; i < kProcesses; ++i) {
    pid_t child = 0;
    ASSERT_EQ(read(ends[0], &child, sizeof child), static_cast<ssize_t>(sizeof child));
    const int pidfd = static_cast<int>(syscall(SYS_pidfd_open, child, 0));
    ASSERT_GE(pidfd, 0);
    ASSERT_EQ(write(ends[0], "", 1), 1);
    pollfd ended{pidfd, POLLIN, 0};
    ASSERT_EQ(poll(&ended, 1, -1), 1);
    const auto status = StatusOfEnded(child, pidfd);
    if (!status) ++unknown;
    if (status && (!WIFEXITED(status->status) || WEXITSTATUS(status->status) != kStatus)) ++wrong;
    close(pidfd);
  }
  EXPECT_EQ(unknown, 0);
  EXPECT_EQ(wrong, 0);
  kill(parent, SIGKILL);
  EXPECT_EQ(waitpid(parent, nullptr, 0), parent);
  close(ends[0]);  // the child that waits for it ends
}

}  // namespace
}  // namespace elsewhere::runtime
