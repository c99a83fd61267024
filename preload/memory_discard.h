// Memory of a restored process that is discarded.
#pragma once

#include <sys/mman.h>

#include <cstdint>

#include "preload/self.h"
#include "shim/wire/image.h"

namespace elsewhere::preload {

inline constexpr uint32_t kMappedFiles = 64;

// Filled in by the restorer: the files of chunks that memory of this process is mapped from.
extern image::MappedFile mapped_files[kMappedFiles];

inline bool DiscardsRestored(int advice) {
  return mapped_files[0].inode != 0 && (advice == MADV_DONTNEED || advice == MADV_FREE);
}

}  // namespace elsewhere::preload
