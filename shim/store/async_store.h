// AsyncStore: an ObjectStore for a single-threaded event loop.
//
// Operations run on a few threads of its own, started when there is work. Each completion is queued and
// delivered by Drain() on the thread that calls it: watch event_fd() for reading and call Drain() when it is.
// Operations do not keep their order; start what must come later from the completion of what must come
// before.
//
// Ownership: what an operation refers to must live until its completion ran or the AsyncStore is destroyed.
// The destructor interrupts the store, waits for the running operations and drops all completions not yet
// delivered; therefore give each AsyncStore a store of its own. Thread-safety: Run and the shorthands may be
// called from any thread; Drain from one thread only. Completions may call Run, and must not destroy the
// AsyncStore.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "shim/store/object_store.h"

namespace elsewhere::store {

class AsyncStore {
 public:
  template <class T>
  using Done = std::function<void(Result<T>)>;

  static Result<std::unique_ptr<AsyncStore>> Create(std::shared_ptr<ObjectStore> store, unsigned threads = 4);
  ~AsyncStore();
  AsyncStore(const AsyncStore&) = delete;
  AsyncStore& operator=(const AsyncStore&) = delete;

  // Readable while completions wait. Owned by the AsyncStore.
  int event_fd() const { return event_fd_.get(); }
  ObjectStore& store() { return *store_; }

  // Calls `operation(store)` on a thread of the pool, then `done(result)` in Drain.
  template <class T>
  void Run(std::function<Result<T>(ObjectStore&)> operation, Done<T> done) {
    Enqueue([this, operation = std::move(operation), done = std::move(done)] {
      auto result = std::make_shared<Result<T>>(operation(*store_));
      Complete([result, done] { done(std::move(*result)); });
    });
  }

  // Shorthands. Bodies are taken over; use Run with views for memory that outlives the operation anyway.
  void Get(std::string key, GetOptions options, Done<Object> done);
  void Put(std::string key, std::string body, PutOptions options, Done<ObjectInfo> done);
  void Delete(std::string key, Done<Ok> done);
  void DeletePrefix(std::string prefix, Done<uint64_t> done);

  // Delivers every completion queued so far; answers how many. Never blocks.
  size_t Drain();

  // Operations that were started and whose completion was not yet delivered.
  size_t pending() const;

 private:
  AsyncStore(std::shared_ptr<ObjectStore> store, unsigned threads, UniqueFd event_fd);
  void Enqueue(std::function<void()> work);
  bool StartThread();  // under the mutex
  void Complete(std::function<void()> completion);
  void Work();

  const std::shared_ptr<ObjectStore> store_;
  const unsigned thread_limit_;
  const UniqueFd event_fd_;

  mutable std::mutex mutex_;
  std::condition_variable work_arrived_;
  std::deque<std::function<void()>> work_;
  std::vector<std::function<void()>> completions_;
  std::vector<std::thread> threads_;
  unsigned idle_ = 0;
  size_t pending_ = 0;
  bool stopping_ = false;
};

}  // namespace elsewhere::store
