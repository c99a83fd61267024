// Orders the capture and writes the manifest.
//
// The manifest is written with one pwritev from the working memory, whose sections have room for their limits
// and cost only the pages they use.

#include "preload/capture/capture.h"

#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/uio.h>

#include "preload/capture/context.h"
#include "preload/capture/work.h"

namespace elsewhere::capture {

bool Fail(Work* work, const char* problem, long result) {
  work->problem = problem;
  work->error = raw::Failed(result) ? static_cast<int>(-result) : 0;
  return false;
}

uint32_t AddText(Work* work, const char* text, uint64_t length) {
  if (length == 0) return 0;
  if (length >= image::kMaxStrings - work->strings.count) return image::kNone;
  const uint32_t offset = work->strings.count;
  for (uint64_t i = 0; i < length; ++i) work->strings.items[offset + i] = text[i];
  work->strings.items[offset + length] = '\0';
  work->strings.count += static_cast<uint32_t>(length) + 1;
  return offset;
}

namespace {

Work* MapWork() {
  const long address = raw::Syscall(SYS_mmap, 0, sizeof(Work), PROT_READ | PROT_WRITE,
                                    MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return raw::Failed(address) ? nullptr : reinterpret_cast<Work*>(address);
}

void Unmap(const void* start, uint64_t length) {
  raw::Syscall(SYS_munmap, raw::Address(start), raw::Word(length));
}

// Header, index and hints. The chunks are read and written by system calls.
bool MapArena(Work* work) {
  const int arena = work->request->arena;
  const long size = raw::Syscall(SYS_lseek, arena, 0, 2 /* SEEK_END */);
  arena::ArenaHeader header{};
  const long got = raw::Syscall(SYS_pread64, arena, raw::Address(&header), sizeof(header), 0);
  if (raw::Failed(size) || got != static_cast<long>(sizeof(header))) {
    return Fail(work, "the chunk arena cannot be read", got);
  }
  if (!arena::HeaderValid(header, static_cast<uint64_t>(size))) {
    return Fail(work, "the chunk arena has another version");
  }
  const long address = raw::Syscall(SYS_mmap, 0, raw::Word(header.data_offset), PROT_READ | PROT_WRITE,
                                    MAP_SHARED | MAP_NORESERVE, arena, 0);
  if (raw::Failed(address)) return Fail(work, "the chunk arena cannot be mapped", address);
  work->arena.header = reinterpret_cast<arena::ArenaHeader*>(address);
  work->arena.capacity = header.capacity;
  work->arena_tables = header.data_offset;
  return true;
}

bool OpenPagemap(Work* work) {
  const long pagemap = raw::Syscall(SYS_open, raw::Address("/proc/self/pagemap"), O_RDONLY | O_CLOEXEC);
  if (raw::Failed(pagemap)) return Fail(work, "/proc/self/pagemap cannot be opened", pagemap);
  work->pagemap = static_cast<int>(pagemap);
  return true;
}

struct Piece {
  image::Section section;
  const void* data;
  uint32_t count;
  uint32_t entry_size;
};

// Fills in the section table and the vector that is to be written; the size of the manifest.
uint64_t LayOut(Work* work, iovec* vector) {
  const Piece pieces[] = {
      {image::Section::kRegions, work->regions.items, work->regions.count, sizeof(image::Region)},
      {image::Section::kRuns, work->runs.items, work->runs.count, sizeof(image::Run)},
      {image::Section::kChunks, work->chunks.items, work->chunks.count, sizeof(image::Chunk)},
      {image::Section::kFiles, work->files.items, work->files.count, sizeof(image::File)},
      {image::Section::kObjects, work->objects.items, work->objects.count, sizeof(image::Object)},
      {image::Section::kDescriptors, work->descriptors.items, work->descriptors.count,
       sizeof(image::Descriptor)},
      {image::Section::kStrings, work->strings.items, work->strings.count, 1},
      {image::Section::kGroups, work->groups.items, work->groups.count, sizeof(uint32_t)},
      {image::Section::kAuxv, work->auxv.items, work->auxv.count, 1},
      {image::Section::kPacks, work->text, 0, sizeof(image::Pack)},
  };
  static_assert(sizeof(pieces) / sizeof(pieces[0]) == image::kSectionCount);
  uint64_t at = sizeof(image::Header);
  uint32_t entry = 0;
  vector[entry++] = {&work->header, sizeof(image::Header)};
  for (const Piece& piece : pieces) {
    work->header.sections[static_cast<uint32_t>(piece.section)] = {at, piece.count, piece.entry_size};
    // Every section of the working memory has room behind its last entry for the padding.
    const uint64_t size = (uint64_t{piece.count} * piece.entry_size + 7) & ~uint64_t{7};
    vector[entry++] = {const_cast<void*>(piece.data), size};
    at += size;
  }
  work->header.magic = image::kMagic;
  work->header.version = image::kVersion;
  work->header.header_size = sizeof(image::Header);
  work->header.size = at;
  return at;
}

bool WriteManifest(Work* work, Result* result) {
  iovec vector[image::kSectionCount + 1];
  const uint64_t size = LayOut(work, vector);
  if (size > image::kMaxManifest) return Fail(work, "the manifest is too large");
  const long file = raw::Syscall(SYS_memfd_create, raw::Address("elsewhere-manifest"), MFD_CLOEXEC);
  if (raw::Failed(file)) return Fail(work, "no memfd for the manifest", file);
  const long written = raw::Syscall(SYS_pwritev, file, raw::Address(vector), image::kSectionCount + 1, 0);
  if (written != static_cast<long>(size)) {
    raw::Close(static_cast<int>(file));
    return Fail(work, "the manifest cannot be written", written);
  }
  result->manifest = static_cast<int>(file);
  result->size = size;
  result->descriptors = work->descriptors.count;
  result->totals = work->header.totals;
  return true;
}

bool SetFileLimit(Work* work, const image::Limit& limit) {
  const long result = raw::Syscall(SYS_prlimit64, 0, RLIMIT_FSIZE, raw::Address(&limit), 0);
  return !raw::Failed(result) || Fail(work, "the limit of file sizes cannot be lifted", result);
}

// Arena and manifest are files to the kernel: beyond the process's limit of file sizes a write would raise
// SIGXFSZ, which would wait, blocked, for the child to run here.
bool WriteMemory(Work* work, Result* result) {
  const image::Limit& limit = work->header.identity.limits[RLIMIT_FSIZE];
  if (limit.soft == RLIM_INFINITY) return CapturePages(work) && WriteManifest(work, result);
  if (limit.hard != RLIM_INFINITY) return Fail(work, "the process has a hard limit of file sizes");
  if (!SetFileLimit(work, {RLIM_INFINITY, RLIM_INFINITY})) return false;
  const bool good = CapturePages(work) && WriteManifest(work, result);
  return SetFileLimit(work, limit) && good;
}

bool Run(Work* work, Result* result) {
  work->strings.count = 1;  // offset 0 is the empty string
  work->header.thread.enter = reinterpret_cast<uintptr_t>(&elsewhere_context_enter);
  if (!MapArena(work) || !OpenPagemap(work)) return false;
  return ReadRegions(work) && ReadDescriptors(work) && ReadIdentity(work) && WriteMemory(work, result);
}

}  // namespace

void Capture(const Request& request, Result* result) {
  *result = {nullptr, 0, -1, 0, 0, {}};
  Work* work = MapWork();
  if (work == nullptr) {
    result->problem = "no address space for the capture";
    return;
  }
  work->request = &request;
  work->records = request.records;
  work->pagemap = -1;
  if (!Run(work, result)) {
    result->problem = work->problem;
    result->error = work->error;
  }
  if (work->pagemap >= 0) raw::Close(work->pagemap);
  if (work->arena.header != nullptr) Unmap(work->arena.header, work->arena_tables);
  Unmap(work, sizeof(Work));
}

}  // namespace elsewhere::capture
