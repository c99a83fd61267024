// Semaphores and shared memory under the preload, in a session whose agent cannot be reached: everything must
// work natively. Run with LD_PRELOAD.
#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <string>

#include "shim/wire/semaphore.h"

namespace {

using elsewhere::wire::IsOurs;
using elsewhere::wire::Semaphore;

bool HasOurWord(const sem_t& semaphore) {
  return IsOurs(reinterpret_cast<const Semaphore*>(&semaphore));
}

// The line of /proc/self/maps that covers the address.
std::string LineOf(const void* address) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    unsigned long start = 0, end = 0;
    sscanf(line.c_str(), "%lx-%lx", &start, &end);
    const auto at = reinterpret_cast<unsigned long>(address);
    if (at >= start && at < end) return line;
  }
  return "";
}

// Asked of the kernel: for libc's fcntl ours do not exist.
int OpenDescriptors() {
  int count = 0;
  for (int fd = 0; fd < 4096; ++fd) count += syscall(SYS_fcntl, fd, F_GETFD) >= 0;
  return count;
}

struct Shared {
  sem_t there, back;
  int value;
};

class SharedMemory : public testing::Test {
 protected:
  void SetUp() override {
    void* start = mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(start, MAP_FAILED);
    shared_ = static_cast<Shared*>(start);
  }
  void TearDown() override { munmap(shared_, 8192); }
  Shared* shared_ = nullptr;
};

TEST_F(SharedMemory, AnonymousIsAnObjectThatCanBeHandedOn) {
  EXPECT_NE(LineOf(shared_).find("memfd:elsewhere-shared"), std::string::npos) << LineOf(shared_);
}

TEST_F(SharedMemory, SemaphoresPassBetweenProcesses) {
  ASSERT_EQ(sem_init(&shared_->there, 1, 0), 0);
  ASSERT_EQ(sem_init(&shared_->back, 1, 0), 0);
  EXPECT_TRUE(HasOurWord(shared_->there));
  const pid_t child = fork();
  if (child == 0) {
    for (int round = 0; round < 1000; ++round) {
      sem_wait(&shared_->there);
      ++shared_->value;
      sem_post(&shared_->back);
    }
    _exit(0);
  }
  for (int round = 0; round < 1000; ++round) {
    ASSERT_EQ(sem_post(&shared_->there), 0);
    ASSERT_EQ(sem_wait(&shared_->back), 0);
    ASSERT_EQ(shared_->value, round + 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(sem_destroy(&shared_->there), 0);
  EXPECT_FALSE(HasOurWord(shared_->there));
}

TEST_F(SharedMemory, ErrorsAreLibcs) {
  sem_t* semaphore = &shared_->there;
  EXPECT_EQ(sem_init(semaphore, 1, 0x80000000U), -1);
  EXPECT_EQ(errno, EINVAL);
  ASSERT_EQ(sem_init(semaphore, 1, 0x7fffffff), 0);
  EXPECT_EQ(sem_post(semaphore), -1);
  EXPECT_EQ(errno, EOVERFLOW);
  ASSERT_EQ(sem_init(semaphore, 1, 1), 0);
  int value = -1;
  EXPECT_EQ(sem_getvalue(semaphore, &value), 0);
  EXPECT_EQ(value, 1);
  EXPECT_EQ(sem_trywait(semaphore), 0);
  EXPECT_EQ(sem_trywait(semaphore), -1);
  EXPECT_EQ(errno, EAGAIN);
  timespec past{1, 0}, invalid{1, 1'000'000'000}, before_time{-5, 0};
  EXPECT_EQ(sem_timedwait(semaphore, &past), -1);
  EXPECT_EQ(errno, ETIMEDOUT);
  EXPECT_EQ(sem_timedwait(semaphore, &before_time), -1);
  EXPECT_EQ(errno, ETIMEDOUT);
  EXPECT_EQ(sem_timedwait(semaphore, &invalid), -1);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(sem_clockwait(semaphore, CLOCK_MONOTONIC, &past), -1);
  EXPECT_EQ(errno, ETIMEDOUT);
  EXPECT_EQ(sem_clockwait(semaphore, CLOCK_PROCESS_CPUTIME_ID, &past), -1);
  EXPECT_EQ(errno, EINVAL);
}

TEST_F(SharedMemory, AHandlerInterruptsAWait) {
  ASSERT_EQ(sem_init(&shared_->there, 1, 0), 0);
  struct sigaction action {};
  action.sa_handler = [](int) {};
  sigaction(SIGALRM, &action, nullptr);
  ualarm(20000, 0);
  EXPECT_EQ(sem_wait(&shared_->there), -1);
  EXPECT_EQ(errno, EINTR);
}

TEST_F(SharedMemory, APrivateSemaphoreIsLibcs) {
  sem_t semaphore;
  ASSERT_EQ(sem_init(&semaphore, 0, 1), 0);
  EXPECT_FALSE(HasOurWord(semaphore));
  // Where one of ours was not destroyed before its memory was used again:
  ASSERT_EQ(sem_init(&shared_->there, 1, 1), 0);
  ASSERT_EQ(sem_init(&shared_->there, 0, 1), 0);
  EXPECT_FALSE(HasOurWord(shared_->there));
  // Shared is asked for, but no other process has this memory.
  ASSERT_EQ(sem_init(&semaphore, 1, 1), 0);
  EXPECT_FALSE(HasOurWord(semaphore));
}

TEST(Mappings, DescriptorsGoWithTheLastMapping) {
  const int before = OpenDescriptors();
  char* start =
      static_cast<char*>(mmap(nullptr, 16384, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  EXPECT_EQ(OpenDescriptors(), before + 1);
  ASSERT_EQ(munmap(start + 4096, 4096), 0);
  EXPECT_EQ(OpenDescriptors(), before + 1);
  ASSERT_EQ(munmap(start, 4096), 0);
  EXPECT_EQ(OpenDescriptors(), before + 1);
  ASSERT_EQ(munmap(start + 8192, 8192), 0);
  EXPECT_EQ(OpenDescriptors(), before);
}

TEST(Mappings, AnUnlinkedFileOfAMemoryFileSystemKeepsADescriptor) {
  char name[] = "/dev/shm/elsewhere-test-XXXXXX";
  const int file = mkstemp(name);
  ASSERT_GE(file, 0);
  unlink(name);
  ASSERT_EQ(ftruncate(file, 4096), 0);
  const int before = OpenDescriptors();
  void* start = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  void* again = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  EXPECT_EQ(OpenDescriptors(), before + 1) << "one for both";
  sem_t* semaphore = static_cast<sem_t*>(start);
  ASSERT_EQ(sem_init(semaphore, 1, 3), 0);
  EXPECT_TRUE(HasOurWord(*semaphore));
  munmap(start, 4096);
  munmap(again, 4096);
  EXPECT_EQ(OpenDescriptors(), before);
  close(file);
}

TEST(Mappings, MovedMappingsAreStillKnown) {
  char* start =
      static_cast<char*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  char* room = static_cast<char*>(mmap(nullptr, 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  char* moved = static_cast<char*>(mremap(start, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, room));
  ASSERT_EQ(moved, room);
  sem_t* semaphore = reinterpret_cast<sem_t*>(moved);
  ASSERT_EQ(sem_init(semaphore, 1, 0), 0);
  EXPECT_TRUE(HasOurWord(*semaphore));
  // A private mapping laid over it ends that.
  ASSERT_EQ(mmap(moved, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), moved);
  ASSERT_EQ(sem_init(semaphore, 1, 0), 0);
  EXPECT_FALSE(HasOurWord(*semaphore));
  munmap(room, 8192);
}

TEST(Named, WithoutAnAgentTheyAreLibcs) {
  const std::string name = "/elsewhere-test-" + std::to_string(getpid());
  sem_t* semaphore = sem_open(name.c_str(), O_CREAT | O_EXCL, 0600, 1U);
  ASSERT_NE(semaphore, SEM_FAILED);
  EXPECT_FALSE(HasOurWord(*semaphore));
  EXPECT_EQ(sem_unlink(name.c_str()), 0);
  EXPECT_EQ(sem_wait(semaphore), 0);
  EXPECT_EQ(sem_close(semaphore), 0);
}

}  // namespace
