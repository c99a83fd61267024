#include "runtime/ipc/attached_segment.h"

#include <sys/shm.h>
#include <sys/sysmacros.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

namespace elsewhere::runtime {
namespace {

constexpr uint64_t kPage = 4096;

// What the kernel says lies at `address` of this process.
Result<ObjectKey> KeyAt(const void* address) {
  FILE* maps = fopen("/proc/self/maps", "re");
  if (maps == nullptr) return Error{errno, "/proc/self/maps cannot be opened"};
  char line[512];
  ObjectKey key;
  bool found = false;
  while (!found && fgets(line, sizeof line, maps) != nullptr) {
    unsigned long start = 0, inode = 0;
    unsigned major_number = 0, minor_number = 0;
    if (sscanf(line, "%lx-%*x %*s %*x %x:%x %lu", &start, &major_number, &minor_number, &inode) != 4)
      continue;
    if (start != reinterpret_cast<uintptr_t>(address)) continue;
    key = {makedev(major_number, minor_number), inode};
    found = true;
  }
  fclose(maps);
  if (!found) return Error{ENOENT, "an attached segment is not in /proc/self/maps"};
  return key;
}

}  // namespace

bool IsSystemV(const std::string& name) {
  return name.rfind("/SYSV", 0) == 0;
}

Result<AttachedSegment> AttachSegment(memory::SegmentId id, memory::HostId self, int shared_memory_id) {
  const std::string name = "System V segment " + std::to_string(shared_memory_id);
  const auto failed = [&name](int code) {
    return Error{code, name + " cannot be shared with other hosts: " + std::strerror(code)};
  };
  shmid_ds status{};
  if (shmctl(shared_memory_id, IPC_STAT, &status) != 0) return failed(errno);
  if (status.shm_segsz > Segments::kMostBytes) return failed(EFBIG);
  void* live = shmat(shared_memory_id, nullptr, 0);
  if (live == reinterpret_cast<void*>(-1)) return failed(errno);
  const uint64_t size = (status.shm_segsz + kPage - 1) / kPage * kPage;
  auto made = memory::Segment::AdoptAttached(id, self, static_cast<uint8_t*>(live), size, name);
  if (!made) return made.error();
  auto key = KeyAt(live);
  if (!key) return key.error();
  return AttachedSegment{*key, std::move(*made)};
}

bool IsAbandoned(int shared_memory_id) {
  shmid_ds status{};
  return shmctl(shared_memory_id, IPC_STAT, &status) == 0 && (status.shm_perm.mode & SHM_DEST) != 0 &&
         status.shm_nattch <= 1;
}

void ListAttached(abi::TableHeader& header, int shared_memory_id, Listed listed) {
  const int32_t mark = shared_memory_id + 1;
  const int32_t wanted = listed == Listed::kYes ? mark : listed == Listed::kNo ? 0 : -mark;
  std::atomic<int32_t>* free = nullptr;
  for (auto& entry : header.attached_segments) {
    const int32_t now = entry.load();
    if (now == mark || now == -mark) return entry.store(wanted);
    if (now == 0 && free == nullptr) free = &entry;
  }
  if (free != nullptr) free->store(wanted);
}

}  // namespace elsewhere::runtime
