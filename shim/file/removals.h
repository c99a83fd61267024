// Removals: names that an unlink has taken away and whose objects are deleted by and by, many with one
// request
// (--write-back).
//
// Promises
//  - IsGone says so from Add until the object is deleted. Whoever puts something under such a name waits
//  first.
//  - A name whose object could not be deleted is there again. The failure is reported once: by the next
//  Settle of the name or of a directory above it, or else by Finish.
//  - At most kMostWaiting names wait; then Add waits, too.
//
// Thread-safety: all methods from any thread; Wait, Settle, Finish and a full Add block.
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "shim/file/workers.h"
#include "shim/store/object_store.h"
#include "shim/wire/result.h"

namespace elsewhere::file {

class Removals {
 public:
  static constexpr size_t kMostWaiting = 100'000;

  // `returned` is told that names are there again; it must not call back.
  Removals(std::shared_ptr<store::ObjectStore> store, std::function<void()> returned)
      : store_(std::move(store)), returned_(std::move(returned)), senders_(kSentTogether) {}
  ~Removals();

  void Add(const std::string& key);
  bool IsGone(const std::string& key) const;
  // Those that begin so.
  std::set<std::string> GoneBelow(const std::string& prefix) const;
  // Until nothing of the name, nor of what is below it as a directory, waits. "": all.
  void Wait(const std::string& key);
  // The same, and whether all could be deleted.
  Status Settle(const std::string& key);
  struct Failure {
    std::string key;
    Error error;
  };
  std::vector<Failure> Finish();
  size_t Waiting() const;
  // Calls that wait for names to be deleted.
  unsigned waiters() const;

 private:
  static constexpr unsigned kSentTogether = 4;
  static constexpr size_t kBatch =
      250;  // names of one request, of which the server takes one after the other

  void Send();
  void WaitFor(std::unique_lock<std::mutex>& lock, const std::function<bool()>& done);
  // Under the lock. Of the name or below it.
  bool Waits(const std::string& key) const;

  const std::shared_ptr<store::ObjectStore> store_;
  const std::function<void()> returned_;
  mutable std::mutex mutex_;
  std::condition_variable done_;
  std::set<std::string> gone_;    // all whose objects are perhaps still there
  std::set<std::string> unsent_;  // of them, those of no request yet
  std::map<std::string, Error> failed_;
  unsigned sending_ = 0, waiters_ = 0;
  Workers senders_;  // its own, for tasks of others wait here
};

}  // namespace elsewhere::file
