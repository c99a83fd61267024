#include "shim/file/buffer.h"

#include <mutex>
#include <vector>

namespace elsewhere::file {
namespace {

constexpr size_t kLeast = 64 << 10, kKeptSize = 8 << 20, kKept = 8;

struct Pool {
  std::mutex mutex;
  std::vector<std::unique_ptr<char[]>> free;
};

// Never destroyed: other static objects may hold buffers to the end.
Pool& ThePool() {
  static Pool* const pool = new Pool;
  return *pool;
}

bool IsKept(size_t size) {
  return size > kLeast && size <= kKeptSize;
}

}  // namespace

Buffer::Buffer(size_t size) : size_(size) {
  if (IsKept(size)) {
    std::lock_guard lock(ThePool().mutex);
    auto& free = ThePool().free;
    if (!free.empty()) {
      memory_ = std::move(free.back());
      free.pop_back();
      return;
    }
  }
  memory_ = std::make_unique_for_overwrite<char[]>(IsKept(size) ? kKeptSize : size);
}

Buffer::~Buffer() {
  if (!memory_ || !IsKept(size_)) return;
  std::lock_guard lock(ThePool().mutex);
  auto& free = ThePool().free;
  if (free.size() < kKept) free.push_back(std::move(memory_));
}

}  // namespace elsewhere::file
