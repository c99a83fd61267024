// Two children on the worker that have the two ends of a pipe of home's.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <csignal>
#include <cstring>
#include <numeric>

#include "runtime/stream/descriptor.h"
#include "shim/wire/stream_call.h"
#include "tests/unit/streams/two_hosts.h"

namespace elsewhere::runtime {

inline constexpr int kLooks = 16;  // at which pull home looks first

inline ssize_t Put(int descriptor, const std::string& text) {
  return write(descriptor, text.data(), text.size());
}

inline bool HasPackets(int descriptor) {
  return (fcntl(descriptor, F_GETFL) & O_DIRECT) != 0;
}

inline uint64_t InodeOf(int descriptor) {
  return stream::Stat(descriptor)->st_ino;
}

class Moves : public TwoHosts {
 protected:
  Moves() {
    EXPECT_EQ(pipe2(ends_, O_CLOEXEC), 0);
    signal(SIGPIPE, SIG_IGN);
  }
  ~Moves() override {
    if (reader_) reader_->CloseAll();
    if (writer_) writer_->CloseAll();
    CloseAtHome();
  }
  // Two children on the worker, one end each; nobody at home.
  void ForkBoth() {
    reader_ = MustFork({ends_[0]});
    writer_ = MustFork({ends_[1]});
  }
  void CloseAtHome(int end) {
    if (!closed_[end]) close(ends_[end]);
    closed_[end] = true;
  }
  void CloseAtHome() {
    CloseAtHome(0);
    CloseAtHome(1);
  }
  int reader() const { return (*reader_)[ends_[0]]; }
  int writer() const { return (*writer_)[ends_[1]]; }
  uint64_t moved() const { return home_->report().pipes_moved; }

  // One byte after the other, until home looks.
  void PullUntilLook(int pulls = kLooks) {
    for (int i = 0; i < pulls && moved() == 0; ++i) {
      ASSERT_EQ(Put(writer(), "."), 1);
      Settle();  // a description that does not wait finds it, too
      ASSERT_EQ(ReadOrSwitch(1), ".");
    }
    Settle();
  }
  // As the preload reads: asks, and takes the pipe where it has moved.
  std::optional<std::string> ReadOrSwitch(size_t bytes) {
    if (switched_) return Take(reader(), bytes);
    const auto* answer = Await(Pull(reader(), bytes));
    if (answer == nullptr) return std::nullopt;
    if (answer->result >= 0) return answer->result == 0 ? "" : Take(reader(), bytes);
    if (answer->error != wire::kPipeHasMoved) return std::nullopt;
    Switch(*answer);
    return Take(reader(), bytes);
  }
  void Switch(const TestAgent::Answer& answer) {
    ASSERT_EQ(answer.error, wire::kPipeHasMoved);
    wire::MovedPipe pipe{};
    ASSERT_EQ(answer.payload.size(), sizeof pipe);
    std::memcpy(&pipe, answer.payload.data(), sizeof pipe);
    EXPECT_EQ(pipe.inode, InodeOf(reader()));
    const store::UniqueFd offered = worker_->TakeOffer(pipe.token);
    EXPECT_GE(dup3(offered.get(), reader(), O_CLOEXEC), 0);
    switched_ = true;
  }

  int ends_[2];
  bool closed_[2] = {};
  bool switched_ = false;
  std::unique_ptr<RemoteProcess> reader_, writer_;
};

}  // namespace elsewhere::runtime
