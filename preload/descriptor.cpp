#include "preload/descriptor.h"

#include <stdint.h>

#include "preload/hooks.h"
#include "preload/real.h"

namespace elsewhere::preload {

constinit std::atomic<uint8_t> descriptor_kinds[kDescriptorCount] = {};

namespace {

// One row per kind, in the order of their numbers. A null operation leaves the call to the kernel.
constexpr DescriptorOperations kKinds[] = {
    {nullptr, nullptr, nullptr},  // 0: nothing known
};
constexpr size_t kKindCount = sizeof(kKinds) / sizeof(kKinds[0]);

const DescriptorOperations& OperationsOf(int fd) {
  const uint8_t kind = IsKnown(fd) ? descriptor_kinds[fd].load(std::memory_order_relaxed) : uint8_t{0};
  return kKinds[kind < kKindCount ? kind : 0];
}

}  // namespace

size_t TotalSize(const struct iovec* parts, size_t count) {
  size_t total = 0;
  for (size_t i = 0; i < count; ++i) {
    if (__builtin_add_overflow(total, parts[i].iov_len, &total)) return SIZE_MAX;
  }
  return total;
}

bool BeforeInput(int fd, size_t bytes, int flags) {
  const auto operation = OperationsOf(fd).before_input;
  return operation == nullptr || operation(fd, bytes, flags);
}

bool BeforeOutput(int fd) {
  const auto operation = OperationsOf(fd).before_output;
  return operation == nullptr || operation(fd);
}

namespace hooks {

off_t lseek(int fd, off_t offset, int whence) {
  const auto operation = OperationsOf(fd).seek;
  return operation == nullptr ? real::lseek(fd, offset, whence) : operation(fd, offset, whence);
}

}  // namespace hooks
}  // namespace elsewhere::preload
