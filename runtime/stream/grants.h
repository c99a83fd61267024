// Numbers of grants: of those that a host has seen, or that its origin has not heard of again. Jobs do not
// always come in the order in which they were made, so the last number does not tell which. Thread-safety:
// none, like any value.
#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <map>
#include <vector>

namespace elsewhere::runtime::stream {

class Grants {
 public:
  void Add(uint32_t grant) {
    Remove(grant, grant);
    uint32_t first = grant, last = grant;
    const auto next = ranges_.upper_bound(grant);
    if (next != ranges_.begin() && std::prev(next)->second + 1 == grant) first = std::prev(next)->first;
    if (next != ranges_.end() && next->first == grant + 1) {
      last = next->second;
      ranges_.erase(next);
    }
    ranges_[first] = last;
  }
  void Remove(uint32_t first, uint32_t last) {
    auto each = ranges_.upper_bound(first);
    if (each != ranges_.begin()) --each;
    while (each != ranges_.end() && each->first <= last) {
      const auto [from, to] = *each;
      if (to < first) {
        ++each;
        continue;
      }
      each = ranges_.erase(each);
      if (from < first) ranges_[from] = first - 1;
      if (to > last) each = ranges_.emplace(last + 1, to).first;
    }
  }
  // Pairs, as AsPairs makes them.
  void Remove(const std::vector<uint32_t>& pairs) {
    for (size_t i = 0; i + 1 < pairs.size(); i += 2) Remove(pairs[i], pairs[i + 1]);
  }
  void Clear() { ranges_.clear(); }
  bool empty() const { return ranges_.empty(); }
  uint32_t last() const { return empty() ? 0 : ranges_.rbegin()->second; }  // the highest; 0: none
  // First and last of each run of numbers.
  std::vector<uint32_t> AsPairs() const {
    std::vector<uint32_t> pairs;
    for (const auto& [first, last] : ranges_) pairs.insert(pairs.end(), {first, last});
    return pairs;
  }

 private:
  std::map<uint32_t, uint32_t> ranges_;  // last by first; with a gap between two
};

}  // namespace elsewhere::runtime::stream
