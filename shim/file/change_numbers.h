// ChangeNumbers: whether what was asked of the store may already be out of date when the answer comes.
//
// Every change that this host makes, or hears of, gets the next number. Who asks notes the number before, and
// takes the answer for something to remember only if the name was not changed since. Bounded: when too many
// names are kept, all count as changed. Thread-safety: every method from any thread.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>

namespace elsewhere::file {

class ChangeNumbers {
 public:
  uint64_t Now() {
    std::lock_guard lock(mutex_);
    return last_;
  }
  // A number that no change has: what is noted with it came after all that was noted before.
  uint64_t Next() {
    std::lock_guard lock(mutex_);
    return ++last_;
  }
  // "d/" is the listing of d.
  void Note(const std::string& name) {
    std::lock_guard lock(mutex_);
    ++last_;
    if (names_.size() >= kMost) {
      names_.clear();
      all_ = last_;
    }
    names_[name] = last_;
  }
  void NoteAll() {
    std::lock_guard lock(mutex_);
    all_ = ++last_;
    names_.clear();
  }
  bool IsChangedSince(const std::string& name, uint64_t number) {
    std::lock_guard lock(mutex_);
    auto found = names_.find(name);
    return all_ > number || (found != names_.end() && found->second > number);
  }
  // The last change that may have been of anything.
  uint64_t OfAll() {
    std::lock_guard lock(mutex_);
    return all_;
  }

 private:
  static constexpr size_t kMost = 10'000;
  std::mutex mutex_;
  uint64_t last_ = 0, all_ = 0;
  std::map<std::string, uint64_t> names_;
};

}  // namespace elsewhere::file
