// Workers: a bounded pool of threads for requests that run side by side.
// Thread-safety: all methods may be called from any thread. A task must not wait for another task of the same
// pool, except through ForEach, whose caller takes part in the work itself.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "shim/wire/result.h"

namespace elsewhere::file {

class Workers {
 public:
  explicit Workers(unsigned threads) : limit_(threads) {}
  ~Workers();  // runs what is queued, then returns
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  void Start(std::function<void()> task);

  // Calls task(0) ... task(count - 1), several at a time; the error of the lowest index that failed. After a
  // failure no further ones are begun.
  Status ForEach(size_t count, const std::function<Status(size_t)>& task);

 private:
  void Work();

  const unsigned limit_;
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::deque<std::function<void()>> tasks_;
  std::vector<std::thread> threads_;
  unsigned idle_ = 0;
  bool stopping_ = false;
};

}  // namespace elsewhere::file
