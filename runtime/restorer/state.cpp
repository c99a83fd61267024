// What the kernel keeps for a process besides memory and descriptors.

#include <asm/prctl.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/prctl.h>
#include <sys/resource.h>

#include "runtime/restorer/child.h"

namespace elsewhere::restorer {
namespace {

constexpr uint32_t kStackDisabled = 2;  // SS_DISABLE
constexpr uint32_t kStackOn = 1;        // SS_ONSTACK
constexpr uint32_t kKill = 9, kStop = 19;
constexpr uint32_t kRseqCpu = 4, kRseqSection = 8;  // offsets in struct rseq
constexpr int32_t kRseqFailed = -2;

template <class T>
void Store(uint64_t address, T value) {
  *reinterpret_cast<volatile T*>(address) = value;
}

prctl_mm_map ToKernel(const Child* child) {
  const image::MemoryMap& memory = child->view.header().memory;
  prctl_mm_map map{};
  map.start_code = memory.start_code;
  map.end_code = memory.end_code;
  map.start_data = memory.start_data;
  map.end_data = memory.end_data;
  map.start_brk = memory.start_brk;
  map.brk = memory.brk;
  map.start_stack = memory.start_stack;
  map.arg_start = memory.arg_start;
  map.arg_end = memory.arg_end;
  map.env_start = memory.env_start;
  map.env_end = memory.env_end;
  map.auxv = reinterpret_cast<__u64*>(reinterpret_cast<uintptr_t>(child->view.auxv().data));
  map.auxv_size = child->view.auxv().count;
  map.exe_fd = UINT32_MAX;
  return map;
}

long SetMemoryMap(const prctl_mm_map& map) {
  return raw::Syscall(SYS_prctl, PR_SET_MM, PR_SET_MM_MAP, raw::Address(&map), sizeof(map));
}

// With privileges over the user namespace /proc/self/exe becomes the program; without, it stays the restorer.
bool SetMemoryMapWithProgram(const Child* child, prctl_mm_map map) {
  const char* path = child->view.text(child->view.header().identity.executable);
  const long program = raw::Syscall(SYS_open, raw::Address(path), O_RDONLY | O_CLOEXEC);
  if (raw::Failed(program)) return false;
  map.exe_fd = static_cast<uint32_t>(program);
  const long result = SetMemoryMap(map);
  raw::Close(static_cast<int>(program));
  return !raw::Failed(result);
}

bool RestoreSignals(Child* child) {
  for (uint32_t number = 1; number <= image::kSignalCount; ++number) {
    const image::SignalAction& action = child->view.header().actions[number - 1];
    if (action.handler == 0 || number == kKill || number == kStop) continue;
    const long result = raw::Syscall(SYS_rt_sigaction, number, raw::Address(&action), 0, 8);
    if (raw::Failed(result)) return Fail(child, "a signal action cannot be set", result, action.handler);
  }
  const image::Thread& thread = child->view.header().thread;
  if ((thread.signal_stack_flags & kStackDisabled) != 0 || thread.signal_stack == 0) return true;
  const struct {
    uint64_t address;
    uint32_t flags;
    uint32_t padding;
    uint64_t size;
  } stack{thread.signal_stack, thread.signal_stack_flags & ~kStackOn, 0, thread.signal_stack_size};
  const long result = raw::Syscall(SYS_sigaltstack, raw::Address(&stack), 0);
  return !raw::Failed(result) || Fail(child, "the signal stack cannot be set", result, thread.signal_stack);
}

void RestoreRseq(const image::Thread& thread) {
  if (thread.rseq == 0) return;
  Store<uint64_t>(thread.rseq + kRseqSection, 0);
  const long result =
      raw::Syscall(SYS_rseq, raw::Word(thread.rseq), thread.rseq_size, 0, thread.rseq_signature);
  // What libc itself writes when the kernel refuses: users of rseq then take their slow path.
  if (raw::Failed(result)) Store<int32_t>(thread.rseq + kRseqCpu, kRseqFailed);
}

void RestoreThread(Child* child) {
  const image::Thread& thread = child->view.header().thread;
  raw::Syscall(SYS_arch_prctl, ARCH_SET_FS, raw::Word(thread.fs_base));
  if (thread.gs_base != 0) raw::Syscall(SYS_arch_prctl, ARCH_SET_GS, raw::Word(thread.gs_base));
  if (thread.tid_address != 0) {
    const long id = raw::Syscall(SYS_set_tid_address, raw::Word(thread.tid_address));
    Store<int32_t>(thread.tid_address, static_cast<int32_t>(id));
  }
  if (thread.robust_list != 0) {
    raw::Syscall(SYS_set_robust_list, raw::Word(thread.robust_list), raw::Word(thread.robust_list_size));
  }
  RestoreRseq(thread);
}

bool RestoreUser(Child* child) {
  const image::Identity& identity = child->view.header().identity;
  uint32_t now[3] = {};
  raw::Syscall(SYS_getresgid, raw::Address(&now[0]), raw::Address(&now[1]), raw::Address(&now[2]));
  if (now[0] != identity.group[0] || now[1] != identity.group[1] || now[2] != identity.group[2]) {
    const long result = raw::Syscall(SYS_setresgid, identity.group[0], identity.group[1], identity.group[2]);
    if (raw::Failed(result)) return Fail(child, "the group cannot be taken here", result);
  }
  raw::Syscall(SYS_getresuid, raw::Address(&now[0]), raw::Address(&now[1]), raw::Address(&now[2]));
  if (now[0] != identity.user[0] || now[1] != identity.user[1] || now[2] != identity.user[2]) {
    const long result = raw::Syscall(SYS_setresuid, identity.user[0], identity.user[1], identity.user[2]);
    if (raw::Failed(result)) return Fail(child, "the user cannot be taken here", result);
  }
  return true;
}

// The worker may have more rights over its namespace than the process had at home.
void DropCapabilities(Child* child) {
  const uint64_t kept = child->view.header().identity.capabilities;
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  if (raw::Failed(raw::Syscall(SYS_capget, raw::Address(&header), raw::Address(data)))) return;
  for (uint32_t half = 0; half < 2; ++half) {
    const auto mask = static_cast<uint32_t>(kept >> (32 * half));
    data[half].effective &= mask;
    data[half].permitted &= mask;
    data[half].inheritable = 0;
  }
  raw::Syscall(SYS_capset, raw::Address(&header), raw::Address(data));
}

bool RestoreSettings(Child* child) {
  const image::Identity& identity = child->view.header().identity;
  const char* directory = child->view.text(identity.directory);
  const long moved = raw::Syscall(SYS_chdir, raw::Address(directory));
  if (raw::Failed(moved)) return Fail(child, "the working directory cannot be entered", moved);
  raw::Syscall(SYS_umask, identity.mask);
  raw::Syscall(SYS_prctl, PR_SET_NAME, raw::Address(child->view.text(identity.command)));
  if (raw::Syscall(SYS_personality, 0xffffffff) != static_cast<long>(identity.personality)) {
    raw::Syscall(SYS_personality, identity.personality);
  }
  if (20 - raw::Syscall(SYS_getpriority, PRIO_PROCESS, 0) != identity.nice) {
    raw::Syscall(SYS_setpriority, PRIO_PROCESS, 0, identity.nice);
  }
  if ((child->job->request.flags & restore::kApplyAffinity) != 0) {
    raw::Syscall(SYS_sched_setaffinity, 0, sizeof(identity.affinity), raw::Address(identity.affinity));
  }
  return true;
}

bool WriteNote(Child* child) {
  const image::Thread& thread = child->view.header().thread;
  const restore::RestoreRequest& request = child->job->request;
  if (request.note_size == 0) return true;
  const bool fits = thread.note != 0 && request.note_size <= thread.note_size &&
                    IsWritable(child, thread.note, request.note_size);
  if (!fits) return Fail(child, "the image has no room for the agent's note", 0, thread.note);
  __builtin_memcpy(reinterpret_cast<void*>(thread.note), request.note, request.note_size);
  return true;
}

}  // namespace

bool RestoreMemoryMap(Child* child) {
  const prctl_mm_map map = ToKernel(child);
  long result = -22;
  if ((child->job->request.flags & restore::kAvoidMemoryMap) == 0) {
    if (SetMemoryMapWithProgram(child, map)) return true;
    result = SetMemoryMap(map);
  }
  if (!raw::Failed(result)) return true;
  // This process keeps the zygote's break. libc then believes that somebody else moved it and starts a new
  // heap there.
  const uint64_t curbrk = child->view.header().thread.curbrk;
  if (curbrk == 0) return Fail(child, "the program break cannot be moved", result);
  Store<uint64_t>(curbrk, static_cast<uint64_t>(raw::Syscall(SYS_brk, 0)));
  return true;
}

bool RestoreState(Child* child) {
  if (!RestoreSignals(child) || !RestoreSettings(child) || !RestoreUser(child) || !WriteNote(child))
    return false;
  RestoreThread(child);
  DropCapabilities(child);
  return true;
}

// A hard limit that is higher at home cannot be had here; the soft limit is what programs look at.
void RestoreLimits(Child* child) {
  const image::Identity& identity = child->view.header().identity;
  for (uint32_t limit = 0; limit < image::kLimitCount; ++limit) {
    image::Limit now{};
    if (raw::Failed(raw::Syscall(SYS_prlimit64, 0, limit, 0, raw::Address(&now)))) continue;
    image::Limit wanted = identity.limits[limit];
    if (wanted.soft == now.soft && wanted.hard == now.hard) continue;
    if (!raw::Failed(raw::Syscall(SYS_prlimit64, 0, limit, raw::Address(&wanted), 0))) continue;
    if (wanted.hard > now.hard) wanted.hard = now.hard;
    if (wanted.soft > wanted.hard) wanted.soft = wanted.hard;
    raw::Syscall(SYS_prlimit64, 0, limit, raw::Address(&wanted), 0);
  }
}

}  // namespace elsewhere::restorer
