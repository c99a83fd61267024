// What the kernel keeps for a process besides memory and descriptors: the thread's registers and addresses,
// signal state, the fields behind /proc/PID/stat, and who the process is.

#include <asm/prctl.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/prctl.h>
#include <sched.h>
#include <sys/resource.h>

#define XXH_INLINE_ALL
#define XXH_NO_STDLIB
#include <xxhash.h>

#include "preload/capture/work.h"

namespace elsewhere::capture {
namespace {

struct KernelStack {  // stack_t
  uint64_t address;
  int32_t flags;
  uint32_t padding;
  uint64_t size;
};

void ReadThread(Work* work) {
  image::Thread& thread = work->header.thread;
  const Request& request = *work->request;
  thread.registers = *request.registers;
  raw::Syscall(SYS_arch_prctl, ARCH_GET_FS, raw::Address(&thread.fs_base));
  raw::Syscall(SYS_arch_prctl, ARCH_GET_GS, raw::Address(&thread.gs_base));
  raw::Syscall(SYS_prctl, PR_GET_TID_ADDRESS, raw::Address(&thread.tid_address));
  raw::Syscall(SYS_get_robust_list, 0, raw::Address(&thread.robust_list),
               raw::Address(&thread.robust_list_size));
  thread.rseq = request.rseq;
  thread.rseq_size = request.rseq_size;
  thread.rseq_signature = request.rseq_signature;
  KernelStack stack{};
  raw::Syscall(SYS_sigaltstack, 0, raw::Address(&stack));
  thread.signal_stack = stack.address;
  thread.signal_stack_size = stack.size;
  thread.signal_stack_flags = static_cast<uint32_t>(stack.flags);
  thread.note = reinterpret_cast<uintptr_t>(request.note);
  thread.note_size = request.note_size;
  thread.mapped_files = reinterpret_cast<uintptr_t>(request.mapped_files);
  thread.mapped_file_limit = request.mapped_file_limit;
  thread.curbrk = reinterpret_cast<uintptr_t>(request.curbrk);
}

bool ReadActions(Work* work) {
  for (uint32_t number = 1; number <= image::kSignalCount; ++number) {
    const long result =
        raw::Syscall(SYS_rt_sigaction, number, 0, raw::Address(&work->header.actions[number - 1]), 8);
    if (raw::Failed(result)) return Fail(work, "a signal action cannot be read", result);
  }
  return true;
}

long ReadFile(const char* path, void* buffer, uint64_t size) {
  const long file = raw::Syscall(SYS_open, raw::Address(path), O_RDONLY | O_CLOEXEC);
  if (raw::Failed(file)) return file;
  uint64_t filled = 0;
  long got;
  do {
    got = raw::Read(static_cast<int>(file), static_cast<char*>(buffer) + filled, size - filled);
    if (got > 0) filled += static_cast<uint64_t>(got);
  } while (got > 0 && filled < size);
  raw::Close(static_cast<int>(file));
  return raw::Failed(got) ? got : static_cast<long>(filled);
}

// man 5 proc_pid_stat; the fields are numbered from 1, the command (2) may contain anything.
bool ReadMemoryMap(Work* work) {
  const long got = ReadFile("/proc/self/stat", work->text, kTextBuffer - 1);
  if (got <= 0) return Fail(work, "/proc/self/stat cannot be read", got);
  long at = got;
  while (at > 0 && work->text[at - 1] != ')') --at;
  uint64_t fields[53] = {};
  for (uint32_t field = 3; field < 53 && at < got; ++field) {
    while (at < got && work->text[at] == ' ') ++at;
    for (; at < got && work->text[at] != ' ' && work->text[at] != '\n'; ++at) {
      fields[field] = fields[field] * 10 + static_cast<uint64_t>(work->text[at] - '0');
    }
  }
  image::MemoryMap& memory = work->header.memory;
  memory.start_code = fields[26];
  memory.end_code = fields[27];
  memory.start_stack = fields[28];
  memory.start_data = fields[45];
  memory.end_data = fields[46];
  memory.start_brk = fields[47];
  memory.arg_start = fields[48];
  memory.arg_end = fields[49];
  memory.env_start = fields[50];
  memory.env_end = fields[51];
  memory.brk = static_cast<uint64_t>(raw::Syscall(SYS_brk, 0));
  return memory.arg_start != 0 || Fail(work, "/proc/self/stat hides addresses");
}

bool ReadAuxv(Work* work) {
  const long got = ReadFile("/proc/self/auxv", work->auxv.items, image::kMaxAuxv);
  if (got <= 0) return Fail(work, "/proc/self/auxv cannot be read", got);
  work->auxv.count = static_cast<uint32_t>(got);
  return true;
}

bool ReadTexts(Work* work) {
  image::Identity& identity = work->header.identity;
  raw::Syscall(SYS_prctl, PR_GET_NAME, raw::Address(work->text));
  identity.command = AddText(work, work->text, raw::Length(work->text));
  const long directory = raw::Syscall(SYS_getcwd, raw::Address(work->text), kTextBuffer);
  if (raw::Failed(directory)) return Fail(work, "the working directory has no name", directory);
  identity.directory = AddText(work, work->text, raw::Length(work->text));
  const long length =
      raw::Syscall(SYS_readlink, raw::Address("/proc/self/exe"), raw::Address(work->text), kTextBuffer - 1);
  identity.executable = raw::Failed(length) ? 0 : AddText(work, work->text, static_cast<uint64_t>(length));
  const bool stored = identity.command != image::kNone && identity.directory != image::kNone &&
                      identity.executable != image::kNone;
  return stored || Fail(work, "too much text");
}

void ReadCredentials(Work* work) {
  image::Identity& identity = work->header.identity;
  raw::Syscall(SYS_getresuid, raw::Address(&identity.user[0]), raw::Address(&identity.user[1]),
               raw::Address(&identity.user[2]));
  raw::Syscall(SYS_getresgid, raw::Address(&identity.group[0]), raw::Address(&identity.group[1]),
               raw::Address(&identity.group[2]));
  const long groups = raw::Syscall(SYS_getgroups, image::kMaxGroups, raw::Address(work->groups.items));
  work->groups.count = raw::Failed(groups) ? 0 : static_cast<uint32_t>(groups);
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  raw::Syscall(SYS_capget, raw::Address(&header), raw::Address(data));
  identity.capabilities = data[0].effective | uint64_t{data[1].effective} << 32;
}

void ReadSettings(Work* work) {
  image::Identity& identity = work->header.identity;
  const long mask = raw::Syscall(SYS_umask, 0);
  raw::Syscall(SYS_umask, mask);
  identity.mask = static_cast<uint32_t>(mask);
  identity.personality = static_cast<uint32_t>(raw::Syscall(SYS_personality, 0xffffffff));
  // The system call returns 20 - nice, so that it is never negative.
  identity.nice = 20 - static_cast<int32_t>(raw::Syscall(SYS_getpriority, PRIO_PROCESS, 0));
  identity.process = static_cast<int32_t>(raw::Syscall(SYS_getpid));
  identity.parent = static_cast<int32_t>(raw::Syscall(SYS_getppid));
  raw::Syscall(SYS_sched_getaffinity, 0, sizeof(identity.affinity), raw::Address(identity.affinity));
  for (uint32_t limit = 0; limit < image::kLimitCount; ++limit) {
    raw::Syscall(SYS_prlimit64, 0, limit, 0, raw::Address(&identity.limits[limit]));
  }
}

void HashVdso(Work* work) {
  for (uint32_t i = 0; i < work->regions.count; ++i) {
    const image::Region& region = work->regions.items[i];
    if (region.kind != static_cast<uint32_t>(image::RegionKind::kVdso)) continue;
    if (region.source != static_cast<uint32_t>(image::VdsoPart::kCode)) continue;
    const XXH128_hash_t hash =
        XXH3_128bits(reinterpret_cast<const void*>(region.start), region.end - region.start);
    work->header.identity.vdso_hash[0] = hash.low64;
    work->header.identity.vdso_hash[1] = hash.high64;
  }
}

}  // namespace

bool ReadIdentity(Work* work) {
  // A worker may lack the right to a real-time policy, and a child without it would be another child.
  if (raw::Syscall(SYS_sched_getscheduler, 0) != SCHED_OTHER)
    return Fail(work, "a scheduling policy of its own does not move");
  ReadThread(work);
  ReadCredentials(work);
  ReadSettings(work);
  HashVdso(work);
  return ReadActions(work) && ReadMemoryMap(work) && ReadAuxv(work) && ReadTexts(work);
}

}  // namespace elsewhere::capture
