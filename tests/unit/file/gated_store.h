// A store whose requests of one kind wait at a gate while it is closed, and fail while they are to fail.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "forwarding_store.h"

namespace elsewhere::file {

class GatedStore final : public ForwardingStore {
 public:
  GatedStore(std::shared_ptr<store::ObjectStore> store, std::string verb, Error failure)
      : ForwardingStore(std::move(store)), verb_(std::move(verb)), failure_(std::move(failure)) {}

  void Set(bool open, bool fails = false) {
    std::lock_guard lock(mutex_);
    open_ = open;
    fails_ = fails;
    changed_.notify_all();
  }
  void AwaitWaiting(int count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return waiting_ >= count; });
  }
  // Since it was asked last.
  int Requests() {
    std::lock_guard lock(mutex_);
    return std::exchange(requests_, 0);
  }

 private:
  std::optional<Error> Refuse(std::string_view verb) override {
    if (verb != verb_) return std::nullopt;
    std::unique_lock lock(mutex_);
    ++waiting_;
    ++requests_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return open_; });
    --waiting_;
    return fails_ ? std::optional(failure_) : std::nullopt;
  }

  const std::string verb_;
  const Error failure_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = true, fails_ = false;
  int waiting_ = 0, requests_ = 0;
};

}  // namespace elsewhere::file
