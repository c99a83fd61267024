#include "runtime/usage_book.h"

#include <algorithm>

namespace elsewhere::runtime {
namespace {

void Add(timeval& sum, const timeval& value) {
  sum.tv_sec += value.tv_sec;
  sum.tv_usec += value.tv_usec;
  if (sum.tv_usec >= 1'000'000) {
    sum.tv_usec -= 1'000'000;
    ++sum.tv_sec;
  }
}

// As the kernel sums RUSAGE_CHILDREN: times and counts add up, the resident size is the largest one's.
void Add(rusage& sum, const rusage& value) {
  Add(sum.ru_utime, value.ru_utime);
  Add(sum.ru_stime, value.ru_stime);
  sum.ru_maxrss = std::max(sum.ru_maxrss, value.ru_maxrss);
  sum.ru_minflt += value.ru_minflt;
  sum.ru_majflt += value.ru_majflt;
  sum.ru_inblock += value.ru_inblock;
  sum.ru_oublock += value.ru_oublock;
  sum.ru_nvcsw += value.ru_nvcsw;
  sum.ru_nivcsw += value.ru_nivcsw;
}

}  // namespace

void UsageBook::Record(int32_t session_pid, int32_t parent_pid, const rusage& usage) {
  if (!entries_.contains(session_pid)) order_.push_back(session_pid);
  entries_[session_pid] = usage;
  Add(sums_[parent_pid], usage);
  while (order_.size() > kMaxEntries) {
    entries_.erase(order_.front());
    order_.pop_front();
  }
}

std::optional<rusage> UsageBook::Find(int32_t session_pid) const {
  const auto found = entries_.find(session_pid);
  if (found == entries_.end()) return std::nullopt;
  return found->second;
}

rusage UsageBook::SumOfChildren(int32_t parent_pid) const {
  const auto found = sums_.find(parent_pid);
  return found == sums_.end() ? rusage{} : found->second;
}

}  // namespace elsewhere::runtime
