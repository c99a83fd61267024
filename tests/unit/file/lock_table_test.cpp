#include "shim/file/lock_table.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <random>

#include "tests/unit/store/scratch_directory.h"

namespace elsewhere::file {
namespace {

constexpr auto kNone = LockType::kUnlock, kRead = LockType::kShared, kWrite = LockType::kExclusive;
using Answers = std::vector<LockAnswer>;

LockOwner Process(uint64_t id) {
  return {LockKind::kProcess, id};
}
LockOwner Description(uint64_t id) {
  return {LockKind::kDescription, id};
}

class LockTableTest : public testing::Test {
 protected:
  int Try(LockOwner owner, LockType type, LockRange range = {}, LockedFile file = 1) {
    auto status = table_.Try({file, owner, type, range});
    return status ? 0 : status.error().code;
  }
  // 0: has it, -1: waits
  int Wait(uint64_t waiter, LockOwner owner, LockType type, LockRange range = {}, LockedFile file = 1) {
    auto status = table_.Wait({file, owner, type, range}, waiter);
    return status ? (*status ? 0 : -1) : status.error().code;
  }
  LockTable table_;
};

TEST_F(LockTableTest, ReadersShareWritersExclude) {
  EXPECT_EQ(Try(Process(1), kRead), 0);
  EXPECT_EQ(Try(Process(2), kRead), 0);
  EXPECT_EQ(Try(Process(2), kWrite), EAGAIN);
  EXPECT_EQ(Try(Process(1), kNone), 0);
  EXPECT_EQ(Try(Process(2), kWrite), 0) << "its own lock is no obstacle";
  EXPECT_EQ(Try(Process(1), kRead), EAGAIN);
  EXPECT_EQ(Try(Process(1), kRead, {}, 2), 0) << "another file";
}

TEST_F(LockTableTest, RangesAreCutAndJoined) {
  EXPECT_EQ(Try(Process(1), kWrite, {0, 100}), 0);
  EXPECT_EQ(Try(Process(1), kRead, {40, 60}), 0);
  EXPECT_EQ(table_.locks(), 3u);
  EXPECT_EQ(Try(Process(2), kRead, {40, 60}), 0);
  EXPECT_EQ(Try(Process(2), kRead, {39, 41}), EAGAIN);
  EXPECT_EQ(table_.Find({1, Process(2), kRead, {50, 200}}), (LockConflict{kWrite, {60, 100}, 1}));
  EXPECT_EQ(table_.Find({1, Process(1), kWrite, {0, 200}}), (LockConflict{kRead, {40, 60}, 2}));
  EXPECT_EQ(Try(Process(2), kNone, {0, 1000}), 0);
  EXPECT_EQ(Try(Process(1), kWrite, {40, 60}), 0);
  EXPECT_EQ(table_.locks(), 1u);
  EXPECT_EQ(Try(Process(1), kWrite, {100, 110}), 0);
  EXPECT_EQ(table_.locks(), 1u) << "what touches is one lock";
  EXPECT_EQ(Try(Process(1), kNone, {20, 30}), 0);
  EXPECT_EQ(table_.locks(), 2u);
  EXPECT_EQ(Try(Process(1), kNone), 0);
  EXPECT_TRUE(table_.empty());
}

TEST_F(LockTableTest, WhoWaitsGetsItInTurn) {
  EXPECT_EQ(Try(Process(1), kWrite), 0);
  EXPECT_EQ(Wait(12, Process(2), kWrite), -1);
  EXPECT_EQ(Wait(13, Process(3), kRead), -1);
  EXPECT_EQ(Wait(14, Process(4), kRead), -1);
  EXPECT_EQ(table_.TakeAnswers(), Answers{});
  EXPECT_EQ(Try(Process(1), kNone), 0);
  EXPECT_EQ(table_.TakeAnswers(), (Answers{{12, 0}}));
  EXPECT_EQ(Try(Process(2), kRead), 0) << "a downgrade lets the readers in";
  EXPECT_EQ(table_.TakeAnswers(), (Answers{{13, 0}, {14, 0}}));
  EXPECT_EQ(Wait(15, Process(5), kWrite, {5, 6}), -1);
  table_.Cancel(15);
  for (uint64_t process : {2, 3, 4}) table_.ReleaseProcess(process);
  EXPECT_EQ(table_.TakeAnswers(), Answers{});
  EXPECT_TRUE(table_.empty());
}

TEST_F(LockTableTest, CirclesAreRefused) {
  EXPECT_EQ(Try(Process(1), kWrite, {0, 1}), 0);
  EXPECT_EQ(Try(Process(2), kWrite, {1, 2}), 0);
  EXPECT_EQ(Try(Process(3), kWrite, {0, 1}, 2), 0);
  EXPECT_EQ(Wait(11, Process(1), kWrite, {1, 2}), -1);
  EXPECT_EQ(Wait(12, Process(2), kRead, {0, 1}, 2), -1);
  EXPECT_EQ(Wait(13, Process(3), kRead, {0, 5}), EDEADLK);
  EXPECT_EQ(Try(Process(3), kRead, {0, 5}), EAGAIN) << "who does not wait closes no circle";
  table_.ReleaseProcess(3);
  EXPECT_EQ(table_.TakeAnswers(), (Answers{{12, 0}}));
}

TEST_F(LockTableTest, UpgradesOfTwoReadersAreACircle) {
  EXPECT_EQ(Try(Process(1), kRead), 0);
  EXPECT_EQ(Try(Process(2), kRead), 0);
  EXPECT_EQ(Wait(11, Process(1), kWrite), -1);
  EXPECT_EQ(Wait(12, Process(2), kWrite), EDEADLK);
  table_.ReleaseProcess(2);
  EXPECT_EQ(table_.TakeAnswers(), (Answers{{11, 0}}));
}

TEST_F(LockTableTest, DescriptionsAreOwnersWithoutADeadlockCheck) {
  EXPECT_EQ(Try(Description(1), kWrite, {0, 1}), 0);
  EXPECT_EQ(Try(Description(2), kWrite, {1, 2}), 0);
  EXPECT_EQ(Try(Process(1), kWrite, {0, 1}), EAGAIN) << "the same number, another owner";
  EXPECT_EQ(table_.Find({1, Process(1), kRead, {0, 1}}), (LockConflict{kWrite, {0, 1}, -1}));
  EXPECT_EQ(Wait(11, Description(1), kWrite, {1, 2}), -1);
  EXPECT_EQ(Wait(12, Description(2), kWrite, {0, 1}), -1);
  table_.ReleaseDescription(1);
  EXPECT_EQ(table_.TakeAnswers(), (Answers{{12, 0}}));
}

TEST_F(LockTableTest, AnyCloseReleasesAProcesssLocksOnTheFile) {
  EXPECT_EQ(Try(Process(1), kWrite), 0);
  EXPECT_EQ(Try(Process(1), kWrite, {}, 2), 0);
  EXPECT_EQ(Try(Description(1), kWrite, {}, 3), 0);
  EXPECT_EQ(Wait(12, Process(2), kRead), -1);
  table_.ReleaseOnClose(1, 1);
  EXPECT_EQ(table_.TakeAnswers(), (Answers{{12, 0}}));
  EXPECT_EQ(Try(Process(2), kRead, {}, 2), EAGAIN);
  table_.ReleaseProcess(1);
  EXPECT_EQ(Try(Process(2), kRead, {}, 2), 0);
  EXPECT_EQ(Try(Process(2), kRead, {}, 3), EAGAIN);
}

TEST_F(LockTableTest, IsBounded) {
  LockTable table(2);
  EXPECT_TRUE(table.Try({1, Process(1), kWrite, {0, 10}}).ok());
  EXPECT_TRUE(table.Try({1, Process(2), kWrite, {20, 30}}).ok());
  EXPECT_EQ(table.Try({1, Process(1), kRead, {2, 4}}).error().code, ENOLCK);
  EXPECT_TRUE(table.Try({1, Process(1), kNone, {2, 4}}).ok()) << "giving up works";
}

// The kernel as the judge: three processes set locks on one file at random, here and there.
class KernelProcess {
 public:
  KernelProcess(const std::string& path) {
    if (pipe(to_) != 0 || pipe(from_) != 0) abort();
    pid_ = fork();
    if (pid_ == 0) Serve(path);
    close(to_[0]);
    close(from_[1]);
  }
  ~KernelProcess() {
    close(to_[1]);
    close(from_[0]);
    waitpid(pid_, nullptr, 0);
  }
  int Set(LockType type, LockRange range) const { return Ask(F_SETLK, type, range).code; }
  // Nothing, or what is in the way.
  std::optional<LockConflict> Get(LockType type, LockRange range) const {
    auto answer = Ask(F_GETLK, type, range);
    if (answer.lock.l_type == F_UNLCK) return std::nullopt;
    uint64_t from = uint64_t(answer.lock.l_start);
    uint64_t to = answer.lock.l_len ? from + uint64_t(answer.lock.l_len) : UINT64_MAX;
    return LockConflict{answer.lock.l_type == F_WRLCK ? kWrite : kRead, {from, to}, answer.lock.l_pid};
  }
  pid_t pid() const { return pid_; }

 private:
  struct Message {
    int command = 0, code = 0;
    struct flock lock {};
  };
  Message Ask(int command, LockType type, LockRange range) const {
    Message message;
    message.command = command;
    message.lock.l_type = short(type == kNone ? F_UNLCK : type == kRead ? F_RDLCK : F_WRLCK);
    message.lock.l_start = off_t(range.from);
    message.lock.l_len = range.to == UINT64_MAX ? 0 : off_t(range.to - range.from);
    if (write(to_[1], &message, sizeof message) != sizeof message) abort();
    if (read(from_[0], &message, sizeof message) != sizeof message) abort();
    return message;
  }
  [[noreturn]] void Serve(const std::string& path) {
    close(to_[1]);
    int fd = open(path.c_str(), O_RDWR);
    Message message;
    while (read(to_[0], &message, sizeof message) == sizeof message) {
      message.code = fcntl(fd, message.command, &message.lock) == 0 ? 0 : errno;
      if (write(from_[1], &message, sizeof message) != sizeof message) break;
    }
    _exit(0);
  }
  int to_[2], from_[2];
  pid_t pid_;
};

TEST_F(LockTableTest, AgreesWithTheKernel) {
  store::ScratchDirectory directory;
  std::string path = directory.path() + "/file";
  close(open(path.c_str(), O_CREAT | O_WRONLY, 0600));
  KernelProcess processes[] = {path, path, path};
  std::minstd_rand random(1);
  for (int i = 0; i < 20'000; ++i) {
    auto& process = processes[random() % 3];
    LockType type = LockType(random() % 3);
    uint64_t from = random() % 32, length = random() % 8;
    LockRange range{from, length ? from + length : UINT64_MAX};
    LockOwner owner = Process(uint64_t(process.pid()));
    if (type != kNone) {
      ASSERT_EQ(table_.Find({1, owner, type, range}).has_value(), process.Get(type, range).has_value()) << i;
    }
    ASSERT_EQ(Try(owner, type, range), process.Set(type, range)) << i;
  }
}

}  // namespace
}  // namespace elsewhere::file
