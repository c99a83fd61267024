#include "runtime/launch/session_directory.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace elsewhere::runtime {
namespace {

class SessionDirectoryTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/elsewhere-sessions-XXXXXX";
    ASSERT_NE(nullptr, mkdtemp(name));
    base_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(base_); }

  std::vector<std::string> Sweep() {
    std::vector<std::string> ended;
    RemoveDeadSessions(base_, [&](const std::string& id) { ended.push_back(id); });
    return ended;
  }

  std::string base_;
};

TEST_F(SessionDirectoryTest, IdsAreLongAndDiffer) {
  EXPECT_EQ(32U, MakeSessionId().size());
  EXPECT_NE(MakeSessionId(), MakeSessionId());
}

TEST_F(SessionDirectoryTest, NobodyElseMayLookIntoIt) {
  Result<SessionDirectory> made = SessionDirectory::Make(base_, MakeSessionId());
  ASSERT_TRUE(made.ok()) << made.error().message;
  struct stat status;
  ASSERT_EQ(0, stat(made->layout().directory().c_str(), &status));
  const bool root = geteuid() == 0;
  EXPECT_EQ(root ? 0711U : 0700U, status.st_mode & 07777U);
  // What root's processes find after they became another user's cannot be listed.
  const std::string sockets = std::filesystem::path(made->layout().AgentSocket(0)).parent_path();
  EXPECT_EQ(root, sockets != made->layout().directory());
  ASSERT_EQ(0, stat(sockets.c_str(), &status));
  EXPECT_EQ(root ? 0711U : 0700U, status.st_mode & 07777U);
}

TEST_F(SessionDirectoryTest, ALivingSessionIsLeftAlone) {
  Result<SessionDirectory> made = SessionDirectory::Make(base_, MakeSessionId());
  ASSERT_TRUE(made.ok());
  EXPECT_TRUE(Sweep().empty());
  EXPECT_TRUE(std::filesystem::exists(made->layout().directory()));
}

TEST_F(SessionDirectoryTest, ADeadSessionIsRemoved) {
  const std::string id = MakeSessionId();
  pid_t launcher = fork();
  if (launcher == 0) {
    Result<SessionDirectory> made = SessionDirectory::Make(base_, id);
    if (made.ok()) std::ofstream(made->layout().directory() + "/file") << "left";
    kill(getpid(), SIGKILL);
  }
  waitpid(launcher, nullptr, 0);
  ASSERT_TRUE(std::filesystem::exists(base_ + "/elsewhere-" + id + "/file"));
  EXPECT_EQ(std::vector<std::string>{id}, Sweep());
  EXPECT_TRUE(std::filesystem::is_empty(base_));
}

TEST_F(SessionDirectoryTest, StrangersWithASimilarNameAreLeftAlone) {
  for (const char* name :
       {"elsewhere-", "elsewhere-engine-abc", "elsewhere-0123456789abcdef0123456789abcdeX"})
    std::filesystem::create_directory(base_ + "/" + name);
  std::ofstream(base_ + "/elsewhere-0123456789abcdef0123456789abcdef") << "a file";
  EXPECT_TRUE(Sweep().empty());
  EXPECT_EQ(4, std::distance(std::filesystem::directory_iterator(base_), {}));
}

TEST_F(SessionDirectoryTest, HalfMadeDirectoriesAreRemovedWhenTheyAreOld) {
  const std::string fresh = base_ + "/.elsewhere-new-" + MakeSessionId();
  const std::string old = base_ + "/.elsewhere-new-" + MakeSessionId();
  std::filesystem::create_directory(fresh);
  std::filesystem::create_directory(old);
  std::filesystem::last_write_time(old,
                                   std::filesystem::file_time_type::clock::now() - std::chrono::minutes(5));
  Sweep();
  EXPECT_TRUE(std::filesystem::exists(fresh));
  EXPECT_FALSE(std::filesystem::exists(old));
}

}  // namespace
}  // namespace elsewhere::runtime
