// Leaving the old process behind.
//
// What stays mapped: the read-only segments of the object that holds this code (shared with every process of
// the session), the pages of arguments and environment (so that ps shows what it showed), and one block of
// our own with state, stack and room for calls, and attached System V segments, whose count of attachments
// and whose life are the kernel's business. Everything else is unmapped from that block's stack, vDSO and
// libc included. What the kernel would touch in unmapped memory by itself is taken back first: rseq (it would
// be a SIGSEGV at the next preemption), the robust list, the address of the thread id.

#include "preload/proxy/proxy.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include "preload/proxy/loop.h"
#include "shim/wire/image_view.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::proxy {
namespace {

// State, room for calls (touched when there is one), stack.
constexpr uint64_t kStack = 3 * image::kPageSize;
constexpr uint64_t kBlock = image::kPageSize + abi::kInlineKernelMemory + kStack;
static_assert(sizeof(State) <= image::kPageSize);
constexpr uint32_t kMaxKept = 16 + abi::kMostAttached;
constexpr long kQueueFileSystem = 0x19800202;  // MQUEUE_MAGIC

struct Range {
  uint64_t start;
  uint64_t end;
};

struct Kept {
  uint32_t count;
  Range ranges[kMaxKept];  // sorted by address
};

bool Keep(Kept* kept, uint64_t start, uint64_t end) {
  if (kept->count == kMaxKept) return false;
  uint32_t at = kept->count++;
  for (; at > 0 && kept->ranges[at - 1].start > start; --at) kept->ranges[at] = kept->ranges[at - 1];
  kept->ranges[at] = {start, end};
  return true;
}

bool KeepLibrary(const image::View& view, Kept* kept) {
  const auto here = reinterpret_cast<uint64_t>(&Loop);
  uint32_t file = image::kNone;
  for (const image::Region& region : view.regions()) {
    if (here >= region.start && here < region.end) file = region.file;
  }
  if (file == image::kNone) return false;
  for (const image::Region& region : view.regions()) {
    const bool is_ours = region.file == file && (region.protection & PROT_WRITE) == 0;
    if (is_ours && !Keep(kept, region.start, region.end)) return false;
  }
  return true;
}

bool KeepArguments(const image::View& view, Kept* kept) {
  const image::MemoryMap& memory = view.header().memory;
  const uint64_t mask = image::kPageSize - 1;
  for (const image::Region& region : view.regions()) {
    if (memory.arg_start < region.start || memory.env_end > region.end) continue;
    return Keep(kept, memory.arg_start & ~mask, (memory.env_end + mask) & ~mask);
  }
  return true;  // moved by the program itself: nothing to keep
}

bool IsSegment(const image::View& view, const image::Region& region) {
  if (region.kind != static_cast<uint32_t>(image::RegionKind::kShared)) return false;
  const char* name = view.text(view.objects()[region.object].path);
  for (const char* expected = "/SYSV"; *expected != '\0'; ++expected, ++name) {
    if (*name != *expected) return false;
  }
  return true;
}

bool KeepSegments(const image::View& view, State* state, Kept* kept) {
  for (const image::Region& region : view.regions()) {
    if (!IsSegment(view, region)) continue;
    if (state->attached_count == abi::kMostAttached || !Keep(kept, region.start, region.end)) return false;
    state->attached[state->attached_count++] = region.start;
  }
  return true;
}

bool IsQueue(const image::Descriptor& descriptor) {
  struct statfs system {};
  return S_ISREG(descriptor.mode) &&
         !raw::Failed(raw::Syscall(SYS_fstatfs, descriptor.number, raw::Address(&system))) &&
         system.f_type == kQueueFileSystem;
}

void CloseRange(int first, int last) {
  if (first <= last) raw::Syscall(SYS_close_range, first, last, 0);
}

// All but ours and those of message queues, which the process goes on using through this one.
void CloseOthers(const image::View& view, const State& state) {
  const int ours[] = {state.socket, state.signals, state.lifeline};
  const auto queue = [&view](uint32_t at) -> int {
    for (; at < view.descriptors().count; ++at) {
      if (IsQueue(view.descriptors()[at])) return static_cast<int>(at);
    }
    return -1;
  };
  int next = 0;
  for (int at = queue(0);;) {
    int kept = at < 0 ? INT32_MAX : view.descriptors()[static_cast<uint32_t>(at)].number;
    for (const int descriptor : ours) {
      if (descriptor >= next && descriptor < kept) kept = descriptor;
    }
    CloseRange(next, kept == INT32_MAX ? kept : kept - 1);
    if (kept == INT32_MAX) return;
    if (at >= 0 && kept == view.descriptors()[static_cast<uint32_t>(at)].number)
      at = queue(static_cast<uint32_t>(at) + 1);
    next = kept + 1;
  }
}

bool ReadKept(int manifest, State* state, Kept* kept) {
  const long size = raw::Syscall(SYS_lseek, manifest, 0, 2 /* SEEK_END */);
  if (size <= 0) return false;
  const long bytes = raw::Syscall(SYS_mmap, 0, size, PROT_READ, MAP_PRIVATE, manifest, 0);
  if (raw::Failed(bytes)) return false;
  image::View view;
  const bool good = image::View::Open(reinterpret_cast<const void*>(bytes), static_cast<uint64_t>(size),
                                      &view) == nullptr &&
                    KeepLibrary(view, kept) && KeepArguments(view, kept) && KeepSegments(view, state, kept);
  if (good) CloseOthers(view, *state);
  raw::Syscall(SYS_munmap, bytes, size);
  return good;
}

// Whoever the process was: its handlers are not to run, its children are reaped by us.
void ForgetThread(const Start& start) {
  if (start.rseq != 0) {
    raw::Syscall(SYS_rseq, raw::Word(start.rseq), start.rseq_size, 1 /* unregister */, start.rseq_signature);
  }
  raw::Syscall(SYS_set_robust_list, 0, 24);
  raw::Syscall(SYS_set_tid_address, 0);
  const uint64_t default_action[4] = {};
  raw::Syscall(SYS_rt_sigaction, 17 /* SIGCHLD */, raw::Address(default_action), 0, 8);
}

// Runs on the block's stack.
[[noreturn]] void Leave(State* state) {
  const Kept kept = *static_cast<const Kept*>(state->kept);
  uint64_t from = 0;
  for (uint32_t i = 0; i < kept.count; ++i) {
    if (kept.ranges[i].start > from) {
      raw::Syscall(SYS_munmap, raw::Word(from), raw::Word(kept.ranges[i].start - from));
    }
    if (kept.ranges[i].end > from) from = kept.ranges[i].end;
  }
  raw::Syscall(SYS_munmap, raw::Word(from), raw::Word(image::kAddressLimit - from));
  Loop(state);
}

[[noreturn]] void SwitchStack(State* state, uint64_t stack_end) {
  __asm__ volatile(
      "movq %0, %%rsp\n\t"
      "xorl %%ebp, %%ebp\n\t"
      "call *%2\n\t"
      "hlt"
      :
      : "r"(stack_end), "D"(state), "r"(&Leave)
      : "memory");
  __builtin_unreachable();
}

}  // namespace

void Become(const Start& start) {
  Kept kept{};
  const long block =
      raw::Syscall(SYS_mmap, 0, kBlock, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw::Failed(block)) return;
  auto* state = reinterpret_cast<State*>(block);
  state->socket = start.socket;
  state->signals = start.signals;
  state->lifeline = start.lifeline;
  state->watches = -1;
  state->memory = reinterpret_cast<uint8_t*>(block) + image::kPageSize;
  if (!Keep(&kept, static_cast<uint64_t>(block), static_cast<uint64_t>(block) + kBlock) ||
      !ReadKept(start.manifest, state, &kept)) {
    raw::Syscall(SYS_munmap, block, kBlock);
    return;
  }
  state->kept = &kept;
  const uint64_t length = raw::Length(start.agent_socket);
  for (uint64_t i = 0; i < length && i + 1 < sizeof(state->agent_socket); ++i) {
    state->agent_socket[i] = start.agent_socket[i];
  }
  raw::Syscall(SYS_umask, 0);  // calls bring the mode that the process's own mask leaves
  ForgetThread(start);
  SwitchStack(state, static_cast<uint64_t>(block) + kBlock);
}

}  // namespace elsewhere::proxy
