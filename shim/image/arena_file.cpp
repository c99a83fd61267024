#include "shim/image/arena_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <system_error>

namespace elsewhere::image {
namespace {

Error SystemError(const char* what) {
  const int code = errno;
  return Error{code, std::string(what) + ": " + std::generic_category().message(code)};
}

}  // namespace

Result<std::shared_ptr<ArenaFile>> ArenaFile::Create(uint64_t capacity) {
  std::shared_ptr<ArenaFile> file(new ArenaFile);
  capacity &= ~(arena::kPageSize - 1);
  file->memfd_.Reset(memfd_create("elsewhere-arena", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!file->memfd_) return SystemError("memfd_create");
  if (ftruncate(file->memfd(), static_cast<off_t>(capacity)) != 0) return SystemError("ftruncate");
  fcntl(file->memfd(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
  void* memory =
      mmap(nullptr, capacity, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file->memfd(), 0);
  if (memory == MAP_FAILED) return SystemError("mmap");
  file->arena_ = {static_cast<arena::ArenaHeader*>(memory), static_cast<const uint8_t*>(memory), capacity};
  const uint32_t cpu = __builtin_cpu_supports("avx2") ? arena::kCpuAvx2 : 0;
  if (arena::Format(file->arena_.header, capacity, cpu) == 0) {
    return Error{EINVAL, "an arena of " + std::to_string(capacity) + " bytes is too small"};
  }
  return file;
}

uint64_t ArenaFile::DefaultCapacity() {
  const auto memory =
      static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  return std::min<uint64_t>(memory / 4, uint64_t{8} << 30);
}

ArenaFile::~ArenaFile() {
  if (arena_.header != nullptr) munmap(arena_.header, arena_.capacity);
}

bool ArenaFile::Crowded() const {
  return __atomic_load_n(&arena_.header->used, __ATOMIC_RELAXED) > arena_.capacity / 4 * 3;
}

std::span<const uint8_t> ArenaFile::Chunk(uint64_t offset, uint64_t length) const {
  if (offset < arena_.header->data_offset || offset > arena_.capacity || length > arena_.capacity - offset)
    return {};
  return {arena_.data + offset, length};
}

}  // namespace elsewhere::image
