// Brings the pages that travelled to their places.
//
// A run is either mapped copy-on-write from the worker's cache file, which costs a mapping and shares memory
// with every other process restored from the same chunks, or copied, which costs a page. What is small is
// copied: two forks of one process differ in single pages, and these are the ones that the process is about
// to write anyway. Neighbouring runs that are neighbours in the file make one mapping, and a mapping reaches
// over pages in its middle that are copied: the copies are laid over it. So a process has about as many
// mappings as it had regions.
//
// The stack is always copied: /proc/PID/cmdline and environ read empty from file-backed pages. So is
// executable memory: the cache file may be on a file system mounted noexec.

#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "runtime/restorer/child.h"

namespace elsewhere::restorer {
namespace {

constexpr uint64_t kCopied = 2 * image::kPageSize;  // runs up to this are copied
constexpr uint32_t kMappedSources = 256;
constexpr uint32_t kVectorLimit = 1024;  // IOV_MAX

struct Piece {
  uint64_t address;
  uint64_t length;
  uint64_t offset;  // in the source
  uint32_t source;
  bool copied;
};

// Only the pages that are used cost anything.
Piece pieces[image::kMaxRuns];
uint32_t piece_count;
bool opened[image::kMaxRegions];
iovec vector[kVectorLimit];

// Sources that may be mapped from: all, or as many as the image has room to list.
uint32_t mapped_sources[kMappedSources];
uint32_t mapped_source_count;

bool MayMap(const Child* child, uint32_t source) {
  const image::Thread& thread = child->view.header().thread;
  if (thread.mapped_files == 0) return true;
  for (uint32_t i = 0; i < mapped_source_count; ++i) {
    if (mapped_sources[i] == source) return true;
  }
  if (mapped_source_count == kMappedSources || mapped_source_count >= thread.mapped_file_limit) return false;
  mapped_sources[mapped_source_count++] = source;
  return true;
}

// What a region's plan remembers between runs.
struct Plan {
  bool copy_all;
  uint32_t mapped;  // piece that a later run may extend, or kNone
  uint64_t solid;   // memory is covered without a hole up to here, since that piece started
};

bool Continues(const Piece& piece, uint64_t address, uint32_t source, uint64_t offset) {
  return piece.source == source && piece.address + piece.length == address &&
         piece.offset + piece.length == offset;
}

bool SameDistance(const Piece& piece, uint64_t address, uint32_t source, uint64_t offset) {
  return piece.source == source && address - piece.address == offset - piece.offset;
}

void AddRun(const Child* child, Plan* plan, const image::Run& run, const image::Chunk& chunk) {
  const uint64_t offset = chunk.offset + run.offset;
  const bool is_solid = run.address == plan->solid;
  plan->solid = run.address + run.length;
  if (is_solid && piece_count > 0) {
    Piece& last = pieces[piece_count - 1];
    if (Continues(last, run.address, chunk.source, offset)) {
      last.length += run.length;
      if (last.copied && !plan->copy_all && last.length > kCopied && MayMap(child, last.source)) {
        last.copied = false;
        plan->mapped = piece_count - 1;
      }
      return;
    }
    if (plan->mapped != image::kNone &&
        SameDistance(pieces[plan->mapped], run.address, chunk.source, offset)) {
      pieces[plan->mapped].length = run.address + run.length - pieces[plan->mapped].address;
      return;
    }
  }
  const bool copied = plan->copy_all || run.length <= kCopied || !MayMap(child, chunk.source);
  pieces[piece_count] = {run.address, run.length, offset, chunk.source, copied};
  if (!copied) {
    plan->mapped = piece_count;
  } else if (!is_solid) {
    plan->mapped = image::kNone;
  }
  ++piece_count;
}

// Plans one region; `*run` is its first run and moves behind its last.
void PlanRegion(const Child* child, const image::Region& region, bool* is_opened, uint32_t* run) {
  const bool copy_all = region.kind == static_cast<uint32_t>(image::RegionKind::kStack) ||
                        (region.protection & PROT_EXEC) != 0 ||
                        (child->job->request.flags & restore::kAvoidMapping) != 0;
  Plan plan{copy_all, image::kNone, 0};
  const uint32_t first = piece_count;
  const image::Span<const image::Run> runs = child->view.runs();
  for (; *run < runs.count && runs[*run].address < region.end; ++*run) {
    AddRun(child, &plan, runs[*run], child->view.chunks()[runs[*run].chunk]);
  }
  for (uint32_t index = first; index < piece_count; ++index) *is_opened = *is_opened || pieces[index].copied;
}

bool MapPiece(Child* child, const Piece& piece, uint32_t protection) {
  const int source = Source(child, piece.source);
  if (source < 0) return Fail(child, "a chunk's file was not sent along", 0, piece.address);
  const long mapped = raw::Syscall(SYS_mmap, raw::Word(piece.address), raw::Word(piece.length), protection,
                                   MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, source, raw::Word(piece.offset));
  return !raw::Failed(mapped) || Fail(child, "a chunk cannot be mapped", mapped, piece.address);
}

bool ReadPieces(Child* child, uint32_t entries, uint64_t bytes, uint32_t source, uint64_t offset) {
  if (entries == 0) return true;
  const int descriptor = Source(child, source);
  const auto address = reinterpret_cast<uintptr_t>(vector[0].iov_base);
  if (descriptor < 0) return Fail(child, "a chunk's file was not sent along", 0, address);
  const long got = raw::Syscall(SYS_preadv, descriptor, raw::Address(vector), entries, raw::Word(offset));
  return got == static_cast<long>(bytes) || Fail(child, "a chunk cannot be read", got, address);
}

// One call for pieces that follow each other in the file, wherever they go.
bool CopyPieces(Child* child) {
  uint32_t entries = 0;
  uint64_t bytes = 0;
  uint64_t start = 0;
  uint32_t source = image::kNone;
  for (uint32_t index = 0; index < piece_count; ++index) {
    const Piece& piece = pieces[index];
    if (!piece.copied) continue;
    if (entries == kVectorLimit || piece.source != source || piece.offset != start + bytes ||
        bytes + piece.length > (1U << 30)) {
      if (!ReadPieces(child, entries, bytes, source, start)) return false;
      entries = 0;
      bytes = 0;
      start = piece.offset;
      source = piece.source;
    }
    vector[entries++] = {reinterpret_cast<void*>(piece.address), piece.length};
    bytes += piece.length;
  }
  return ReadPieces(child, entries, bytes, source, start);
}

bool MapPieces(Child* child) {
  const image::Span<const image::Region> regions = child->view.regions();
  uint32_t region = 0;
  for (uint32_t index = 0; index < piece_count; ++index) {
    const Piece& piece = pieces[index];
    while (regions[region].end <= piece.address) ++region;
    const uint32_t extra = opened[region] ? PROT_READ | PROT_WRITE : 0U;
    if (!piece.copied && !MapPiece(child, piece, regions[region].protection | extra)) return false;
  }
  return true;
}

// So that the preload can tell discarded memory from a program's own mappings of files.
bool ListMappedFiles(Child* child) {
  const image::Thread& thread = child->view.header().thread;
  if (thread.mapped_files == 0) return true;
  if (!IsWritable(child, thread.mapped_files, thread.mapped_file_limit * sizeof(image::MappedFile))) {
    return Fail(child, "the image has no room for the list of mapped files", 0, thread.mapped_files);
  }
  auto* list = reinterpret_cast<image::MappedFile*>(thread.mapped_files);
  for (uint32_t i = 0; i < mapped_source_count; ++i) {
    struct stat status {};
    const long result = raw::Syscall(SYS_fstat, Source(child, mapped_sources[i]), raw::Address(&status));
    if (raw::Failed(result)) return Fail(child, "a chunk's file cannot be examined", result);
    list[i] = {status.st_dev, status.st_ino};
  }
  return true;
}

bool CloseRegions(Child* child) {
  const image::Span<const image::Region> regions = child->view.regions();
  for (uint32_t index = 0; index < regions.count; ++index) {
    const image::Region& region = regions[index];
    if (!opened[index] || (region.protection & (PROT_READ | PROT_WRITE)) == (PROT_READ | PROT_WRITE))
      continue;
    const long result =
        raw::Syscall(SYS_mprotect, raw::Word(region.start), raw::Word(region.end - region.start),
                     static_cast<long>(region.protection));
    if (raw::Failed(result)) return Fail(child, "a region cannot be protected", result, region.start);
  }
  return true;
}

}  // namespace

bool IsOpenedForFilling(uint32_t region) {
  return opened[region];
}

void PlanRuns(Child* child) {
  piece_count = 0;
  mapped_source_count = 0;
  uint32_t run = 0;
  const image::Span<const image::Region> regions = child->view.regions();
  for (uint32_t index = 0; index < regions.count; ++index)
    PlanRegion(child, regions[index], &opened[index], &run);
}

bool FillRegions(Child* child) {
  return MapPieces(child) && CopyPieces(child) && ListMappedFiles(child) && CloseRegions(child);
}

}  // namespace elsewhere::restorer
