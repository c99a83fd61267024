// The native semaphore, alone and under a storm: threads and processes post, wait and are interrupted while
// somebody promotes it. Every token must be accounted for.
#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>
#include <vector>

#include "shim/wire/semaphore.h"
#include "shim/wire/semaphore_share.h"

namespace elsewhere::wire {
namespace {

using Outcome = SemaphoreOutcome;

timespec After(clockid_t clock, long milliseconds) {
  timespec now{};
  clock_gettime(clock, &now);
  now.tv_nsec += milliseconds * 1'000'000;
  now.tv_sec += now.tv_nsec / 1'000'000'000;
  now.tv_nsec %= 1'000'000'000;
  return now;
}

template <class T>
T* MapShared() {
  void* const memory = mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  return new (memory) T{};
}

// The kernel's view of a task: 'S' once it sleeps.
void AwaitSleeping(pid_t pid) {
  const std::string path = "/proc/" + std::to_string(pid) + "/wchan";
  for (std::string text; text.find("futex") == std::string::npos;) {
    FILE* const file = fopen(path.c_str(), "r");
    ASSERT_NE(file, nullptr);
    char buffer[64] = {};
    const size_t got = fread(buffer, 1, sizeof buffer - 1, file);
    fclose(file);
    text.assign(buffer, got);
    if (text.find("futex") == std::string::npos) sched_yield();
  }
}

TEST(NativeSemaphore, CountsAndRefuses) {
  Semaphore semaphore{};
  EXPECT_FALSE(IsOurs(&semaphore));
  EXPECT_FALSE(SemaphoreInit(&semaphore, 0x80000000));
  ASSERT_TRUE(SemaphoreInit(&semaphore, 1));
  EXPECT_TRUE(IsOurs(&semaphore));
  EXPECT_EQ(SemaphoreWait(&semaphore), Outcome::kDone);
  EXPECT_EQ(SemaphoreTryWait(&semaphore), Outcome::kWouldBlock);
  EXPECT_EQ(SemaphorePost(&semaphore), Outcome::kDone);
  int value = -1;
  EXPECT_TRUE(SemaphoreGetValue(&semaphore, &value));
  EXPECT_EQ(value, 1);

  ASSERT_TRUE(SemaphoreInit(&semaphore, kSemaphoreMaximum));
  EXPECT_EQ(SemaphorePost(&semaphore), Outcome::kOverflow);
  EXPECT_TRUE(SemaphoreGetValue(&semaphore, &value));
  EXPECT_EQ(value, static_cast<int>(kSemaphoreMaximum));
}

TEST(NativeSemaphore, DeadlinesAreExact) {
  Semaphore semaphore{};
  SemaphoreInit(&semaphore, 0);
  for (const clockid_t clock : {CLOCK_REALTIME, CLOCK_MONOTONIC}) {
    const timespec soon = After(clock, 30);
    EXPECT_EQ(SemaphoreWait(&semaphore, &soon, clock), Outcome::kTimedOut);
    timespec now{};
    clock_gettime(clock, &now);
    EXPECT_TRUE(now.tv_sec > soon.tv_sec || (now.tv_sec == soon.tv_sec && now.tv_nsec >= soon.tv_nsec));
  }
  for (const timespec past : {timespec{0, 0}, timespec{-1, 0}, timespec{1, 999'999'999}})
    EXPECT_EQ(SemaphoreWait(&semaphore, &past), Outcome::kTimedOut);
  for (const timespec bad : {timespec{0, -1}, timespec{0, 1'000'000'000}})
    EXPECT_EQ(SemaphoreWait(&semaphore, &bad), Outcome::kInvalid);
  EXPECT_EQ(semaphore.data.load(), 0u);  // no waiter left behind
}

TEST(NativeSemaphore, ASignalInterruptsUnlessItRestarts) {
  auto* const semaphore = MapShared<Semaphore>();
  SemaphoreInit(semaphore, 0);
  for (const bool restart : {false, true}) {
    const pid_t child = fork();
    if (child == 0) {
      struct sigaction action {};
      action.sa_handler = [](int) {};
      action.sa_flags = restart ? SA_RESTART : 0;
      sigaction(SIGUSR1, &action, nullptr);
      _exit(static_cast<int>(SemaphoreWait(semaphore)));
    }
    AwaitSleeping(child);
    kill(child, SIGUSR1);
    if (restart) SemaphorePost(semaphore);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(WEXITSTATUS(status), static_cast<int>(restart ? Outcome::kDone : Outcome::kInterrupted));
  }
  EXPECT_EQ(semaphore->data.load(), 0u);
  munmap(semaphore, sizeof *semaphore);
}

TEST(NativeSemaphore, PromotionWakesWaitersAndTakesTheCount) {
  auto* const semaphore = MapShared<Semaphore>();
  SemaphoreInit(semaphore, 0);
  const pid_t child = fork();
  if (child == 0) _exit(static_cast<int>(SemaphoreWait(semaphore)));
  AwaitSleeping(child);
  uint32_t count = 9;
  EXPECT_TRUE(SemaphorePromote(semaphore, 42, &count));
  EXPECT_EQ(count, 0u);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), static_cast<int>(Outcome::kPromoted));

  EXPECT_EQ(semaphore->object.load(), 42u);
  EXPECT_FALSE(SemaphorePromote(semaphore, 42, &count));
  EXPECT_FALSE(SemaphorePromote(semaphore, 43, &count));
  EXPECT_EQ(SemaphorePost(semaphore), Outcome::kPromoted);
  EXPECT_EQ(SemaphoreTryWait(semaphore), Outcome::kPromoted);
  EXPECT_EQ(SemaphoreWait(semaphore), Outcome::kPromoted);
  int value = 0;
  EXPECT_FALSE(SemaphoreGetValue(semaphore, &value));
  EXPECT_EQ(semaphore->data.load(), kSemaphorePromoted);
  munmap(semaphore, sizeof *semaphore);
}

struct Storm {
  Semaphore semaphore;
  std::atomic<uint64_t> posted;    // native posts that were accepted
  std::atomic<uint64_t> taken;     // native waits that got a token
  std::atomic<uint32_t> promoted;  // who has seen the mark
};

// One of several identical workers, in threads and processes: random operations until it sees the mark.
void Work(Storm* storm, unsigned int seed) {
  for (;;) {
    Outcome outcome{};
    const int what = rand_r(&seed) % 8;
    if (what < 4) {
      outcome = SemaphorePost(&storm->semaphore);
      if (outcome == Outcome::kDone) storm->posted.fetch_add(1);
    } else {
      const timespec soon = After(CLOCK_MONOTONIC, rand_r(&seed) % 3);
      outcome = what == 4   ? SemaphoreTryWait(&storm->semaphore)
                : what == 5 ? SemaphoreWait(&storm->semaphore)
                            : SemaphoreWait(&storm->semaphore, &soon, CLOCK_MONOTONIC);
      if (outcome == Outcome::kDone) storm->taken.fetch_add(1);
    }
    if (outcome == Outcome::kPromoted) {
      storm->promoted.fetch_add(1);
      return;
    }
  }
}

TEST(NativeSemaphore, NoTokenIsLostOrDoubledWhenPromotedInAStorm) {
  constexpr int kProcesses = 3;
  constexpr int kThreads = 3;
  for (unsigned int round = 0; round < 40; ++round) {
    auto* const storm = MapShared<Storm>();
    SemaphoreInit(&storm->semaphore, round % 5);
    std::vector<pid_t> children;
    for (unsigned int i = 0; i < kProcesses; ++i) {
      const pid_t child = fork();
      if (child == 0) {
        struct sigaction action {};
        action.sa_handler = [](int) {};
        sigaction(SIGALRM, &action, nullptr);
        const itimerval often{{0, 500}, {0, 500}};
        setitimer(ITIMER_REAL, &often, nullptr);
        std::vector<std::thread> threads;
        for (unsigned int t = 0; t < kThreads; ++t)
          threads.emplace_back(Work, storm, round * 100 + i * 10 + t);
        for (std::thread& thread : threads) thread.join();
        _exit(0);
      }
      children.push_back(child);
    }
    const timespec until = After(CLOCK_MONOTONIC, 2 + round % 7);
    Semaphore pause{};
    SemaphoreInit(&pause, 0);
    SemaphoreWait(&pause, &until, CLOCK_MONOTONIC);
    uint32_t count = 0;
    ASSERT_TRUE(SemaphorePromote(&storm->semaphore, 1, &count));
    for (const pid_t child : children) {
      int status = 0;
      ASSERT_EQ(waitpid(child, &status, 0), child);
      EXPECT_EQ(status, 0);
    }
    EXPECT_EQ(storm->promoted.load(), static_cast<uint32_t>(kProcesses * kThreads));
    EXPECT_EQ(round % 5 + storm->posted.load(), storm->taken.load() + count);
    EXPECT_EQ(storm->semaphore.data.load(), kSemaphorePromoted);
    munmap(storm, sizeof *storm);
  }
}

TEST(NativeSemaphore, HandsTurnsBetweenProcesses) {
  struct Turns {
    Semaphore ping, pong;
  };
  auto* const turns = MapShared<Turns>();
  SemaphoreInit(&turns->ping, 0);
  SemaphoreInit(&turns->pong, 0);
  constexpr int kTurns = 20'000;
  const pid_t child = fork();
  if (child == 0) {
    for (int i = 0; i < kTurns; ++i) {
      SemaphoreWait(&turns->ping);
      SemaphorePost(&turns->pong);
    }
    _exit(0);
  }
  for (int i = 0; i < kTurns; ++i) {
    SemaphorePost(&turns->ping);
    ASSERT_EQ(SemaphoreWait(&turns->pong), Outcome::kDone);
  }
  ASSERT_EQ(waitpid(child, nullptr, 0), child);
  EXPECT_EQ(turns->ping.data.load(), 0u);
  EXPECT_EQ(turns->pong.data.load(), 0u);
  munmap(turns, sizeof *turns);
}

// Tokens come from another host and go there again, while somebody asks for the value.
TEST(SemaphoreShareWord, TokensThatChangeHostsAreCountedOnce) {
  constexpr uint64_t kObject = 7;
  constexpr uint32_t kHere = 1000, kThere = 500, kNone = 0;
  auto* const share = MapShared<SemaphoreShare>();
  ASSERT_TRUE(SharePut(share, kObject, {kHere, 0}, &kThere));
  std::atomic<bool> over = false;
  std::atomic<int> told = 0;
  int wrong = 0;
  std::thread asker([&] {
    for (int value = 0; !over;) {
      if (!ShareGetValue(share, &value)) continue;
      ++told;
      wrong += value != kHere + kThere;
    }
  });
  // The other thread may start late.
  for (uint32_t i = 0; i < 200'000 || told < 100; ++i) {
    SharePut(share, kObject, {kThere, 0}, &kNone);
    ShareTakeAll(share);
    SharePut(share, kObject, {kHere, i}, &kThere);
  }
  over = true;
  asker.join();
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace elsewhere::wire
