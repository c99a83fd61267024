// Maps every region of the image at its old address. MAP_FIXED_NOREPLACE throughout: whatever already is
// there is ours or the kernel's, and an image that needs the place cannot be restored here.

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "runtime/restorer/child.h"
#include "runtime/restorer/layout.h"

namespace elsewhere::restorer {
namespace {

constexpr uint64_t kGuardGap = 1 << 20;            // the kernel keeps as much free below a stack
constexpr uint64_t kUnlimitedStack = 64ULL << 20;  // reserved for a stack without a limit
constexpr uint32_t kStackLimit = 3;                // RLIMIT_STACK

// The file opened last: the segments of a library follow each other.
uint32_t open_file = image::kNone;
int open_descriptor = -1;

bool Map(Child* child, uint64_t start, uint64_t size, int protection, int flags, int descriptor,
         uint64_t offset) {
  const long mapped = raw::Syscall(SYS_mmap, raw::Word(start), raw::Word(size), protection,
                                   flags | MAP_FIXED_NOREPLACE, descriptor, raw::Word(offset));
  if (raw::Failed(mapped)) return Fail(child, "a region cannot be mapped", mapped, start);
  // Kernels before 4.17 take the address for a hint.
  return static_cast<uint64_t>(mapped) == start || Fail(child, "a region's place is taken", -17, start);
}

void CloseFile() {
  if (open_descriptor >= 0) raw::Close(open_descriptor);
  open_descriptor = -1;
  open_file = image::kNone;
}

bool IsUnchanged(const image::File& file, const struct stat& now) {
  return file.device == now.st_dev && file.inode == now.st_ino &&
         file.size == static_cast<uint64_t>(now.st_size) && file.modified_seconds == now.st_mtim.tv_sec &&
         file.modified_nanoseconds == static_cast<uint32_t>(now.st_mtim.tv_nsec);
}

// A file that others write to is expected to change while it is mapped shared; it only must be the same file.
bool OpenFile(Child* child, uint32_t index, int flags, bool may_change, uint64_t address) {
  if (open_file == index && !may_change) return true;
  CloseFile();
  const image::File& file = child->view.files()[index];
  const long descriptor =
      raw::Syscall(SYS_open, raw::Address(child->view.text(file.path)), flags | O_CLOEXEC);
  if (raw::Failed(descriptor)) return Fail(child, "a mapped file cannot be opened", descriptor, address);
  open_file = index;
  open_descriptor = static_cast<int>(descriptor);
  struct stat now {};
  const long status = raw::Syscall(SYS_fstat, descriptor, raw::Address(&now));
  if (raw::Failed(status)) return Fail(child, "a mapped file cannot be examined", status, address);
  const bool same_file = file.device == now.st_dev && file.inode == now.st_ino;
  const bool good = may_change ? same_file : IsUnchanged(file, now);
  return good || Fail(child, "a mapped file has changed", 0, address);
}

// Room to grow down to the limit, as the kernel gives to a stack, without the region below being touched.
bool MapStack(Child* child, uint32_t index, int protection) {
  const image::Region& region = child->view.regions()[index];
  uint64_t limit = child->view.header().identity.limits[kStackLimit].soft;
  if (limit > kUnlimitedStack) limit = kUnlimitedStack;
  const uint64_t below = index > 0 ? child->view.regions()[index - 1].end : image::kPageSize;
  uint64_t start = limit < region.end ? (region.end - limit) & ~(image::kPageSize - 1) : region.start;
  if (start < below + kGuardGap) start = below + kGuardGap;
  if (start > region.start) start = region.start;
  return Map(child, start, region.end - start, protection,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
}

bool MapVdso(Child* child, const image::Region& region) {
  const Zygote& zygote = *child->zygote;
  const VdsoMapping& mapping = zygote.vdso[region.source];
  const uint64_t size = region.end - region.start;
  if (mapping.size != size) return Fail(child, "this kernel's vDSO has another layout", 0, region.start);
  const auto& hash = child->view.header().identity.vdso_hash;
  if (hash[0] != zygote.vdso_hash[0] || hash[1] != zygote.vdso_hash[1]) {
    return Fail(child, "this kernel's vDSO is another one", 0, region.start);
  }
  const long moved = raw::Syscall(SYS_mremap, raw::Word(mapping.address), raw::Word(size), raw::Word(size),
                                  MREMAP_MAYMOVE | MREMAP_FIXED, raw::Word(region.start));
  return !raw::Failed(moved) || Fail(child, "the vDSO cannot be moved", moved, region.start);
}

bool MapShared(Child* child, const image::Region& region, int protection) {
  const uint64_t size = region.end - region.start;
  const int given = region.object < child->view.objects().count
                        ? Source(child, child->view.objects()[region.object].source)
                        : -1;
  if (given >= 0) return Map(child, region.start, size, protection, MAP_SHARED, given, region.file_offset);
  if (region.kind == static_cast<uint32_t>(image::RegionKind::kShared)) {
    return Fail(child, "shared memory was not sent along", 0, region.start);
  }
  const int flags = (protection & PROT_WRITE) != 0 ? O_RDWR : O_RDONLY;
  return OpenFile(child, region.file, flags, true, region.start) &&
         Map(child, region.start, size, protection, MAP_SHARED, open_descriptor, region.file_offset);
}

bool MapTable(Child* child, const image::Region& region, int protection) {
  const int table = Source(child, child->job->request.table_source);
  if (table < 0) return Fail(child, "the agent's table was not sent along", 0, region.start);
  return Map(child, region.start, region.end - region.start, protection, MAP_SHARED, table, 0);
}

bool MapRegion(Child* child, uint32_t index) {
  const image::Region& region = child->view.regions()[index];
  const uint64_t size = region.end - region.start;
  const int protection = static_cast<int>(region.protection);
  const int filling = IsOpenedForFilling(index) ? protection | PROT_WRITE | PROT_READ : protection;
  if (region.start < kZoneEnd && region.end > kZoneStart) {
    return Fail(child, "a region lies where the restorer is", 0, region.start);
  }
  switch (static_cast<image::RegionKind>(region.kind)) {
    case image::RegionKind::kAnonymous:
    case image::RegionKind::kHeap:
      return Map(child, region.start, size, filling, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    case image::RegionKind::kFile:
      return OpenFile(child, region.file, O_RDONLY, false, region.start) &&
             Map(child, region.start, size, filling, MAP_PRIVATE | MAP_NORESERVE, open_descriptor,
                 region.file_offset);
    case image::RegionKind::kStack:
      return MapStack(child, index, filling);
    case image::RegionKind::kVdso:
      return MapVdso(child, region);
    case image::RegionKind::kAgentTable:
      return MapTable(child, region, protection);
    case image::RegionKind::kShared:
    case image::RegionKind::kSharedFile:
      return MapShared(child, region, protection);
  }
  return Fail(child, "a region of an unknown kind", 0, region.start);
}

const image::Region* FindRegion(const Child* child, uint64_t address) {
  const image::Span<const image::Region> regions = child->view.regions();
  uint32_t low = 0;
  uint32_t high = regions.count;
  while (low < high) {
    const uint32_t middle = (low + high) / 2;
    if (regions[middle].end <= address) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low < regions.count && regions[low].start <= address ? &regions[low] : nullptr;
}

}  // namespace

bool IsWritable(const Child* child, uint64_t address, uint64_t size) {
  const image::Region* region = FindRegion(child, address);
  return region != nullptr && (region->protection & PROT_WRITE) != 0 && size <= region->end - address;
}

bool MapRegions(Child* child) {
  for (uint32_t index = 0; index < child->view.regions().count; ++index) {
    if (!MapRegion(child, index)) return false;
  }
  CloseFile();
  return true;
}

}  // namespace elsewhere::restorer
