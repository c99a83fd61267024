#include "shim/file/workers.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <memory>
#include <optional>

namespace elsewhere::file {

Workers::~Workers() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  arrived_.notify_all();
  for (auto& thread : threads_) thread.join();
}

void Workers::Start(std::function<void()> task) {
  std::unique_lock lock(mutex_);
  tasks_.push_back(std::move(task));
  if (idle_ < tasks_.size() && threads_.size() < limit_) {
    // Signals belong to the program's own threads.
    sigset_t all, saved;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &saved);
    threads_.emplace_back([this] { Work(); });
    pthread_sigmask(SIG_SETMASK, &saved, nullptr);
  }
  lock.unlock();  // which the thread would wait for as soon as it is awake
  arrived_.notify_one();
}

void Workers::Work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    ++idle_;
    arrived_.wait(lock, [this] { return stopping_ || !tasks_.empty(); });
    --idle_;
    if (tasks_.empty()) return;
    auto task = std::move(tasks_.front());
    tasks_.pop_front();
    lock.unlock();
    task();
    task = nullptr;
    lock.lock();
  }
}

Status Workers::ForEach(size_t count, const std::function<Status(size_t)>& task) {
  // Shared with helpers that may begin only after all the work is done.
  struct Round {
    std::mutex mutex;
    std::condition_variable finished;
    const std::function<Status(size_t)>* task;
    size_t count, next = 0, running = 0, failed_index = SIZE_MAX;
    std::optional<Error> error;
  };
  auto round = std::make_shared<Round>();
  round->task = &task;
  round->count = count;
  auto take_part = [round] {
    std::unique_lock lock(round->mutex);
    while (round->next < round->count && !round->error) {
      size_t index = round->next++;
      ++round->running;
      lock.unlock();
      Status status = (*round->task)(index);
      lock.lock();
      --round->running;
      if (!status && index < round->failed_index) {
        round->failed_index = index;
        round->error = status.error();
      }
    }
    if (round->running == 0) round->finished.notify_all();
  };
  for (size_t i = 1; i < std::min<size_t>(count, limit_); ++i) Start(take_part);
  take_part();
  std::unique_lock lock(round->mutex);
  round->finished.wait(lock, [&] { return round->running == 0; });
  round->next = round->count;  // helpers that come late find nothing to do
  if (round->error) return *round->error;
  return Ok{};
}

}  // namespace elsewhere::file
