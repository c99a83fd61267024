#include "runtime/launch/processes.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "runtime/launch/session_directory.h"

namespace elsewhere::runtime {
namespace {

using std::chrono::milliseconds;

// Runs a shell script with the environment given; returns when it has written its first line.
pid_t StartShell(const std::string& script, const std::string& variable, int extra = -1) {
  int ends[2];
  EXPECT_EQ(0, pipe2(ends, O_CLOEXEC));
  pid_t pid = fork();
  if (pid == 0) {
    dup2(ends[1], 1);
    if (extra >= 0) fcntl(extra, F_SETFD, 0);
    const char* arguments[] = {"sh", "-c", script.c_str(), nullptr};
    const char* environment[] = {"PATH=/usr/bin:/bin", variable.c_str(), nullptr};
    execve("/bin/sh", const_cast<char**>(arguments), const_cast<char**>(environment));
    _exit(127);
  }
  close(ends[1]);
  char byte;
  EXPECT_EQ(1, read(ends[0], &byte, 1));
  close(ends[0]);
  return pid;
}

TEST(Processes, AreFoundByTheirEnvironmentAndKilledWithTheirChildren) {
  const SessionMark mark{MakeSessionId(), -1, 0};
  pid_t pid = StartShell("sleep 1000 & echo; wait", "ELSEWHERE_SESSION=" + mark.id);
  std::vector<pid_t> found = FindProcesses(mark);
  EXPECT_EQ(2U, found.size());
  EXPECT_NE(found.end(), std::find(found.begin(), found.end(), pid));
  EXPECT_TRUE(KillProcesses(mark, milliseconds(5000)));
  int status = 0;
  EXPECT_EQ(pid, waitpid(pid, &status, 0));
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_TRUE(FindProcesses(mark).empty());
}

TEST(Processes, AreFoundByTheirLifelineWhenTheEnvironmentIsGone) {
  int ends[2];
  ASSERT_EQ(0, pipe2(ends, O_CLOEXEC));
  int lifeline = fcntl(ends[1], F_DUPFD_CLOEXEC, 500);
  close(ends[1]);
  struct stat status;
  ASSERT_EQ(0, fstat(ends[0], &status));
  const SessionMark mark{MakeSessionId(), lifeline, status.st_ino};
  pid_t pid = StartShell("echo; exec sleep 1000", "NOTHING=1", lifeline);
  close(lifeline);
  EXPECT_EQ(std::vector<pid_t>{pid}, FindProcesses(mark));
  EXPECT_TRUE(KillProcesses(mark, milliseconds(5000)));
  waitpid(pid, nullptr, 0);
  close(ends[0]);
}

TEST(Processes, AreFoundWhileTheyExecuteAProgram) {
  const SessionMark mark{MakeSessionId(), -1, 0};
  pid_t pid = StartShell("echo; exec sh -c 'exec sh -c \"$0\" \"$0\"' 'exec sh -c \"$0\" \"$0\"'",
                         "ELSEWHERE_SESSION=" + mark.id);
  int found = 0;
  for (int round = 0; round < 200; ++round) found += FindProcesses(mark) == std::vector<pid_t>{pid};
  EXPECT_EQ(200, found);
  kill(pid, SIGKILL);
  waitpid(pid, nullptr, 0);
}

TEST(Processes, OthersAreNotFound) {
  const std::string id = MakeSessionId();
  pid_t pid = StartShell("echo; sleep 1000", "ELSEWHERE_SESSION=" + id + "0");
  EXPECT_TRUE(FindProcesses({id, -1, 0}).empty());
  EXPECT_TRUE(KillProcesses({id + "0", -1, 0}, milliseconds(5000)));
  waitpid(pid, nullptr, 0);
}

}  // namespace
}  // namespace elsewhere::runtime
