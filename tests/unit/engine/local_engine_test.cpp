#include "shim/engine/local_engine.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <sstream>
#include <thread>

namespace elsewhere::engine {
namespace {

using std::chrono::milliseconds;

std::string ReadAll(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream content;
  content << file.rdbuf();
  return content.str();
}

std::string Link(const std::string& path) {
  char target[256] = {};
  return readlink(path.c_str(), target, sizeof target - 1) > 0 ? target : "";
}

// Waits for a condition that has no event to wait for (another process's state).
template <class Condition>
bool Eventually(Condition condition) {
  for (int attempt = 0; attempt < 500; ++attempt) {
    if (condition()) return true;
    std::this_thread::sleep_for(milliseconds(10));
  }
  return false;
}

std::vector<LostWorker> WaitForLoss(Engine& engine) {
  pollfd event{engine.event_descriptor(), POLLIN, 0};
  EXPECT_EQ(1, poll(&event, 1, 5000));
  return engine.TakeLost();
}

class LocalEngineTest : public testing::TestWithParam<Isolation> {
 protected:
  void SetUp() override {
    if (GetParam() == Isolation::kNamespaces && !ProbeNamespaces().ok())
      GTEST_SKIP() << "no user namespaces here";
    Result<std::unique_ptr<LocalEngine>> made = LocalEngine::Make(GetParam());
    ASSERT_TRUE(made.ok());
    engine_ = std::move(*made);
    char name[] = "/tmp/elsewhere-engine-XXXXXX";
    ASSERT_NE(nullptr, mkdtemp(name));
    directory_ = name;
  }

  void TearDown() override {
    engine_.reset();
    if (!directory_.empty()) (void)!system(("rm -rf " + directory_).c_str());
  }

  Status StartShell(uint32_t host, const std::string& script) {
    return engine_->Start(host,
                          {{"/bin/sh", "-c", script}, {"PATH=/usr/bin:/bin", "HERE=" + directory_}, {}});
  }

  std::unique_ptr<LocalEngine> engine_;
  std::string directory_;
};

TEST_P(LocalEngineTest, TheReasonOfAnEndIsReported) {
  ASSERT_TRUE(StartShell(1, "exit 3").ok());
  std::vector<LostWorker> lost = WaitForLoss(*engine_);
  ASSERT_EQ(1U, lost.size());
  EXPECT_EQ(1U, lost[0].host);
  EXPECT_NE(std::string::npos, lost[0].reason.find("ended with status 3"));
  EXPECT_TRUE(engine_->TakeLost().empty());
}

TEST_P(LocalEngineTest, StopIsReportedAsALoss) {
  ASSERT_TRUE(StartShell(7, "read never </dev/zero").ok());
  ASSERT_TRUE(StartShell(8, "read never </dev/zero").ok());
  engine_->Stop(7);
  std::vector<LostWorker> lost = WaitForLoss(*engine_);
  ASSERT_EQ(1U, lost.size());
  EXPECT_EQ(7U, lost[0].host);
  EXPECT_NE(std::string::npos, lost[0].reason.find("signal 9"));
  EXPECT_NE(0, engine_->pid(8));
}

TEST_P(LocalEngineTest, AProgramThatCannotBeExecutedIsAnError) {
  Status started = engine_->Start(1, {{"/no/such/program"}, {}, {}});
  ASSERT_FALSE(started.ok());
  EXPECT_EQ(ENOENT, started.error().code);
  EXPECT_TRUE(engine_->TakeLost().empty());
}

TEST_P(LocalEngineTest, IdsMeanWhatTheyMeanOutside) {
  ASSERT_TRUE(StartShell(1, "id -u > $HERE/ids; id -g >> $HERE/ids; touch $HERE/file").ok());
  WaitForLoss(*engine_);
  EXPECT_EQ(std::to_string(geteuid()) + "\n" + std::to_string(getegid()) + "\n",
            ReadAll(directory_ + "/ids"));
}

TEST_P(LocalEngineTest, NothingOfTheCallerIsInherited) {
  setenv("SECRET_OF_THE_CALLER", "1", 1);
  int descriptor = dup2(2, 77);
  ASSERT_TRUE(StartShell(1, "env > $HERE/env; ls /proc/self/fd > $HERE/fd").ok());
  WaitForLoss(*engine_);
  close(descriptor);
  unsetenv("SECRET_OF_THE_CALLER");
  EXPECT_EQ(std::string::npos, ReadAll(directory_ + "/env").find("SECRET_OF_THE_CALLER"));
  EXPECT_EQ("0\n1\n2\n3\n", ReadAll(directory_ + "/fd"));
}

TEST_P(LocalEngineTest, NamedDescriptorsAreKept) {
  int ends[2];
  ASSERT_EQ(0, pipe2(ends, O_CLOEXEC));
  const std::string number = std::to_string(ends[0]);
  ASSERT_EQ(5, write(ends[1], "word\n", 5));
  ASSERT_TRUE(engine_
                  ->Start(1, {{"/bin/sh", "-c", "read word <&" + number + "; echo $word > $HERE/word"},
                              {"HERE=" + directory_},
                              {ends[0]}})
                  .ok());
  WaitForLoss(*engine_);
  close(ends[0]);
  close(ends[1]);
  EXPECT_EQ("word\n", ReadAll(directory_ + "/word"));
}

TEST_P(LocalEngineTest, ANamespaceDiesWithItsProcessOne) {
  if (GetParam() == Isolation::kNone) GTEST_SKIP() << "without namespaces nobody kills a worker's children";
  ASSERT_TRUE(StartShell(1, "sleep 1000 & sleep 1000 & read never </dev/zero").ok());
  pid_t worker = engine_->pid(1);
  const std::string own = "/proc/" + std::to_string(worker) + "/ns/";
  EXPECT_NE(Link("/proc/self/ns/pid"), Link(own + "pid"));
  EXPECT_NE(Link("/proc/self/ns/user"), Link(own + "user"));
  EXPECT_NE(Link("/proc/self/ns/ipc"), Link(own + "ipc"));
  const std::string children =
      "/proc/" + std::to_string(worker) + "/task/" + std::to_string(worker) + "/children";
  ASSERT_TRUE(Eventually([&] {
    return std::count(std::istreambuf_iterator<char>(*std::make_unique<std::ifstream>(children)), {}, ' ') ==
           2;
  }));
  pid_t grandchild = 0;
  std::ifstream(children) >> grandchild;
  engine_->StopAll();
  EXPECT_EQ(-1, kill(grandchild, 0));
}

TEST_P(LocalEngineTest, AWorkerDiesWithItsStarter) {
  int pipe_ends[2];
  ASSERT_EQ(0, pipe(pipe_ends));
  pid_t starter = fork();
  if (starter == 0) {
    (void)StartShell(1, "read never </dev/zero");
    pid_t worker = engine_->pid(1);
    (void)!write(pipe_ends[1], &worker, sizeof worker);
    raise(SIGKILL);
  }
  pid_t worker = 0;
  ASSERT_EQ(static_cast<ssize_t>(sizeof worker), read(pipe_ends[0], &worker, sizeof worker));
  waitpid(starter, nullptr, 0);
  ASSERT_GT(worker, 0);
  EXPECT_TRUE(Eventually([&] {
    const std::string stat = ReadAll("/proc/" + std::to_string(worker) + "/stat");
    return stat.empty() || stat.find(") Z ") != std::string::npos;
  }));
  close(pipe_ends[0]);
  close(pipe_ends[1]);
}

INSTANTIATE_TEST_SUITE_P(Isolations, LocalEngineTest,
                         testing::Values(Isolation::kNamespaces, Isolation::kNone),
                         [](const auto& parameter) {
                           return parameter.param == Isolation::kNone ? "Plain" : "Namespaces";
                         });

}  // namespace
}  // namespace elsewhere::engine
