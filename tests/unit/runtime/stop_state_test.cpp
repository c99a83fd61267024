// A process that is nobody's child here is seen stopped, by an event.
#include "runtime/stop_state.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "shim/wire/signal_watch.h"

namespace elsewhere::runtime {
namespace {

class StopState : public testing::Test {
 protected:
  // The watched one blocks all signals and reads none; its watch is taken from it with pidfd_getfd.
  void SetUp() override {
    PrepareSignalWatches();
    int ready[2];
    ASSERT_EQ(pipe(ready), 0);
    watched_ = fork();
    if (watched_ == 0) {
      sigset_t all;
      sigfillset(&all);
      sigprocmask(SIG_SETMASK, &all, nullptr);
      const int watch = wire::MakeSignalWatch(signalfd(-1, &all, SFD_NONBLOCK));
      (void)!write(ready[1], &watch, sizeof watch);
      for (;;) pause();
    }
    int number = -1;
    ASSERT_EQ(read(ready[0], &number, sizeof number), static_cast<ssize_t>(sizeof number));
    close(ready[0]);
    close(ready[1]);
    const int pidfd = static_cast<int>(syscall(SYS_pidfd_open, watched_, 0));
    watch_ = static_cast<int>(syscall(SYS_pidfd_getfd, pidfd, number, 0));
    close(pidfd);
    ASSERT_GE(watch_, 0);
    loop_ = epoll_create1(0);
    epoll_event event{.events = EPOLLIN, .data = {.fd = watch_}};
    ASSERT_EQ(epoll_ctl(loop_, EPOLL_CTL_ADD, watch_, &event), 0);
  }
  void TearDown() override {
    close(loop_);
    close(watch_);
    kill(watched_, SIGKILL);
    waitpid(watched_, nullptr, 0);
  }

  // One event, which is there already where a signal was sent, or none.
  bool TakeEvent() {
    epoll_event event;
    if (epoll_wait(loop_, &event, 1, 0) != 1) return false;
    epoll_wait(watch_, &event, 1, 0);
    return true;
  }

  pid_t watched_ = -1;
  int watch_ = -1;
  int loop_ = -1;
};

TEST_F(StopState, NothingHappensWithoutASignal) {
  EXPECT_FALSE(TakeEvent());
  EXPECT_FALSE(IsStopped(watched_));
}

TEST_F(StopState, EveryStopAndContinueIsAnEvent) {
  for (int round = 0; round < 100; ++round) {
    kill(watched_, SIGSTOP);
    EXPECT_TRUE(TakeEvent());
    EXPECT_TRUE(IsStopped(watched_)) << "sent, whether it has stopped yet or not";
    EXPECT_FALSE(TakeEvent());
    kill(watched_, SIGCONT);
    EXPECT_TRUE(TakeEvent());
    EXPECT_FALSE(IsStopped(watched_));
    EXPECT_FALSE(TakeEvent());
  }
}

TEST_F(StopState, AnEventIsNotAStop) {
  kill(watched_, SIGUSR1);
  EXPECT_TRUE(TakeEvent());
  EXPECT_FALSE(IsStopped(watched_));
}

TEST_F(StopState, TheDeadAreNotStopped) {
  kill(watched_, SIGKILL);
  siginfo_t info;
  waitid(P_PID, static_cast<id_t>(watched_), &info, WEXITED | WNOWAIT);
  EXPECT_FALSE(IsStopped(watched_));
  EXPECT_FALSE(IsStopped(-1));
}

}  // namespace
}  // namespace elsewhere::runtime
