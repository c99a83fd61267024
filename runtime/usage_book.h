// Resource usage of ended remote children, for the wait family's rusage: the kernel knows only the deputies'.
// Bounded: the oldest entries are forgotten beyond kMaxEntries. Thread-safety: none, one loop.
#pragma once

#include <sys/resource.h>

#include <cstdint>
#include <deque>
#include <optional>
#include <unordered_map>

namespace elsewhere::runtime {

class UsageBook {
 public:
  static constexpr size_t kMaxEntries = 65536;

  void Record(int32_t session_pid, int32_t parent_pid, const rusage& usage);
  std::optional<rusage> Find(int32_t session_pid) const;
  // Of everything recorded for that parent.
  rusage SumOfChildren(int32_t parent_pid) const;
  void ForgetParent(int32_t parent_pid) { sums_.erase(parent_pid); }

 private:
  std::unordered_map<int32_t, rusage> entries_;
  std::deque<int32_t> order_;
  std::unordered_map<int32_t, rusage> sums_;
};

}  // namespace elsewhere::runtime
