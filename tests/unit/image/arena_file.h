// A chunk arena for tests.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include "shim/wire/arena.h"

namespace elsewhere::harness {

// A memfd; -1 on failure.
inline int MakeArenaFile(uint64_t size) {
  const int arena = memfd_create("image-test-arena", MFD_CLOEXEC);
  if (arena < 0 || ftruncate(arena, static_cast<off_t>(size)) != 0) return -1;
  void* header = mmap(nullptr, arena::kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED, arena, 0);
  arena::Format(static_cast<arena::ArenaHeader*>(header), size,
                __builtin_cpu_supports("avx2") ? arena::kCpuAvx2 : 0);
  munmap(header, arena::kPageSize);
  return arena;
}

}  // namespace elsewhere::harness
