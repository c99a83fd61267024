// System V shared memory.
//
// A segment is home's kernel's. At home it is attached as ever; where it lies is remembered, as for every
// shared mapping (memory.h). A process on a worker has this host's copy of it mapped, which the agents keep
// equal as they do for other shared memory, and its deputy has the segment itself attached at home: the
// kernel's count of attachments, removal by the last one and what death and exec do are right for that
// reason.
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/sysmacros.h>

#include "preload/agent.h"
#include "preload/descriptor.h"
#include "preload/hooks.h"
#include "preload/ipc.h"
#include "preload/kernel_call.h"
#include "preload/memory.h"
#include "preload/real.h"
#include "preload/self.h"
#include "preload/system_v.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {
namespace {

constexpr uintptr_t kPage = 4096;
constexpr uintptr_t kBeingMade = 1;
constexpr ControlStructures kSegments{SHM_STAT,         SHM_STAT_ANY,    SHM_INFO,
                                      sizeof(shmid_ds), sizeof(shminfo), sizeof(shm_info)};

// What this process has attached; copied by forks and images.
struct Attached {
  std::atomic<uintptr_t> start;  // 0: free
  uintptr_t size;
  uintptr_t at_home;  // where the deputy has it
};
constinit Attached all_attached[abi::kMostAttached] = {};
constinit std::atomic<uint64_t> device_of_segments{0};

void* Fail(int error) {
  errno = error;
  return reinterpret_cast<void*>(-1);
}

uintptr_t RoundUp(uintptr_t size) {
  return (size + kPage - 1) / kPage * kPage;
}

bool Remember(uintptr_t start, uintptr_t size, uintptr_t at_home) {
  for (Attached& entry : all_attached) {
    uintptr_t free = 0;
    if (!entry.start.compare_exchange_strong(free, kBeingMade)) continue;
    entry.size = size;
    entry.at_home = at_home;
    entry.start.store(start, std::memory_order_release);
    return true;
  }
  return false;
}

// Takes out what starts at `start`; false: nothing does.
bool Take(uintptr_t start, uintptr_t* size, uintptr_t* at_home) {
  for (Attached& entry : all_attached) {
    if (entry.start.load(std::memory_order_acquire) != start) continue;
    *size = entry.size;
    *at_home = entry.at_home;
    return entry.start.compare_exchange_strong(start, 0);
  }
  return false;
}

uint64_t TakeHex(const char** text) {
  uint64_t value = 0;
  for (;; ++*text) {
    const char c = **text;
    const bool digit = c >= '0' && c <= '9';
    if (!digit && (c < 'a' || c > 'f')) return value;
    value = value * 16 + static_cast<uint64_t>(digit ? c - '0' : c - 'a' + 10);
  }
}

// The device of the line of /proc/self/maps that begins at `start`. All segments lie on one.
uint64_t DeviceIn(const char* line, uintptr_t start) {
  if (TakeHex(&line) != start) return 0;
  for (int field = 0; field < 3; ++field) {  // to the device
    while (*line != ' ') ++line;
    ++line;
  }
  const auto major_number = static_cast<unsigned>(TakeHex(&line));
  ++line;
  return makedev(major_number, static_cast<unsigned>(TakeHex(&line)));
}

uint64_t DeviceAt(uintptr_t start) {
  const uint64_t known = device_of_segments.load(std::memory_order_relaxed);
  if (known != 0) return known;
  const long maps = raw::Syscall(SYS_open, raw::Address("/proc/self/maps"), O_RDONLY | O_CLOEXEC);
  if (raw::Failed(maps)) return 0;
  char text[8192];
  size_t filled = 0;
  uint64_t device = 0;
  for (;;) {
    const long got = raw::Read(static_cast<int>(maps), text + filled, sizeof text - filled);
    if (got <= 0) break;
    filled += static_cast<size_t>(got);
    size_t line = 0;
    for (size_t at = 0; at < filled; ++at) {
      if (text[at] != '\n') continue;
      if (device == 0) device = DeviceIn(text + line, start);
      line = at + 1;
    }
    filled -= line;
    for (size_t i = 0; i < filled; ++i) text[i] = text[line + i];
  }
  raw::Close(static_cast<int>(maps));
  device_of_segments.store(device, std::memory_order_relaxed);
  return device;
}

void Register(uintptr_t start, uintptr_t size, uint64_t device, int id) {
  registry::Add({start, start + size, {0, device, static_cast<uint64_t>(id), 0}, -1});
}

// ---- At home

void NoteAttached(void* address, int id) {
  NoteKernelObjects();
  const int before = errno;
  struct shmid_ds status {};
  if (real::shmctl(id, IPC_STAT, &status) == 0) {
    const auto start = reinterpret_cast<uintptr_t>(address);
    const uintptr_t size = RoundUp(status.shm_segsz);
    Register(start, size, DeviceAt(start), id);
    if (!Remember(start, size, start)) StayHome("the program attaches more than 48 System V segments");
  } else {
    StayHome("the program attaches a System V segment that it may not look at");
  }
  errno = before;
}

// The agent attaches what it shares with other hosts; nobody else's count has that in it.
// 1: it has this one attached, 0: not, -1: it is about to change that.
int AgentHas(const abi::Table& table, int id) {
  for (const auto& attached : table.header.attached_segments) {
    const int32_t entry = attached.load(std::memory_order_acquire);
    if (entry == id + 1) return 1;
    if (entry == -(id + 1)) return -1;
  }
  return 0;
}

int CountWithoutAgent(int id, struct shmid_ds* status) {
  const abi::Table* table = self.in_session ? AgentTable() : nullptr;
  for (;;) {
    const int before = table == nullptr ? 0 : AgentHas(*table, id);
    const int result = real::shmctl(id, IPC_STAT, status);
    if (result != 0 || table == nullptr) return result;
    if (before >= 0 && AgentHas(*table, id) == before) {
      status->shm_nattch -= static_cast<shmatt_t>(before);
      return result;
    }
    raw::Syscall(SYS_sched_yield);
  }
}

// The agent lets go of what nobody else has any more.
void TellAgent() {
  const int before = errno;
  const abi::Table* table = self.in_session && !InVforkChild() ? ConnectedTable() : nullptr;
  bool any = false;
  for (uint32_t i = 0; table != nullptr && i < abi::kAttachedSegments && !any; ++i)
    any = table->header.attached_segments[i].load(std::memory_order_relaxed) != 0;
  if (any) CallAgent(abi::Operation::kSegment, {0});
  errno = before;
}

// ---- On a worker

// Maps this host's copy of a segment; MAP_FAILED and errno.
void* MapCopy(int id, void* wanted, uintptr_t size, int flags) {
  uint64_t object[2] = {};
  const int64_t token = CallAgent(abi::Operation::kSegment, {id}, {nullptr, 0, object, sizeof object});
  if (token < 0) return MAP_FAILED;
  const int descriptor = FetchDescriptor(static_cast<uint64_t>(token));
  if (descriptor < 0) return Fail(-descriptor);
  const int protection =
      PROT_READ | ((flags & SHM_RDONLY) == 0 ? PROT_WRITE : 0) | ((flags & SHM_EXEC) != 0 ? PROT_EXEC : 0);
  const int place = wanted == nullptr ? 0 : (flags & SHM_REMAP) != 0 ? MAP_FIXED : MAP_FIXED_NOREPLACE;
  void* mapped = real::mmap(wanted, size, protection, MAP_SHARED | place, descriptor, 0);
  const int error = errno == EEXIST ? EINVAL : errno;
  raw::Close(descriptor);
  if (mapped == MAP_FAILED) return Fail(error);
  Register(reinterpret_cast<uintptr_t>(mapped), size, object[0], id);
  return mapped;
}

void* AttachOnWorker(int id, const void* address, int flags) {
  auto at = reinterpret_cast<uintptr_t>(address);
  if (at % SHMLBA != 0 && (flags & SHM_RND) == 0) return Fail(EINVAL);
  at -= at % SHMLBA;
  if (at == 0 && (flags & SHM_REMAP) != 0) return Fail(EINVAL);
  NoteKernelObjects();
  const int64_t home =
      KernelCall(SYS_shmat).Number(id).Number(0).Number(flags & (SHM_RDONLY | SHM_EXEC)).Make();
  if (home == -1) return Fail(errno);
  struct shmid_ds status {};
  void* mapped = MAP_FAILED;
  if (KernelCall(SYS_shmctl).Number(id).Number(IPC_STAT).Out(&status, sizeof status).Make() >= 0)
    mapped = MapCopy(id, reinterpret_cast<void*>(at), RoundUp(status.shm_segsz), flags);
  const auto start = reinterpret_cast<uintptr_t>(mapped);
  if (mapped != MAP_FAILED && Remember(start, RoundUp(status.shm_segsz), static_cast<uintptr_t>(home)))
    return mapped;
  const int error = mapped == MAP_FAILED ? errno : EMFILE;
  if (mapped != MAP_FAILED) hooks::munmap(mapped, RoundUp(status.shm_segsz));
  KernelCall(SYS_shmdt).Number(home).Make();
  return Fail(error);
}

}  // namespace

namespace hooks {

int shmget(key_t key, size_t size, int flags) {
  return static_cast<int>(
      KernelCall(SYS_shmget).Number(key).Number(static_cast<int64_t>(size)).Number(flags).Make());
}

void* shmat(int id, const void* address, int flags) {
  if (OnWorker()) return AttachOnWorker(id, address, flags);
  void* attached = real::shmat(id, address, flags);
  if (attached != reinterpret_cast<void*>(-1) && (self.in_session || self.may_start_session) &&
      !InVforkChild())
    NoteAttached(attached, id);
  return attached;
}

int shmdt(const void* address) {
  const auto start = reinterpret_cast<uintptr_t>(address);
  uintptr_t size = 0, at_home = 0;
  const bool known = start > kBeingMade && !InVforkChild() && Take(start, &size, &at_home);
  if (known) registry::Remove(start, start + size);
  if (!OnWorker()) {
    const int result = real::shmdt(address);
    if (result == 0) TellAgent();
    return result;
  }
  if (!known) {
    errno = EINVAL;
    return -1;
  }
  // What was written is published before whatever this agent sends.
  const int64_t result = KernelCall(SYS_shmdt).Number(static_cast<int64_t>(at_home)).Make();
  real::munmap(const_cast<void*>(address), size);
  return static_cast<int>(result);
}

int shmctl(int id, int command, struct shmid_ds* buffer) {
  if (!OnWorker()) {
    if (command == IPC_STAT) return CountWithoutAgent(id, buffer);
    const int result = real::shmctl(id, command, buffer);
    if (result >= 0 && command == IPC_RMID) TellAgent();
    return result;
  }
  KernelCall call(SYS_shmctl);
  call.Number(id).Number(command);
  AddStructure(kSegments, command, buffer, &call);
  return static_cast<int>(call.Make());
}

}  // namespace hooks
}  // namespace elsewhere::preload
