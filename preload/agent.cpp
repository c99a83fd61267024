// Connecting: one thread does it with all signals blocked (a handler that needed the agent would wait for
// itself), others wait on the state's futex. What a connection consists of is written before the state says
// kReady and not changed afterwards, except after a fork or a restore, when there is one thread.
//
// A call's slot goes kFree -> kClaimed (ours) -> kPending (the agent's) -> kDone (ours again) -> kFree. When
// a signal comes, kPending -> kCancelled asks the agent to hurry; its final answer is waited for all the
// same, so that what was done is never reported as not done. A handler must not run unseen between the
// hand-over and the futex's wait: the call would then sleep where a system call had ended. The agent often
// takes this processor as soon as it is rung for, so that is no rare moment; signals are therefore blocked
// over the hand-over, and one that is pending then counts as come while the call waited. The pending bit is
// set before the summary's bit and both before the doorbell, and the agent clears in the opposite order, so
// that none is missed. The doorbell is rung only for an agent that says it is asleep: it says so before it
// looks at the summary for the last time.
//
// A call that nobody waits for goes kPending -> kFree, by the agent. One in kHeardAmong of a thread is waited
// for all the same, so that who makes nothing else does not fill the table.
#include "preload/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <atomic>

#include "preload/descriptor.h"
#include "preload/files.h"
#include "preload/home_queue.h"
#include "preload/object_count.h"
#include "preload/packet.h"
#include "preload/self.h"
#include "preload/session_start.h"
#include "preload/signals.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {

constinit std::atomic<abi::Table*> connected_table{nullptr};

namespace {

enum State : uint32_t { kNone, kConnecting, kReady, kFailed };

struct Connection {
  std::atomic<uint32_t> state;  // State; futex
  abi::Table* table;            // mapped once per process image; inherited by forks
  std::atomic<int> socket;
  std::atomic<int> doorbell;
};
constinit Connection connection{kNone, nullptr, -1, -1};

constinit thread_local uint32_t calls_of_thread = 0;
constinit thread_local uint32_t unheard_of_thread = 0;
constexpr uint32_t kHeardAmong = 16;

// What the child of a vfork had to say and could not; the last one of several.
constinit char left_note[abi::kSlotPayload] = {};

long FutexWait(std::atomic<uint32_t>* word, uint32_t expected, const timespec* timeout = nullptr) {
  return raw::Syscall(SYS_futex, raw::Address(word), FUTEX_WAIT, expected, raw::Address(timeout));
}
void FutexWakeAll(std::atomic<uint32_t>* word) {
  raw::Syscall(SYS_futex, raw::Address(word), FUTEX_WAKE, 0x7fffffff);
}

// Blocks all signals; what was blocked before.
uint64_t BlockSignals() {
  const uint64_t all = ~uint64_t{0};
  uint64_t before = 0;
  raw::Syscall(SYS_rt_sigprocmask, SIG_SETMASK, raw::Address(&all), raw::Address(&before), sizeof all);
  return before;
}
void RestoreSignals(uint64_t before) {
  raw::Syscall(SYS_rt_sigprocmask, SIG_SETMASK, raw::Address(&before), 0, sizeof before);
}

void Say(const char* text, size_t size) {
  char line[abi::kReasonSize + 16] = "elsewhere: ";
  size_t length = strlen(line);
  if (size > abi::kReasonSize) size = abi::kReasonSize;
  memcpy(line + length, text, size);
  length += size;
  line[length++] = '\n';
  raw::Syscall(SYS_write, 2, raw::Address(line), raw::Word(length));
}

// ---- Registration
// --------------------------------------------------------------------------------------------------

struct Answer {
  union {
    abi::Refused refused = {};
    abi::PacketHeader header;
    abi::Welcome welcome;
  };
  int descriptors[3] = {-1, -1, -1};
};

long SendHello(int socket, abi::Role role = abi::Role::kProcess, uint64_t token = 0) {
  abi::Hello hello{};
  hello.header = {static_cast<uint32_t>(abi::Packet::kHello), sizeof hello};
  hello.version = abi::kAbiVersion;
  hello.role = static_cast<uint32_t>(role);
  hello.token = token;
  hello.pid = self.kernel_pid.load(std::memory_order_relaxed);
  return raw::Syscall(SYS_sendto, socket, raw::Address(&hello), sizeof hello, MSG_NOSIGNAL);
}

abi::Table* MapTable(int descriptor) {
  const long address =
      raw::Syscall(SYS_mmap, 0, sizeof(abi::Table), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor);
  if (raw::Failed(address)) return nullptr;
  auto* table = reinterpret_cast<abi::Table*>(address);
  if (table->header.magic == abi::kTableMagic && table->header.version == abi::kAbiVersion) return table;
  raw::Syscall(SYS_munmap, address, sizeof(abi::Table));
  return nullptr;
}

// 0, or a negative errno.
long Register() {
  const int socket = ConnectToAgent(self.agent_socket);
  if (socket < 0) return socket;
  Answer answer;
  long result = SendHello(socket);
  if (result >= 0)
    result = ReceivePacket(socket, &answer.header, sizeof answer.refused, answer.descriptors, 3);
  if (result >= static_cast<long>(sizeof(abi::PacketHeader)) &&
      answer.header.type == static_cast<uint32_t>(abi::Packet::kRefused)) {
    Say(answer.refused.reason, strnlen(answer.refused.reason, sizeof answer.refused.reason));
    result = -ECONNREFUSED;
  } else if (result >= 0 && (answer.header.type != static_cast<uint32_t>(abi::Packet::kWelcome) ||
                             answer.descriptors[1] < 0)) {
    result = -EPROTO;
  }
  if (result >= 0) MapAgentTable(answer.descriptors[0]);
  if (answer.descriptors[0] >= 0) raw::Close(answer.descriptors[0]);
  if (answer.descriptors[2] >= 0) raw::Close(answer.descriptors[2]);
  if (result >= 0 && connection.table == nullptr) result = -EPROTO;
  if (result < 0) {
    if (answer.descriptors[1] >= 0) raw::Close(answer.descriptors[1]);
    CloseOwn(socket);
    return result;
  }
  connection.socket = socket;
  connection.doorbell = MoveToOwn(answer.descriptors[1]);
  return 0;
}

void SetState(State state) {
  connected_table.store(state == kReady ? connection.table : nullptr, std::memory_order_release);
  connection.state.store(state, std::memory_order_release);
}

void ConnectOnce() {
  const uint64_t before = BlockSignals();
  uint32_t expected = kNone;
  if (connection.state.compare_exchange_strong(expected, kConnecting)) {
    SetState(Register() == 0 ? kReady : kFailed);
    FutexWakeAll(&connection.state);
  }
  RestoreSignals(before);
}

// ---- Calls
// -----------------------------------------------------------------------------------------------------------

abi::Slot* ClaimSlot(abi::Table* table, uint32_t* index) {
  const uint64_t first = table->header.slot_hint.fetch_add(1, std::memory_order_relaxed);
  for (uint32_t i = 0; i < abi::kSlotCount; ++i) {
    *index = static_cast<uint32_t>((first + i) % abi::kSlotCount);
    abi::Slot* slot = &table->slots[*index];
    auto expected = static_cast<uint32_t>(abi::SlotState::kFree);
    if (slot->state.compare_exchange_strong(expected, static_cast<uint32_t>(abi::SlotState::kClaimed),
                                            std::memory_order_acquire, std::memory_order_relaxed)) {
      slot->ticket = first;
      return slot;
    }
  }
  return nullptr;
}

void RingDoorbell(abi::Table* table) {
  if (table->header.asleep.exchange(0, std::memory_order_seq_cst) == 0) return;
  const uint64_t one = 1;
  raw::Syscall(SYS_write, connection.doorbell, raw::Address(&one), sizeof one);
}

void HandOver(abi::Table* table, abi::Slot* slot, uint32_t index) {
  slot->state.store(static_cast<uint32_t>(abi::SlotState::kPending), std::memory_order_release);
  const uint32_t word = index / 64;
  table->header.pending[word].fetch_or(uint64_t{1} << (index % 64), std::memory_order_seq_cst);
  table->header.pending_summary[word / 64].fetch_or(uint64_t{1} << (word % 64), std::memory_order_seq_cst);
  RingDoorbell(table);
}

void Cancel(abi::Table* table, abi::Slot* slot, uint32_t index) {
  auto expected = static_cast<uint32_t>(abi::SlotState::kPending);
  if (!slot->state.compare_exchange_strong(expected, static_cast<uint32_t>(abi::SlotState::kCancelled)))
    return;
  const uint32_t word = index / 64;
  table->header.pending[word].fetch_or(uint64_t{1} << (index % 64), std::memory_order_seq_cst);
  table->header.pending_summary[word / 64].fetch_or(uint64_t{1} << (word % 64), std::memory_order_seq_cst);
  RingDoorbell(table);
}

// A signal is pending whose handler interrupts a call of this kind, once `mask` lets it through.
bool IsInterruptionDue(uint64_t mask, Interruption interruption) {
  struct KernelAction {  // as rt_sigaction(2) gives it
    uint64_t handler;
    uint64_t flags;
    uint64_t restorer;
    uint64_t mask;
  };
  uint64_t pending = 0;
  raw::Syscall(SYS_rt_sigpending, raw::Address(&pending), sizeof pending);
  for (pending &= ~mask; pending != 0; pending &= pending - 1) {
    KernelAction action{};
    raw::Syscall(SYS_rt_sigaction, __builtin_ctzll(pending) + 1, 0, raw::Address(&action), sizeof mask);
    if (action.handler == reinterpret_cast<uintptr_t>(SIG_DFL) ||
        action.handler == reinterpret_cast<uintptr_t>(SIG_IGN))
      continue;
    if (interruption == Interruption::kTimed || (action.flags & SA_RESTART) == 0) return true;
  }
  return false;
}

// A call that signals may interrupt, watched from before its hand-over.
class Watch {
 public:
  explicit Watch(Interruption kind) : kind_(kind), before_(Count()) {}
  Interruption kind() const { return kind_; }
  // Nothing is asked of the kernel.
  bool HandlerRan() const { return kind_ != Interruption::kNone && Count() != before_; }

 private:
  uint32_t Count() const { return HandlersRun(kind_ == Interruption::kTimed); }

  const Interruption kind_;
  const uint32_t before_;
};

// True: a handler ran that interrupts the call.
bool AwaitAnswer(abi::Table* table, abi::Slot* slot, uint32_t index, const Watch& watch) {
  bool interrupted = false;
  for (;;) {
    const uint32_t state = slot->state.load(std::memory_order_acquire);
    const bool ran = watch.HandlerRan();
    if (state == static_cast<uint32_t>(abi::SlotState::kDone)) return interrupted || ran;
    if (ran && !interrupted) {
      interrupted = true;
      Cancel(table, slot, index);
      continue;
    }
    // Without a timeout the kernel restarts the wait after a handler with SA_RESTART, as it does for read.
    // With one it does not; an hour's end means nothing here.
    const timespec hour{3600, 0};
    const long waited =
        FutexWait(&slot->state, state, watch.kind() == Interruption::kTimed ? &hour : nullptr);
    if (waited != -EINTR || watch.kind() == Interruption::kNone) continue;
    interrupted = true;
    Cancel(table, slot, index);
  }
}

// `wrote`: as it was handed over; a handler may have written more since.
int64_t TakeAnswer(abi::Slot* slot, const Payload& payload, uint64_t wrote) {
  const int64_t result = slot->result;
  const int error = slot->error;
  size_t size = slot->payload_size < abi::kSlotPayload ? slot->payload_size : abi::kSlotPayload;
  if (size > payload.room) size = payload.room;
  if (payload.answer != nullptr) memcpy(payload.answer, slot->payload, size);
  if (slot->wrote == 0) written_to &= ~wrote;
  slot->state.store(static_cast<uint32_t>(abi::SlotState::kFree), std::memory_order_release);
  if (result == -1) errno = error;
  return result;
}

}  // namespace

uint32_t CallsOfThread() {
  return calls_of_thread;
}

int ConnectToAgent(const char* path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const size_t length = strlen(path);
  if (length == 0 || length >= sizeof address.sun_path) return -ENOTCONN;
  memcpy(address.sun_path, path, length);
  long socket = raw::Syscall(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (socket < 0) return static_cast<int>(socket);
  long result;
  do {
    result = raw::Syscall(SYS_connect, socket, raw::Address(&address), sizeof address);
  } while (result == -EINTR);
  if (result < 0) {
    raw::Close(static_cast<int>(socket));
    return static_cast<int>(result);
  }
  return MoveToOwn(static_cast<int>(socket));
}

abi::Table* MapAgentTable(int descriptor) {
  if (connection.table == nullptr) connection.table = MapTable(descriptor);
  if (connection.table == nullptr) return nullptr;
  counts_objects.store(connection.table->header.count_objects != 0);
  if (queues_used_early.load(std::memory_order_relaxed)) connection.table->header.queues_stay.store(1);
  return connection.table;
}

abi::Table* AgentTable() {
  if (!JoinSession()) {
    errno = ENOTCONN;
    return nullptr;
  }
  for (;;) {
    switch (connection.state.load(std::memory_order_acquire)) {
      case kReady:
        return connection.table;
      case kFailed:
        errno = ENOTCONN;
        return nullptr;
      case kConnecting:
        FutexWait(&connection.state, kConnecting);
        break;
      default:
        if (InVforkChild()) {
          errno = ENOTCONN;
          return nullptr;
        }
        ConnectOnce();
    }
  }
}

int64_t CallAgent(abi::Operation operation, std::initializer_list<int64_t> arguments, const Payload& payload,
                  Interruption interruption, bool unheard) {
  abi::Table* table = AgentTable();
  if (table == nullptr) return -1;
  unheard = unheard && ++unheard_of_thread % kHeardAmong != 0;
  if (payload.size > abi::kSlotPayload) {
    errno = E2BIG;
    return -1;
  }
  ++calls_of_thread;
  uint32_t index = 0;
  abi::Slot* slot = ClaimSlot(table, &index);
  if (slot == nullptr) {
    errno = EAGAIN;
    return -1;
  }
  slot->owner = self.kernel_pid.load(std::memory_order_relaxed);
  slot->thread = static_cast<int32_t>(raw::Syscall(SYS_gettid));
  slot->operation = static_cast<uint32_t>(operation);
  memset(slot->arguments, 0, sizeof slot->arguments);
  size_t count = 0;
  for (const int64_t argument : arguments) slot->arguments[count++] = argument;
  const uint64_t wrote = slot->wrote = written_to;
  slot->result = -1;
  slot->error = EIO;
  slot->unheard = unheard || operation == abi::Operation::kNote ? 1 : 0;
  slot->payload_size = static_cast<uint32_t>(payload.size);
  if (payload.size != 0) memcpy(slot->payload, payload.data, payload.size);
  const Watch watch(interruption);
  bool interrupted = false;
  if (interruption == Interruption::kNone) {
    HandOver(table, slot, index);
  } else {
    const uint64_t mask = BlockSignals();
    HandOver(table, slot, index);
    interrupted = IsInterruptionDue(mask, interruption);
    if (interrupted) Cancel(table, slot, index);
    RestoreSignals(mask);
  }
  if (unheard || operation == abi::Operation::kNote) return 0;  // the agent frees the slot
  interrupted |= AwaitAnswer(table, slot, index, watch);
  if (payload.interrupted != nullptr) *payload.interrupted = interrupted;
  return TakeAnswer(slot, payload, wrote);
}

void NoteForSummary(const char* line) {
  const int before = errno;
  const size_t length = strnlen(line, abi::kSlotPayload - 1);
  if (ConnectedTable() == nullptr && InVforkChild()) {
    // Its memory is its parent's, which is asleep: the parent says it when it can.
    memcpy(left_note, line, length);
    left_note[length] = '\0';
  } else {
    CallAgent(abi::Operation::kNote, {}, {line, length});
  }
  errno = before;
}

__attribute__((destructor)) void SayLeftNote() {
  if (left_note[0] != '\0' && !InVforkChild()) NoteForSummary(left_note);
  left_note[0] = '\0';
}

void AgentDescriptorMoved(int from, int to) {
  int expected = from;
  connection.socket.compare_exchange_strong(expected, to);
  expected = from;
  connection.doorbell.compare_exchange_strong(expected, to);
  if (self.lifeline == from) self.lifeline = to;
}

int FetchDescriptor(uint64_t token) {
  const int socket = ConnectToAgent(self.agent_socket);
  if (socket < 0) return socket;
  Answer answer;
  long result = SendHello(socket, abi::Role::kFetch, token);
  if (result >= 0)
    result = ReceivePacket(socket, &answer.header, sizeof answer.refused, answer.descriptors, 1);
  CloseOwn(socket);
  if (result < 0) return static_cast<int>(result);
  return answer.descriptors[0] >= 0 ? answer.descriptors[0] : -EPROTO;
}

void ForgetAgentAfterFork() {
  ForgetFileConnection();
  if (connection.socket >= 0) CloseOwn(connection.socket);
  if (connection.doorbell >= 0) CloseOwn(connection.doorbell);
  connection.socket = -1;
  connection.doorbell = -1;
  SetState(kNone);
}

void TakeAgentAfterRestore(int doorbell) {
  if (connection.socket >= 0) ForgetOwn(connection.socket);
  if (connection.doorbell >= 0) ForgetOwn(connection.doorbell);
  connection.socket = -1;
  connection.doorbell = doorbell;
  MarkOwn(doorbell);
  SetState(connection.table != nullptr ? kReady : kNone);
}

}  // namespace elsewhere::preload
