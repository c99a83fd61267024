// Extents: a set of byte ranges. Thread-safety: none, like any value.
#pragma once

#include <cstdint>
#include <iterator>
#include <map>
#include <vector>

namespace elsewhere::file {

struct Extent {
  uint64_t from = 0;
  uint64_t to = 0;  // exclusive
  uint64_t length() const { return to - from; }
  bool operator==(const Extent&) const = default;
};

class Extents {
 public:
  void Add(uint64_t from, uint64_t to) {
    if (from >= to) return;
    auto at = ranges_.upper_bound(from);
    if (at != ranges_.begin() && std::prev(at)->second >= from) --at;
    while (at != ranges_.end() && at->first <= to) {
      from = std::min(from, at->first);
      to = std::max(to, at->second);
      at = ranges_.erase(at);
    }
    ranges_[from] = to;
  }
  void Add(const Extents& other) {
    for (auto [from, to] : other.ranges_) Add(from, to);
  }

  void Remove(uint64_t from, uint64_t to) {
    if (from >= to) return;
    auto at = ranges_.upper_bound(from);
    if (at != ranges_.begin()) --at;
    while (at != ranges_.end() && at->first < to) {
      auto [begin, end] = *at;
      if (end <= from) {
        ++at;
        continue;
      }
      at = ranges_.erase(at);
      if (begin < from) ranges_[begin] = from;
      if (end > to) ranges_[to] = end;
    }
  }

  bool Contains(uint64_t from, uint64_t to) const { return from >= to || EndOfRunAt(from) >= to; }

  // The end of the range that covers `at`; `at` itself when none does.
  uint64_t EndOfRunAt(uint64_t at) const {
    auto next = ranges_.upper_bound(at);
    if (next == ranges_.begin()) return at;
    auto range = std::prev(next);
    return range->second > at ? range->second : at;
  }

  // The start of the first range that ends behind `at`, but not before `at`; UINT64_MAX when there is none.
  uint64_t NextAt(uint64_t at) const {
    if (EndOfRunAt(at) > at) return at;
    auto next = ranges_.upper_bound(at);
    return next == ranges_.end() ? UINT64_MAX : next->first;
  }

  // What of [from, to) is not in the set.
  std::vector<Extent> Missing(uint64_t from, uint64_t to) const {
    std::vector<Extent> missing;
    while (from < to) {
      uint64_t next = std::min(NextAt(from), to);
      if (next > from) missing.push_back({from, next});
      from = next < to ? EndOfRunAt(next) : to;
    }
    return missing;
  }

  std::vector<Extent> All() const {
    std::vector<Extent> all;
    for (auto [from, to] : ranges_) all.push_back({from, to});
    return all;
  }
  uint64_t end() const { return ranges_.empty() ? 0 : ranges_.rbegin()->second; }
  uint64_t begin() const { return ranges_.empty() ? 0 : ranges_.begin()->first; }
  bool empty() const { return ranges_.empty(); }
  void Clear() { ranges_.clear(); }

 private:
  std::map<uint64_t, uint64_t> ranges_;  // from -> to; disjoint and not adjacent
};

}  // namespace elsewhere::file
