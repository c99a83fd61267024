#include "preload/huge_pages.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "preload/capture/maps_line.h"
#include "shim/wire/raw_syscall.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

namespace elsewhere::preload {
namespace {

constexpr uint64_t kAllowedShare = 4;  // of the memory that is available

// Terminated; false: it cannot be read.
template <uint64_t kSize>
bool ReadText(const char* path, char (&text)[kSize]) {
  const long file = raw::Syscall(SYS_open, raw::Address(path), O_RDONLY | O_CLOEXEC);
  if (raw::Failed(file)) return false;
  const long size = raw::Read(static_cast<int>(file), text, kSize - 1);
  raw::Close(static_cast<int>(file));
  if (size <= 0) return false;
  text[size] = '\0';
  return true;
}

// The kernel gathers nothing that is protected against writing.
bool Unprotect(int faults, uint64_t start, uint64_t length) {
  uffdio_writeprotect change{};
  change.range = {start, length};
  return !raw::Failed(raw::Syscall(SYS_ioctl, faults, UFFDIO_WRITEPROTECT, raw::Address(&change)));
}

}  // namespace

bool HugePagesAllowed() {
  char text[128];
  return ReadText("/sys/kernel/mm/transparent_hugepage/enabled", text) && strstr(text, "[never]") == nullptr;
}

uint64_t HugePageAllowance() {
  char text[1024];
  if (!ReadText("/proc/meminfo", text)) return 0;
  const char* at = strstr(text, "MemAvailable:");
  if (at == nullptr) return 0;
  at += sizeof "MemAvailable:" - 1;
  while (*at == ' ') ++at;
  return capture::TakeNumber(&at, 10) * 1024 / kAllowedShare;
}

void GatherHugePages(int pagemap, int faults, uint64_t start, uint64_t end, capture::PageRegion* found,
                     uint64_t limit) {
  capture::ScanArguments arguments{};
  arguments.size = sizeof arguments;
  arguments.start = start;
  arguments.end = end;
  arguments.vector = reinterpret_cast<uintptr_t>(found);
  arguments.vector_length = limit;
  arguments.category_mask = arguments.return_mask = capture::kPageIsPresent;
  const long count =
      raw::Syscall(SYS_ioctl, pagemap, raw::Word(capture::kPagemapScan), raw::Address(&arguments));
  for (long i = 0; i < count; ++i) {
    const uint64_t first = (found[i].start + kHugePage - 1) & ~(kHugePage - 1);
    const uint64_t last = found[i].end & ~(kHugePage - 1);
    if (first >= last || !Unprotect(faults, first, last - first)) continue;
    raw::Syscall(SYS_madvise, raw::Word(first), raw::Word(last - first), MADV_COLLAPSE);
  }
}

}  // namespace elsewhere::preload
