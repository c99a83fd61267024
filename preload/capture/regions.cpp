// Turns /proc/self/maps into regions, files and objects.
//
// A private mapping of a file travels as (path, offset) only if that path still is the mapped file; otherwise
// (deleted, replaced by an upgrade, unreachable from here) all its pages travel. The kernel writes "
// (deleted)" after the name of an unlinked file, but a file can be called that too: the inode number decides,
// not the name.

#include <fcntl.h>
#include <sys/stat.h>

#include "preload/capture/maps_line.h"
#include "preload/capture/work.h"

namespace elsewhere::capture {
namespace {

using Line = MapsLine;

bool Same(const char* a, const char* b) {
  while (*a != '\0' && *a == *b) ++a, ++b;
  return *a == *b;
}

bool IsSpecial(const Line& line) {
  return line.name[0] == '[' && line.inode == 0;
}

// The index of the file that the line maps and that can be found by its path; kNone if there is no such file.
// Sets *is_device for a character device.
uint32_t FindFile(Work* work, const Line& line, bool* is_device) {
  for (uint32_t back = 0; back < 32 && back < work->files.count; ++back) {
    const uint32_t index = work->files.count - 1 - back;
    const image::File& file = work->files.items[index];
    if (file.inode == line.inode && Same(&work->strings.items[file.path], line.name)) return index;
  }
  struct stat status {};
  if (raw::Failed(raw::Syscall(SYS_stat, raw::Address(line.name), raw::Address(&status))))
    return image::kNone;
  if (status.st_ino != line.inode) return image::kNone;
  *is_device = S_ISCHR(status.st_mode);
  if (!S_ISREG(status.st_mode)) return image::kNone;
  const uint32_t path = AddText(work, line.name, line.name_length);
  image::File* file = path == image::kNone ? nullptr : work->files.Add();
  if (file == nullptr) return image::kNone;
  *file = {status.st_dev,
           status.st_ino,
           static_cast<uint64_t>(status.st_size),
           status.st_mtim.tv_sec,
           static_cast<uint32_t>(status.st_mtim.tv_nsec),
           path};
  return work->files.count - 1;
}

uint32_t FindObject(Work* work, const Line& line) {
  const uint64_t reach = line.offset + (line.end - line.start);
  for (uint32_t index = 0; index < work->objects.count; ++index) {
    image::Object& object = work->objects.items[index];
    if (object.inode != line.inode || object.device != line.device) continue;
    if (object.size < reach) object.size = reach;
    return index;
  }
  const uint32_t path = AddText(work, line.name, line.name_length);
  image::Object* object = path == image::kNone ? nullptr : work->objects.Add();
  if (object == nullptr) return image::kNone;
  *object = {line.device, line.inode, reach, path, image::kNone};
  return work->objects.count - 1;
}

// The kernel writes into the memory of such a process by itself.
bool WritesByItself(const Line& line) {
  constexpr char kAio[] = "/[aio]";
  constexpr char kUring[] = "anon_inode:[io_uring]";
  const auto begins = [&line](const char* with) {
    uint64_t at = 0;
    while (with[at] != '\0' && with[at] == line.name[at]) ++at;
    return with[at] == '\0';
  };
  return begins(kAio) || begins(kUring);
}

bool ClassifyShared(Work* work, const Line& line, image::Region* region) {
  if (WritesByItself(line)) work->records = nullptr;
  if (line.start == reinterpret_cast<uintptr_t>(work->request->agent_table)) {
    region->kind = static_cast<uint32_t>(image::RegionKind::kAgentTable);
    return true;
  }
  bool is_device = false;
  region->file = FindFile(work, line, &is_device);
  if (is_device) return Fail(work, "a device is mapped");
  region->object = FindObject(work, line);
  if (region->object == image::kNone) return Fail(work, "too many shared mappings");
  region->kind = static_cast<uint32_t>(region->file == image::kNone ? image::RegionKind::kShared
                                                                    : image::RegionKind::kSharedFile);
  return true;
}

bool ClassifySpecial(Work* work, const Line& line, image::Region* region) {
  const auto vdso = [region](image::VdsoPart part) {
    region->kind = static_cast<uint32_t>(image::RegionKind::kVdso);
    region->source = static_cast<uint32_t>(part);
  };
  if (Same(line.name, "[stack]")) {
    region->kind = static_cast<uint32_t>(image::RegionKind::kStack);
  } else if (Same(line.name, "[heap]")) {
    region->kind = static_cast<uint32_t>(image::RegionKind::kHeap);
  } else if (Same(line.name, "[vdso]")) {
    vdso(image::VdsoPart::kCode);
  } else if (Same(line.name, "[vvar]")) {
    vdso(image::VdsoPart::kData);
  } else if (Same(line.name, "[vvar_vclock]")) {
    vdso(image::VdsoPart::kClockData);
  } else if (line.name[1] != 'a') {  // not "[anon:NAME]"
    return Fail(work, "a special mapping of the kernel cannot move");
  }
  return true;
}

bool Classify(Work* work, const Line& line, image::Region* region) {
  if (line.shared) return ClassifyShared(work, line, region);
  if (IsSpecial(line)) return ClassifySpecial(work, line, region);
  if (line.inode == 0) return true;
  bool is_device = false;
  region->file = FindFile(work, line, &is_device);
  if (region->file != image::kNone) {
    region->kind = static_cast<uint32_t>(image::RegionKind::kFile);
    return true;
  }
  if (is_device) return Same(line.name, "/dev/zero") || Fail(work, "a device is mapped");
  region->reserved = kWholeRegion;
  return true;
}

// Memory of the capture itself, and the kernel's page that every process has.
bool Stays(const Work* work, const Line& line) {
  const auto start = reinterpret_cast<uintptr_t>(work);
  const auto arena = reinterpret_cast<uintptr_t>(work->arena.header);
  const auto records = reinterpret_cast<uintptr_t>(work->request->records);
  return (line.start >= start && line.start < start + sizeof(Work)) ||
         (line.start >= arena && line.start < arena + work->arena_tables) ||
         (records != 0 && line.start >= records && line.start < records + sizeof(PageRecords)) ||
         line.start >= image::kAddressLimit;
}

bool AddRegion(Work* work, const Line& line) {
  if (Stays(work, line)) return true;
  image::Region* region = work->regions.Add();
  if (region == nullptr) return Fail(work, "too many memory regions");
  *region = {line.start,
             line.end,
             line.inode != 0 ? line.offset : 0,
             line.protection,
             static_cast<uint32_t>(image::RegionKind::kAnonymous),
             image::kNone,
             image::kNone,
             image::kNone,
             0};
  return Classify(work, line, region);
}

// Handles the complete lines of the buffer; the number of bytes used, or -1.
long TakeLines(Work* work, uint64_t filled) {
  uint64_t line_start = 0;
  for (uint64_t at = 0; at < filled; ++at) {
    if (work->text[at] != '\n') continue;
    work->text[at] = '\0';
    const Line line = ParseMapsLine(work->text + line_start, work->text + at);
    if (!AddRegion(work, line)) return -1;
    line_start = at + 1;
  }
  return static_cast<long>(line_start);
}

bool ReadLines(Work* work, int maps) {
  uint64_t filled = 0;
  for (;;) {
    const long got = raw::Read(maps, work->text + filled, sizeof(work->text) - filled);
    if (raw::Failed(got)) return Fail(work, "/proc/self/maps cannot be read", got);
    if (got == 0) return filled == 0 || Fail(work, "/proc/self/maps ends inside a line");
    filled += static_cast<uint64_t>(got);
    const long used = TakeLines(work, filled);
    if (used < 0) return false;
    filled -= static_cast<uint64_t>(used);
    for (uint64_t i = 0; i < filled; ++i) work->text[i] = work->text[static_cast<uint64_t>(used) + i];
    if (filled == sizeof(work->text)) return Fail(work, "a line of /proc/self/maps is too long");
  }
}

}  // namespace

bool ReadRegions(Work* work) {
  const long maps = raw::Syscall(SYS_open, raw::Address("/proc/self/maps"), O_RDONLY | O_CLOEXEC);
  if (raw::Failed(maps)) return Fail(work, "/proc/self/maps cannot be opened", maps);
  const bool good = ReadLines(work, static_cast<int>(maps));
  raw::Close(static_cast<int>(maps));
  return good;
}

}  // namespace elsewhere::capture
