#include "runtime/launch/program.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>

namespace elsewhere::runtime {
namespace {

class ProgramTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/elsewhere-program-XXXXXX";
    ASSERT_NE(nullptr, mkdtemp(name));
    directory_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::string Write(const std::string& name, const std::string& content, mode_t mode) {
    const std::string path = directory_ + "/" + name;
    std::ofstream(path) << content;
    chmod(path.c_str(), mode);
    return path;
  }

  // The head of an ELF file with one program header.
  std::string Elf(uint16_t machine, uint32_t segment_type) {
    std::string head(120, '\0');
    head.replace(0, 7,
                 "\x7f"
                 "ELF\x02\x01\x01");
    head[18] = static_cast<char>(machine & 0xff);
    head[19] = static_cast<char>(machine >> 8);
    head[32] = 64;  // e_phoff
    head[54] = 56;  // e_phentsize
    head[56] = 1;   // e_phnum
    head[64] = static_cast<char>(segment_type);
    return head;
  }

  std::string directory_;
};

TEST_F(ProgramTest, ANameIsSearchedInPath) {
  Write("tool", "", 0644);
  const std::string later = directory_ + "/later";
  mkdir(later.c_str(), 0755);
  Write("later/tool", "#!/bin/sh\n", 0755);
  FoundProgram found = FindProgram("tool", (directory_ + ":" + later).c_str());
  ASSERT_TRUE(found.ok) << found.error.message;
  EXPECT_EQ(later + "/tool", found.program.path);
}

TEST_F(ProgramTest, NotFoundAndNotExecutableDiffer) {
  EXPECT_EQ(kExitNotFound, FindProgram("no-such-tool", directory_.c_str()).error.status);
  EXPECT_EQ(kExitNotFound, FindProgram("./no/such/tool", "/bin").error.status);
  EXPECT_EQ(kExitNotFound, FindProgram("", "/bin").error.status);
  Write("data", "x", 0644);
  EXPECT_EQ(kExitNotExecutable, FindProgram("data", directory_.c_str()).error.status);
  EXPECT_EQ(kExitNotExecutable, FindProgram(directory_, "").error.status);
}

TEST_F(ProgramTest, DirectoriesOfPathThatMayNotBeSearchedHoldNothing) {
  if (geteuid() == 0) GTEST_SKIP() << "root may search every directory";
  const std::string closed = directory_ + "/closed";
  mkdir(closed.c_str(), 0);
  EXPECT_EQ(kExitNotFound, FindProgram("tool", closed.c_str()).error.status);
  chmod(closed.c_str(), 0700);
}

TEST_F(ProgramTest, DynamicProgramsAndScriptsCanGo) {
  EXPECT_EQ("", ReasonToStayAtHome("/usr/bin/python3"));
  EXPECT_EQ("", ReasonToStayAtHome(Write("script", "#! /bin/sh -e\n", 0755)));
  EXPECT_EQ("", ReasonToStayAtHome(Write("plain", "echo\n", 0755)));
}

TEST_F(ProgramTest, StaticProgramsStayAndSoDoTheirScripts) {
  const std::string fixed = Write("static", Elf(62, 1), 0755);
  EXPECT_EQ("is statically linked", ReasonToStayAtHome(fixed));
  EXPECT_EQ("is statically linked", ReasonToStayAtHome(Write("script", "#!" + fixed + "\n", 0755)));
  EXPECT_EQ("", ReasonToStayAtHome(Write("dynamic", Elf(62, 3), 0755)));
  EXPECT_EQ("is not a 64-bit x86-64 program", ReasonToStayAtHome(Write("arm", Elf(183, 3), 0755)));
}

TEST_F(ProgramTest, SetUserIdOfAnotherStays) {
  const std::string path = Write("su", Elf(62, 3), 0755);
  if (geteuid() != 0 || chown(path.c_str(), 65534, 0) != 0) GTEST_SKIP() << "needs another owner";
  chmod(path.c_str(), 04755);
  EXPECT_EQ("is set-user-id or set-group-id", ReasonToStayAtHome(path));
}

}  // namespace
}  // namespace elsewhere::runtime
