// The proxy's main thread tries a call so that it cannot block; what would block goes to a helper, a thread
// of the proxy, which makes it as it was asked for. A helper that has answered waits for its next call.
#include "preload/proxy/kernel_call.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/sem.h>
#include <time.h>

#include <atomic>

#include "preload/proxy/home_files.h"
#include "preload/proxy/thread.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::proxy {

struct Helper {
  Helper* next;
  const State* state;
  std::atomic<uint32_t> busy;  // futex: 1 while there is a call to make
  std::atomic<uint64_t> job;   // id of the call
  uint64_t cancelled;          // id of the call that must not block any more
  bool stray;                  // a signal came for a call that had ended
  long thread;
  abi::KernelCall call;
  uint8_t* memory;
  uint64_t mapped;  // bytes of `memory` if it is not `own`
  uint8_t* own;     // kInlineKernelMemory bytes
};

namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kHelperStack = 2 * kPage;
constexpr uint64_t kHelperBlock = kPage + abi::kInlineKernelMemory + kHelperStack;
constexpr int kOurCode = -77;  // si_code of cancelling signals
constexpr int kFirstHighDescriptor = abi::kFirstOwnDescriptor;

struct Resolved {
  int64_t arguments[6];
};

Resolved Resolve(const abi::KernelCall& call, uint8_t* memory) {
  Resolved resolved;
  for (unsigned i = 0; i < 6; ++i) {
    const bool points = (call.pointers >> i & 1) != 0;
    resolved.arguments[i] = points ? raw::Address(memory + call.arguments[i]) : call.arguments[i];
  }
  return resolved;
}

long Make(long number, const Resolved& call) {
  const int64_t* a = call.arguments;
  return raw::Syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

void Answer(const State& state, uint64_t id, long result, const abi::KernelCall& call, const uint8_t* memory,
            bool large) {
  uint64_t size = 0;
  if (result >= 0 && !large) {
    size = call.answer + (call.grows != 0 ? static_cast<uint64_t>(result) : 0);
    if (size > call.memory) size = call.memory;
  }
  abi::KernelAnswer answer{};
  answer.header = {static_cast<uint32_t>(abi::Packet::kKernelAnswer),
                   static_cast<uint32_t>(sizeof answer + size)};
  answer.id = id;
  answer.result = result;
  SendPacket(state, &answer, sizeof answer, memory, size);
}

// ---- Trying

// The call in the form that does not block. False: it would have to wait.
bool TryQueue(const abi::KernelCall& call, Resolved arguments, long* result) {
  const auto* limit = reinterpret_cast<const timespec*>(arguments.arguments[4]);
  const bool valid =
      limit == nullptr || (limit->tv_sec >= 0 && limit->tv_nsec >= 0 && limit->tv_nsec < 1'000'000'000);
  const timespec past{};
  if (valid) arguments.arguments[4] = raw::Address(&past);
  *result = Make(call.number, arguments);
  return !valid || *result != -ETIMEDOUT;
}

bool TrySemaphores(const abi::KernelCall& call, const Resolved& arguments, long* result) {
  auto* operations = reinterpret_cast<sembuf*>(arguments.arguments[1]);
  const uint64_t room = (call.memory - static_cast<uint64_t>(call.arguments[1])) / sizeof(sembuf);
  const auto given = static_cast<uint64_t>(arguments.arguments[2]);
  const uint64_t count = given < room ? given : room;
  // A bit of the flags that the kernel does not use remembers who did not want to wait.
  constexpr short kWaits = 0x2000;
  bool waits = false;
  for (uint64_t i = 0; i < count; ++i) {
    if ((operations[i].sem_flg & IPC_NOWAIT) != 0) continue;
    operations[i].sem_flg = static_cast<short>(operations[i].sem_flg | IPC_NOWAIT | kWaits);
    waits = true;
  }
  *result = Make(call.number, arguments);
  for (uint64_t i = 0; i < count; ++i) {
    if ((operations[i].sem_flg & kWaits) == 0) continue;
    operations[i].sem_flg = static_cast<short>(operations[i].sem_flg & ~(IPC_NOWAIT | kWaits));
  }
  return !waits || *result != -EAGAIN;
}

bool TryMessage(const abi::KernelCall& call, Resolved arguments, int flags_at, long full, long* result) {
  int64_t& flags = arguments.arguments[flags_at];
  const bool waits = (flags & IPC_NOWAIT) == 0;
  flags |= IPC_NOWAIT;
  *result = Make(call.number, arguments);
  return !waits || *result != full;
}

bool TryWait(const abi::KernelCall& call, Resolved arguments, long* result) {
  constexpr int64_t kNoHang = 1;  // WNOHANG
  arguments.arguments[2] |= kNoHang;
  *result = Make(call.number, arguments);
  return *result != 0;
}

bool Try(const abi::KernelCall& call, uint8_t* memory, long* result) {
  const Resolved arguments = Resolve(call, memory);
  switch (call.number) {
    case SYS_mq_timedsend:
    case SYS_mq_timedreceive:
      return TryQueue(call, arguments, result);
    case SYS_semtimedop:
      return TrySemaphores(call, arguments, result);
    case SYS_msgsnd:
      return TryMessage(call, arguments, 3, -EAGAIN, result);
    case SYS_msgrcv:
      return TryMessage(call, arguments, 4, -ENOMSG, result);
    case SYS_wait4:
      return TryWait(call, arguments, result);
    default:
      *result = Make(call.number, arguments);
      return true;
  }
}

// ---- Helpers

void OnCancel(int, siginfo_t* info, void* context) {
  if (info->si_code != kOurCode) return;
  auto* helper = static_cast<Helper*>(info->si_value.sival_ptr);
  const uint64_t cancelled = __atomic_load_n(&helper->cancelled, __ATOMIC_RELAXED);
  if (cancelled != helper->job.load(std::memory_order_relaxed)) {
    helper->stray = true;
    return;
  }
  Interrupt(context);
}

void Serve(Helper* helper) {
  const Resolved arguments = Resolve(helper->call, helper->memory);
  const uint64_t job = helper->job.load(std::memory_order_relaxed);
  long result;
  do {
    helper->stray = false;
    result = CallUnless(&helper->cancelled, job, helper->call.number, arguments.arguments);
  } while (result == -EINTR && helper->stray && __atomic_load_n(&helper->cancelled, __ATOMIC_RELAXED) != job);
  Answer(*helper->state, job, result, helper->call, helper->memory, helper->mapped != 0);
  if (helper->mapped != 0) raw::Syscall(SYS_munmap, raw::Address(helper->memory), raw::Word(helper->mapped));
}

void Help(void* argument) {
  auto* helper = static_cast<Helper*>(argument);
  const uint64_t mask = ~(uint64_t{1} << (kSignalCancel - 1));
  raw::Syscall(SYS_rt_sigprocmask, SIG_SETMASK, raw::Address(&mask), 0, 8);
  for (;;) {
    while (helper->busy.load(std::memory_order_acquire) == 0) {
      raw::Syscall(SYS_futex, raw::Address(&helper->busy), FUTEX_WAIT_PRIVATE, 0);
    }
    Serve(helper);
    helper->busy.store(0, std::memory_order_release);
  }
}

void HandleCancel() {
  struct {
    void (*handler)(int, siginfo_t*, void*);
    uint64_t flags;
    void (*restorer)();
    uint64_t mask;
  } action{OnCancel, SA_SIGINFO | 0x04000000 /* SA_RESTORER */, elsewhere_proxy_return_from_signal,
           ~uint64_t{0}};
  raw::Syscall(SYS_rt_sigaction, kSignalCancel, raw::Address(&action), 0, 8);
}

Helper* NewHelper(State* state) {
  const long block =
      raw::Syscall(SYS_mmap, 0, kHelperBlock, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw::Failed(block)) return nullptr;
  if (state->helpers == nullptr) HandleCancel();
  auto* helper = reinterpret_cast<Helper*>(block);
  helper->next = state->helpers;
  helper->state = state;
  helper->own = reinterpret_cast<uint8_t*>(block) + kPage;
  helper->thread = StartThread(Help, helper, reinterpret_cast<uint8_t*>(block) + kHelperBlock);
  if (raw::Failed(helper->thread)) {
    raw::Syscall(SYS_munmap, block, kHelperBlock);
    return nullptr;
  }
  state->helpers = helper;
  return helper;
}

Helper* IdleHelper(State* state) {
  for (Helper* helper = state->helpers; helper != nullptr; helper = helper->next) {
    if (helper->busy.load(std::memory_order_acquire) == 0) return helper;
  }
  return NewHelper(state);
}

// False: there is no room for one.
bool GiveToHelper(State* state, uint64_t id, const abi::KernelCall& call, uint8_t* memory, uint64_t mapped) {
  Helper* helper = IdleHelper(state);
  if (helper == nullptr) return false;
  helper->call = call;
  helper->mapped = mapped;
  helper->memory = mapped != 0 ? memory : helper->own;
  for (uint32_t i = 0; mapped == 0 && i < call.memory; ++i) helper->own[i] = memory[i];
  helper->job.store(id, std::memory_order_relaxed);
  helper->busy.store(1, std::memory_order_release);
  raw::Syscall(SYS_futex, raw::Address(&helper->busy), FUTEX_WAKE_PRIVATE, 1);
  return true;
}

void Cancel(Helper* helper) {
  const uint64_t job = helper->job.load(std::memory_order_relaxed);
  __atomic_store_n(&helper->cancelled, job, __ATOMIC_RELAXED);
  siginfo_t info{};
  info.si_signo = kSignalCancel;
  info.si_code = kOurCode;
  info.si_value.sival_ptr = helper;
  raw::Syscall(SYS_rt_tgsigqueueinfo, raw::Syscall(SYS_getpid), helper->thread, kSignalCancel,
               raw::Address(&info));
}

// ---- What is more than a system call

bool IsOurs(const State& state, int descriptor) {
  return descriptor == state.socket || descriptor == state.signals || descriptor == state.lifeline ||
         descriptor == state.watches;
}

// Before a queue gets the number `descriptor`.
long MakeRoom(State* state, int descriptor) {
  for (int* ours : {&state->socket, &state->signals, &state->lifeline, &state->watches}) {
    if (*ours < 0 || *ours != descriptor) continue;
    const long moved = raw::Syscall(SYS_fcntl, descriptor, F_DUPFD_CLOEXEC, kFirstHighDescriptor);
    if (raw::Failed(moved)) return moved;
    __atomic_store_n(ours, static_cast<int>(moved), __ATOMIC_RELAXED);
  }
  return 0;
}

// Closing any descriptor of a queue ends the process's notification by it. One that was opened on the way to
// its number must not, so it stays open where that would be.
void CloseUnlessNotified(int descriptor) {
  char text[128];
  const long size = raw::Syscall(SYS_pread64, descriptor, raw::Address(text), sizeof text - 1, 0);
  constexpr char kField[] = "NOTIFY_PID:";
  long owner = 0;
  for (long at = 0; at + static_cast<long>(sizeof kField) < size; ++at) {
    long matched = 0;
    while (kField[matched] != '\0' && text[at + matched] == kField[matched]) ++matched;
    if (kField[matched] != '\0') continue;
    for (long i = at + matched; i < size && text[i] >= '0' && text[i] <= '9'; ++i)
      owner = owner * 10 + (text[i] - '0');
  }
  if (raw::Failed(size) || owner != raw::Syscall(SYS_getpid)) raw::Close(descriptor);
}

long OpenQueue(State* state, const Resolved& call) {
  const int64_t* a = call.arguments;
  const long opened = raw::Syscall(SYS_mq_open, a[0], a[1], a[2], a[3]);
  if (raw::Failed(opened) || opened == a[4]) return opened;
  long result = MakeRoom(state, static_cast<int>(a[4]));
  if (!raw::Failed(result)) result = raw::Syscall(SYS_dup3, opened, a[4], O_CLOEXEC);
  CloseUnlessNotified(static_cast<int>(opened));
  return result;
}

long Duplicate(State* state, int from, int to, int flags) {
  const long result = MakeRoom(state, to);
  return raw::Failed(result) ? result : raw::Syscall(SYS_dup3, from, to, flags);
}

// Others may hold the same description, so that closing ends no watch.
long CloseQueue(const State& state, int descriptor) {
  if (IsOurs(state, descriptor)) return -EBADF;
  if (state.watches >= 0) raw::Syscall(SYS_epoll_ctl, state.watches, EPOLL_CTL_DEL, descriptor, 0);
  return raw::Close(descriptor);
}

long Ready(int descriptor) {
  pollfd one{descriptor, POLLIN | POLLOUT, 0};
  const long result = raw::Syscall(SYS_poll, raw::Address(&one), 1, 0);
  return raw::Failed(result) ? result : one.revents;
}

long WatchQueue(State* state, int descriptor) {
  if (IsOurs(*state, descriptor)) return -EBADF;
  if (state->watches < 0) {
    const long made = raw::Syscall(SYS_epoll_create1, EPOLL_CLOEXEC);
    if (raw::Failed(made)) return made;
    const long high = raw::Syscall(SYS_fcntl, made, F_DUPFD_CLOEXEC, kFirstHighDescriptor);
    state->watches = static_cast<int>(raw::Failed(high) ? made : high);
    if (!raw::Failed(high)) raw::Close(static_cast<int>(made));
  }
  epoll_event event{};
  event.events = EPOLLIN | EPOLLOUT | EPOLLET;
  event.data.fd = descriptor;
  const long result =
      raw::Syscall(SYS_epoll_ctl, state->watches, EPOLL_CTL_ADD, descriptor, raw::Address(&event));
  return raw::Failed(result) && result != -EEXIST ? result : Ready(descriptor);
}

// What is close-on-exec is closed, segments are detached, and calls of threads that are no more end.
long Executed(State* state) {
  for (Helper* helper = state->helpers; helper != nullptr; helper = helper->next) {
    if (helper->busy.load(std::memory_order_acquire) != 0) Cancel(helper);
  }
  while (state->attached_count > 0)
    raw::Syscall(SYS_shmdt, raw::Word(state->attached[--state->attached_count]));
  const long listing =
      raw::Syscall(SYS_open, raw::Address("/proc/self/fd"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (raw::Failed(listing)) return listing;
  for (;;) {
    const long size =
        raw::Syscall(SYS_getdents64, listing, raw::Address(state->memory), abi::kInlineKernelMemory);
    if (size <= 0) break;
    for (long at = 0; at < size;) {
      const uint8_t* entry = state->memory + at;  // struct linux_dirent64: its size at 16, its name at 19
      int number = 0;
      const uint8_t* name = entry + 19;
      for (; *name >= '0' && *name <= '9'; ++name) number = number * 10 + (*name - '0');
      const bool is_queue =
          *name == '\0' && name != entry + 19 && number != listing && !IsOurs(*state, number);
      if (is_queue && (raw::Syscall(SYS_fcntl, number, F_GETFD) & FD_CLOEXEC) != 0)
        CloseQueue(*state, number);
      at += entry[16] | entry[17] << 8;
    }
  }
  return raw::Close(static_cast<int>(listing));
}

// Attached segments are this process's until it ends, as they were the old one's.
long Attach(State* state, const Resolved& call) {
  if (state->attached_count == abi::kMostAttached) return -EMFILE;
  const long address = Make(SYS_shmat, call);
  if (!raw::Failed(address)) state->attached[state->attached_count++] = static_cast<uint64_t>(address);
  return address;
}

long Detach(State* state, const Resolved& call) {
  const long result = Make(SYS_shmdt, call);
  const auto address = static_cast<uint64_t>(call.arguments[0]);
  for (uint32_t i = 0; !raw::Failed(result) && i < state->attached_count; ++i) {
    if (state->attached[i] != address) continue;
    state->attached[i] = state->attached[--state->attached_count];
    break;
  }
  return result;
}

// True: it was one of these.
bool MakeOwn(State* state, const abi::KernelCall& call, uint8_t* memory, long* result) {
  const Resolved arguments = Resolve(call, memory);
  const int64_t* a = arguments.arguments;
  switch (call.number) {
    case static_cast<int64_t>(abi::DeputyCall::kOpenQueue):
      *result = OpenQueue(state, arguments);
      return true;
    case static_cast<int64_t>(abi::DeputyCall::kDuplicate):
      *result = Duplicate(state, static_cast<int>(a[0]), static_cast<int>(a[1]), static_cast<int>(a[2]));
      return true;
    case static_cast<int64_t>(abi::DeputyCall::kClose):
      *result = CloseQueue(*state, static_cast<int>(a[0]));
      return true;
    case static_cast<int64_t>(abi::DeputyCall::kWatchQueue):
      *result = WatchQueue(state, static_cast<int>(a[0]));
      return true;
    case static_cast<int64_t>(abi::DeputyCall::kExecuted):
      *result = Executed(state);
      return true;
    case static_cast<int64_t>(abi::DeputyCall::kReadFile):
      *result = ReadFile(a);
      return true;
    case static_cast<int64_t>(abi::DeputyCall::kListDirectory):
      *result = ListDirectory(a);
      return true;
    case SYS_shmat:
      *result = Attach(state, arguments);
      return true;
    case SYS_shmdt:
      *result = Detach(state, arguments);
      return true;
    default:
      return false;
  }
}

}  // namespace

void MakeKernelCall(State* state, const abi::KernelPacket& packet, int descriptor) {
  const abi::KernelCall& call = packet.call;
  uint8_t* memory = state->memory;
  uint64_t mapped = 0;
  if (descriptor >= 0) {
    mapped = call.memory;
    const long at =
        raw::Syscall(SYS_mmap, 0, raw::Word(mapped), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor);
    raw::Close(descriptor);
    if (raw::Failed(at)) return Answer(*state, packet.id, -ENOMEM, call, nullptr, true);
    memory = reinterpret_cast<uint8_t*>(at);
  } else {
    for (uint32_t i = call.data; i < call.memory; ++i) memory[i] = 0;
  }
  long result = 0;
  const bool done = MakeOwn(state, call, memory, &result) || Try(call, memory, &result);
  if (!done && GiveToHelper(state, packet.id, call, memory, mapped)) return;
  Answer(*state, packet.id, done ? result : -ENOMEM, call, memory, mapped != 0);
  if (mapped != 0) raw::Syscall(SYS_munmap, raw::Address(memory), raw::Word(mapped));
}

void CancelKernelCall(const State& state, uint64_t id) {
  for (Helper* helper = state.helpers; helper != nullptr; helper = helper->next) {
    if (helper->busy.load(std::memory_order_acquire) != 0 && helper->job.load() == id) Cancel(helper);
  }
}

void ForgetHelpers(State* state) {
  while (state->helpers != nullptr) {
    Helper* helper = state->helpers;
    state->helpers = helper->next;
    raw::Syscall(SYS_munmap, raw::Address(helper), kHelperBlock);
  }
  if (state->watches >= 0) raw::Close(state->watches);
  state->watches = -1;
}

void TellWatches(const State& state) {
  constexpr int kAtOnce = 16;
  epoll_event events[kAtOnce];
  const long count = raw::Syscall(SYS_epoll_wait, state.watches, raw::Address(events), kAtOnce, 0);
  for (long i = 0; i < count; ++i) {
    const int descriptor = events[i].data.fd;
    const long ready = Ready(descriptor);
    if (raw::Failed(ready)) continue;
    abi::KernelEvent event{};
    event.header = {static_cast<uint32_t>(abi::Packet::kKernelEvent), sizeof event};
    event.descriptor = descriptor;
    event.state = static_cast<uint32_t>(ready);
    SendPacket(state, &event, sizeof event, nullptr, 0);
  }
}

}  // namespace elsewhere::proxy
