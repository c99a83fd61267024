// Process-shared pthread objects in their native state, between threads, also while they are promoted.
#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>

#include "shim/wire/shared_barrier.h"
#include "shim/wire/shared_condition.h"
#include "shim/wire/shared_mutex.h"
#include "shim/wire/shared_read_write_lock.h"
#include "shim/wire/shared_spin_lock.h"

namespace elsewhere::wire {
namespace {

SharedThread Me() {
  return {0, static_cast<uint32_t>(raw::Syscall(SYS_gettid))};
}

void InThreads(int count, const std::function<void(int)>& body) {
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i) threads.emplace_back(body, i);
  for (std::thread& thread : threads) thread.join();
}

TEST(NativeMutex, CountsExactlyUntilItIsPromoted) {
  for (const uint32_t flags : {kMutexNormal, kMutexRecursive, kMutexErrorCheck}) {
    Mutex mutex;
    MutexInit(&mutex, flags);
    long counter = 0;
    std::atomic<long> done{0};
    std::atomic<int> leftovers{0};
    SharedObjectState taken;
    std::thread promoter([&] {
      while (done.load() < 5000) std::this_thread::yield();
      EXPECT_TRUE(MutexPromote(&mutex, 77, &taken));
      EXPECT_FALSE(MutexPromote(&mutex, 78, &taken));
    });
    InThreads(3, [&](int) {
      for (;;) {
        if (MutexLock(&mutex, Me(), Blocking::kWait, {}) == kPromoted) return;
        counter = counter + 1;
        done.fetch_add(1);
        if (MutexUnlock(&mutex, Me()) == kPromoted) {
          leftovers.fetch_add(1);  // its owner may only unlock it at the agent
          return;
        }
      }
    });
    promoter.join();
    EXPECT_EQ(counter, done.load());
    EXPECT_EQ(taken.held, leftovers.load() == 1);
    EXPECT_EQ(mutex.object.load(), 77U);
    EXPECT_EQ(taken.flags, flags);
    EXPECT_TRUE(IsOurs(&mutex));
  }
}

TEST(NativeMutex, PromotionTakesDepthAndInconsistency) {
  Mutex mutex;
  MutexInit(&mutex, kMutexRecursive | kMutexRobust);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(MutexLock(&mutex, Me(), Blocking::kWait, {}), 0);
  const SharedThread stranger{1, Me().thread};  // the same number on another host
  EXPECT_EQ(MutexLock(&mutex, stranger, Blocking::kTry, {}), EBUSY);
  EXPECT_EQ(MutexUnlock(&mutex, stranger), EPERM);
  EXPECT_EQ(MutexUnlock(&mutex, Me()), 0);
  SharedObjectState taken;
  EXPECT_TRUE(MutexPromote(&mutex, 1, &taken));
  EXPECT_TRUE(taken.held);
  EXPECT_EQ(taken.owner, Me().thread);
  EXPECT_EQ(taken.count, 1U);
  EXPECT_EQ(MutexUnlock(&mutex, Me()), kPromoted);

  // What the kernel leaves of a dead owner.
  MutexInit(&mutex, kMutexRobust);
  mutex.state.store(FUTEX_OWNER_DIED);
  EXPECT_EQ(MutexLock(&mutex, Me(), Blocking::kTry, {}), EOWNERDEAD);
  taken = {};
  EXPECT_TRUE(MutexPromote(&mutex, 1, &taken));
  EXPECT_TRUE(taken.inconsistent);
  MutexInit(&mutex, kMutexRobust);
  mutex.state.store(FUTEX_OWNER_DIED);
  EXPECT_EQ(MutexLock(&mutex, Me(), Blocking::kTry, {}), EOWNERDEAD);
  EXPECT_EQ(MutexUnlock(&mutex, Me()), 0);
  EXPECT_EQ(MutexLock(&mutex, Me(), Blocking::kTry, {}), ENOTRECOVERABLE);
  taken = {};
  EXPECT_TRUE(MutexPromote(&mutex, 1, &taken));
  EXPECT_TRUE(taken.not_recoverable && !taken.held);
}

TEST(NativeCondition, PromotionTellsWhoWasSignalled) {
  Condition condition;
  ConditionInit(&condition, 0);
  uint32_t before = 0, after = 0;
  ASSERT_TRUE(ConditionEnter(&condition, &before));
  EXPECT_EQ(ConditionSignal(&condition, false), 0);
  ASSERT_TRUE(ConditionEnter(&condition, &after));
  int slept = 1;
  std::thread sleeper([&] { slept = ConditionSleep(&condition, after, {}); });
  SharedObjectState taken;
  EXPECT_TRUE(ConditionPromote(&condition, 5, &taken));
  sleeper.join();
  EXPECT_EQ(slept, kPromoted);
  EXPECT_EQ(ConditionSleep(&condition, before, {}), 0);
  EXPECT_EQ(taken.count, after);
  EXPECT_EQ(ConditionSignal(&condition, true), kPromoted);
  const uint32_t waiters = condition.waiters.load();
  EXPECT_FALSE(ConditionEnter(&condition, &after));
  EXPECT_EQ(condition.waiters.load(), waiters);
}

TEST(NativeCondition, DestroyingWaitsForTheLastToLeave) {
  Condition condition;
  ConditionInit(&condition, 0);
  uint32_t sequence = 0;
  ASSERT_TRUE(ConditionEnter(&condition, &sequence));
  EXPECT_EQ(ConditionSignal(&condition, true), 0);
  std::atomic<bool> left{false};
  std::thread waiter([&] {
    EXPECT_EQ(ConditionSleep(&condition, sequence, {}), 0);
    left.store(true);
    ConditionLeave(&condition);
  });
  EXPECT_EQ(ConditionDestroy(&condition), 0);
  EXPECT_TRUE(left.load());
  EXPECT_FALSE(IsOurs(&condition));
  waiter.join();
}

TEST(NativeBarrier, RoundsAndPromotion) {
  Barrier barrier;
  BarrierInit(&barrier, 4);
  std::atomic<int> serial{0};
  InThreads(4, [&](int) {
    for (int round = 0; round < 500; ++round) serial.fetch_add(BarrierWait(&barrier) != 0);
  });
  EXPECT_EQ(serial.load(), 500);
  std::atomic<int> promoted{0};
  SharedObjectState taken;
  std::thread promoter([&] {
    while (shared_detail::High(barrier.state.load()) != 3) std::this_thread::yield();
    EXPECT_TRUE(BarrierPromote(&barrier, 3, &taken));
  });
  InThreads(3, [&](int) { promoted.fetch_add(BarrierWait(&barrier) == kPromoted); });
  promoter.join();
  EXPECT_EQ(promoted.load(), 3);
  EXPECT_EQ(taken.count, 4U);
  EXPECT_EQ(barrier.inside.load(), 0U);
}

TEST(NativeReadWriteLock, WritersAreAloneUntilItIsPromoted) {
  for (const uint32_t kind : {0U, kReadWritePrefersWriters}) {
    ReadWriteLock lock;
    ReadWriteInit(&lock, kind);
    long a = 0, b = 0;
    std::atomic<int> writes{0};
    std::atomic<bool> torn{false};
    InThreads(4, [&](int which) {
      for (int i = 0; i < 2000; ++i) {
        if (which < 2) {
          EXPECT_EQ(WriteLock(&lock, Me(), Blocking::kWait, {}), 0);
          a = a + 1;
          b = b + 1;
          writes.fetch_add(1);
        } else {
          EXPECT_EQ(ReadLock(&lock, Me(), Blocking::kWait, {}), 0);
          if (a != b) torn.store(true);
        }
        EXPECT_EQ(ReadWriteUnlock(&lock), 0);
      }
    });
    EXPECT_FALSE(torn.load());
    EXPECT_EQ(a, writes.load());
    EXPECT_EQ(ReadWriteUnlock(&lock), EPERM);
    EXPECT_EQ(ReadLock(&lock, Me(), Blocking::kTry, {}), 0);
    EXPECT_EQ(ReadLock(&lock, Me(), Blocking::kTry, {}), 0);
    EXPECT_EQ(ReadWriteDestroy(&lock), EBUSY);
    SharedObjectState taken;
    EXPECT_TRUE(ReadWritePromote(&lock, 9, &taken));
    EXPECT_EQ(taken.count, 2U);
    EXPECT_FALSE(taken.held);
    EXPECT_EQ(WriteLock(&lock, Me(), Blocking::kWait, {}), kPromoted);
  }
}

TEST(NativeSpinLock, CountsAndCarriesItsNumber) {
  SpinLock lock;
  SpinInit(&lock);
  long counter = 0;
  InThreads(3, [&](int) {
    for (int i = 0; i < 5000; ++i) {
      EXPECT_EQ(SpinLockNow(&lock, Blocking::kWait), 0);
      counter = counter + 1;
      EXPECT_EQ(SpinUnlock(&lock), 0);
    }
  });
  EXPECT_EQ(counter, 15000);
  EXPECT_EQ(SpinLockNow(&lock, Blocking::kTry), 0);
  EXPECT_EQ(SpinLockNow(&lock, Blocking::kTry), EBUSY);
  SharedObjectState taken;
  EXPECT_TRUE(SpinPromote(&lock, kSpinLocks - 1, &taken));
  EXPECT_TRUE(taken.held && IsOurs(&lock));
  EXPECT_EQ(ObjectOf(&lock), kSpinLocks - 1);
  EXPECT_EQ(SpinUnlock(&lock), kPromoted);
}

// The comparisons by which private objects are told from shared ones.
TEST(NativeObjects, LibcsOwnAreNotTakenForOurs) {
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
  pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
  pthread_barrier_t barrier;
  pthread_spinlock_t spin;
  std::memset(&barrier, 0xff, sizeof barrier);
  pthread_barrier_init(&barrier, nullptr, 2);
  pthread_spin_init(&spin, PTHREAD_PROCESS_PRIVATE);
  const auto* ours = reinterpret_cast<const Mutex*>(&mutex);
  EXPECT_EQ(ours->kind & kMutexSharedBit, 0U);
  EXPECT_EQ(reinterpret_cast<const Condition*>(&condition)->flags & kConditionShared, 0U);
  EXPECT_EQ(reinterpret_cast<const ReadWriteLock*>(&lock)->shared, 0U);
  EXPECT_EQ(reinterpret_cast<const Barrier*>(&barrier)->shared, 0U);
  EXPECT_FALSE(IsOurs(reinterpret_cast<const SpinLock*>(const_cast<const int*>(&spin))));

  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_mutex_init(&mutex, &attributes);
  EXPECT_NE(ours->kind & kMutexSharedBit, 0U);
  EXPECT_FALSE(IsOurs(ours));
}

}  // namespace
}  // namespace elsewhere::wire
