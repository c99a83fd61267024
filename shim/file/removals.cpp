#include "shim/file/removals.h"

#include <algorithm>
#include <utility>

namespace elsewhere::file {
namespace {

// Where what is below the directory would stand; "": everything is below it.
std::string Below(const std::string& key) {
  return key.empty() ? "" : key + "/";
}

}  // namespace

Removals::~Removals() {
  Wait("");
}

bool Removals::IsGone(const std::string& key) const {
  std::lock_guard lock(mutex_);
  return gone_.contains(key);
}

std::set<std::string> Removals::GoneBelow(const std::string& prefix) const {
  std::lock_guard lock(mutex_);
  std::set<std::string> below;
  for (auto at = gone_.lower_bound(prefix); at != gone_.end() && at->starts_with(prefix); ++at)
    below.insert(*at);
  return below;
}

size_t Removals::Waiting() const {
  std::lock_guard lock(mutex_);
  return gone_.size();
}

void Removals::Add(const std::string& key) {
  std::unique_lock lock(mutex_);
  WaitFor(lock, [&] { return gone_.size() < kMostWaiting; });
  gone_.insert(key);
  unsent_.insert(key);
  failed_.erase(key);
  if (sending_ >= kSentTogether || unsent_.size() < sending_ * kBatch) return;
  ++sending_;
  senders_.Start([this] { Send(); });
}

// While a request is on its way, those that come are collected for the next.
void Removals::Send() {
  std::unique_lock lock(mutex_);
  while (!unsent_.empty()) {
    const auto end = std::next(unsent_.begin(), std::ptrdiff_t(std::min(unsent_.size(), kBatch)));
    const std::vector<std::string> batch(unsent_.begin(), end);
    unsent_.erase(unsent_.begin(), end);
    lock.unlock();
    auto deleted = store_->DeleteMany(batch);
    lock.lock();
    for (auto& key : batch) {
      gone_.erase(key);
      if (!deleted) failed_.insert_or_assign(key, deleted.error());
    }
    if (!deleted) returned_();
    done_.notify_all();
  }
  --sending_;
  done_.notify_all();
}

bool Removals::Waits(const std::string& key) const {
  if (gone_.contains(key)) return true;
  const auto below = gone_.lower_bound(Below(key));
  return below != gone_.end() && below->starts_with(Below(key));
}

void Removals::WaitFor(std::unique_lock<std::mutex>& lock, const std::function<bool()>& done) {
  ++waiters_;
  done_.wait(lock, done);
  --waiters_;
}

unsigned Removals::waiters() const {
  std::lock_guard lock(mutex_);
  return waiters_;
}

void Removals::Wait(const std::string& key) {
  std::unique_lock lock(mutex_);
  WaitFor(lock, [&] { return !Waits(key); });
}

Status Removals::Settle(const std::string& key) {
  std::unique_lock lock(mutex_);
  WaitFor(lock, [&] { return !Waits(key); });
  if (failed_.empty()) return Ok{};
  Status first = Ok{};
  const auto report = [&](auto at) {
    if (first) first = at->second;
    return failed_.erase(at);
  };
  if (auto own = failed_.find(key); own != failed_.end()) report(own);
  const std::string below = Below(key);
  for (auto at = failed_.lower_bound(below); at != failed_.end() && at->first.starts_with(below);)
    at = report(at);
  return first;
}

std::vector<Removals::Failure> Removals::Finish() {
  std::unique_lock lock(mutex_);
  WaitFor(lock, [&] { return gone_.empty(); });
  std::vector<Failure> failures;
  for (auto& [key, error] : std::exchange(failed_, {})) failures.push_back({key, error});
  return failures;
}

}  // namespace elsewhere::file
