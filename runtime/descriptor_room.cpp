#include "runtime/descriptor_room.h"

#include <dirent.h>
#include <sys/eventfd.h>
#include <sys/resource.h>

#include <algorithm>
#include <memory>

#include "shim/store/unique_fd.h"

namespace elsewhere::runtime {
namespace {

size_t Limit() {
  rlimit limit{};
  return getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : SIZE_MAX;
}

// Open descriptors, its own among them; `limit` where there is none left to count with.
size_t Count(size_t limit) {
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(opendir("/proc/self/fd"), closedir);
  if (directory == nullptr) return limit;
  size_t count = 0;
  while (readdir(directory.get()) != nullptr) ++count;
  return count - 2;  // "." and ".."
}

}  // namespace

DescriptorRoom::DescriptorRoom() : limit_(Limit()) {}

bool DescriptorRoom::ForChild() {
  // As long as the lowest free number has always been low there is nothing to count.
  const store::UniqueFd lowest(eventfd(0, EFD_CLOEXEC));
  if (!lowest) return false;
  if (static_cast<size_t>(lowest.get()) >= limit_ / 2) was_half_full_ = true;
  return !was_half_full_ || Count(limit_) + std::max(limit_ / 4, kLeastFree) <= limit_;
}

std::string DescriptorRoom::NoChild() const {
  return "the limit of open files (ulimit -Hn) is near: " + std::to_string(limit_);
}

std::string DescriptorRoom::NoMore() const {
  return "no more files can be opened: raise the limit (ulimit -Hn), which is " + std::to_string(limit_);
}

}  // namespace elsewhere::runtime
