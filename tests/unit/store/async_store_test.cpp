#include "shim/store/async_store.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/resource.h>
#include <unistd.h>

#include <thread>

#include "scratch_directory.h"
#include "shim/store/directory_store.h"

namespace elsewhere::store {
namespace {

class AsyncStoreTest : public testing::Test {
 protected:
  void DrainUntil(size_t wanted) {
    while (delivered_ < wanted) {
      pollfd ready{async_->event_fd(), POLLIN, 0};
      ASSERT_EQ(poll(&ready, 1, 20000), 1);
      delivered_ += async_->Drain();
    }
  }

  ScratchDirectory directory_;
  std::unique_ptr<AsyncStore> async_ =
      *AsyncStore::Create(*DirectoryStore::Open(directory_.path() + "/store"), 3);
  size_t delivered_ = 0;
};

TEST_F(AsyncStoreTest, DeliversCompletionsOnTheDrainingThread) {
  auto self = std::this_thread::get_id();
  std::string read;
  async_->Put("key", "body", {}, [&](Result<ObjectInfo> put) {
    EXPECT_TRUE(put.ok());
    EXPECT_EQ(std::this_thread::get_id(), self);
    async_->Get("key", {}, [&](Result<Object> got) { read = got->body; });
  });
  DrainUntil(2);
  EXPECT_EQ(read, "body");
  EXPECT_EQ(async_->pending(), 0u);
}

TEST_F(AsyncStoreTest, DeliversErrors) {
  int code = 0;
  async_->Get("missing", {}, [&](Result<Object> got) { code = got.error().code; });
  DrainUntil(1);
  EXPECT_EQ(code, ENOENT);
}

TEST_F(AsyncStoreTest, WhereNoThreadCanBeStartedTheCallerDoesTheWork) {
  const auto in_a_process_without_room = [this] {
    const rlimit none{0, 0};
    if (setrlimit(RLIMIT_NPROC, &none) != 0) _exit(2);
    if (geteuid() == 0 && setresuid(65534, 65534, 65534) != 0) _exit(3);
    int code = 0;
    async_->Get("missing", {}, [&](Result<Object> got) { code = got.error().code; });
    DrainUntil(1);
    _exit(code != 0 ? 0 : 4);
  };
  EXPECT_EXIT(in_a_process_without_room(), testing::ExitedWithCode(0), "");
}

TEST_F(AsyncStoreTest, ManyOperationsFromManyThreadsAllComplete) {
  std::vector<std::thread> threads;
  std::atomic<int> good{0};
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 100; ++i)
        async_->Put(std::to_string(t) + "/" + std::to_string(i), "x", {},
                    [&](Result<ObjectInfo> put) { good += put.ok(); });
    });
  DrainUntil(400);
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(good, 400);
  uint64_t deleted = 0;
  async_->DeletePrefix("", [&](Result<uint64_t> count) { deleted = *count; });
  DrainUntil(401);
  EXPECT_EQ(deleted, 400u);
}

TEST_F(AsyncStoreTest, DestructionWithWorkInProgressReturns) {
  for (int i = 0; i < 200; ++i)
    async_->Put(std::to_string(i), std::string(10000, 'x'), {}, [](auto) { FAIL(); });
  async_.reset();
}

}  // namespace
}  // namespace elsewhere::store
