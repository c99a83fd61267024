#include "runtime/worker_pool.h"

#include <gtest/gtest.h>

namespace elsewhere::runtime {
namespace {

constexpr uint64_t kGigabyte = 1 << 30;

wire::HostHello HelloOf(uint32_t slots, uint64_t memory, const image::CpuFeatures& features = {}) {
  return {.slots = slots, .memory_free = memory, .cpu_features = features, .machine = "m"};
}

TEST(WorkerPool, SiblingsSpreadAndSlotsWeigh) {
  WorkerPool pool;
  pool.Ready(1, HelloOf(1, kGigabyte));
  pool.Ready(2, HelloOf(3, kGigabyte));
  std::map<wire::HostId, int> children;
  for (int i = 0; i < 40; ++i) {
    const auto host = pool.Choose({}, 0);
    ASSERT_TRUE(host.ok());
    pool.Began(*host);
    ++children[*host];
  }
  EXPECT_EQ(children[1], 10);
  EXPECT_EQ(children[2], 30);
}

TEST(WorkerPool, EqualWorkersTakeTurnsAlsoWhenChildrenEndAtOnce) {
  WorkerPool pool;
  for (wire::HostId host = 1; host <= 3; ++host) pool.Ready(host, HelloOf(1, kGigabyte));
  std::string order;
  for (int i = 0; i < 6; ++i) order += static_cast<char>('0' + *pool.Choose({}, 0));
  EXPECT_EQ(order, "123123");
}

TEST(WorkerPool, SaysWhyNobodyCanTakeIt) {
  WorkerPool pool;
  EXPECT_EQ(pool.Choose({}, 0).error().code, ENOENT);
  pool.Expect(1);
  EXPECT_EQ(pool.Choose({}, 0).error().code, EAGAIN);
  pool.Ready(1, HelloOf(1, kGigabyte, {1}));
  EXPECT_EQ(pool.Choose({2}, 0).error().code, ENOEXEC);
  EXPECT_EQ(pool.Choose({1}, 100 * kGigabyte).error().code, ENOMEM);
  EXPECT_TRUE(pool.Choose({1}, 0).ok());
  pool.Report(1, {.running = 0, .memory_free = 0});
  EXPECT_EQ(pool.Choose({1}, 0).error().code, ENOMEM);
}

TEST(WorkerPool, TheSilentAreFoundByIntervals) {
  WorkerPool pool;
  pool.Ready(1, HelloOf(1, kGigabyte));
  pool.Ready(2, HelloOf(1, kGigabyte));
  pool.Expect(3);  // never says anything
  EXPECT_TRUE(pool.Silent(2).empty());
  EXPECT_TRUE(pool.Silent(2).empty());
  pool.Report(1, {});
  EXPECT_EQ(pool.Silent(2), (std::vector<wire::HostId>{2, 3}));
  EXPECT_TRUE(pool.Has(2));
  pool.Remove(2);
  EXPECT_FALSE(pool.Has(2));
  pool.Remove(3);
  EXPECT_TRUE(pool.Silent(2).empty());
  EXPECT_EQ(pool.Silent(2), (std::vector<wire::HostId>{1}));
}

}  // namespace
}  // namespace elsewhere::runtime
