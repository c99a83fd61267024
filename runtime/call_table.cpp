#include "runtime/call_table.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <climits>
#include <cstring>

namespace elsewhere::runtime {
namespace {

constexpr uint32_t kDeathsPerSweep = 64;

Error SystemError(const char* what) {
  const int code = errno;
  return Error{code, std::string(what) + ": " + std::generic_category().message(code)};
}

void WakeAll(std::atomic<uint32_t>& word) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

abi::SlotState StateOf(const abi::Slot& slot) {
  return static_cast<abi::SlotState>(slot.state.load(std::memory_order_acquire));
}

}  // namespace

Result<std::unique_ptr<CallTable>> CallTable::Create(const Options& options) {
  std::unique_ptr<CallTable> result(new CallTable);
  if (options.agent_socket.size() >= abi::kSocketPathSize) {
    return Error{ENAMETOOLONG,
                 "the session directory's path is too long for a socket: " + options.agent_socket};
  }
  result->memfd_.Reset(memfd_create("elsewhere-table", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!result->memfd_) return SystemError("memfd_create");
  if (ftruncate(result->memfd(), sizeof(abi::Table)) != 0) return SystemError("ftruncate");
  // A process of the session must not be able to make the agent fault by shrinking the table.
  fcntl(result->memfd(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
  void* memory = mmap(nullptr, sizeof(abi::Table), PROT_READ | PROT_WRITE, MAP_SHARED, result->memfd(), 0);
  if (memory == MAP_FAILED) return SystemError("mmap");
  result->table_ = static_cast<abi::Table*>(memory);
  result->open_.resize(abi::kSlotCount);
  result->doorbell_.Reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!result->doorbell_) return SystemError("eventfd");

  abi::TableHeader& header = result->table_->header;
  header.magic = abi::kTableMagic;
  header.version = abi::kAbiVersion;
  for (size_t half = 0; half < 2 && options.session.size() == 32; ++half) {
    header.session[half] = std::strtoull(options.session.substr(half * 16, 16).c_str(), nullptr, 16);
  }
  header.host = options.host;
  header.agent_pid = getpid();
  header.fork_remote = options.fork_remote ? 1 : 0;
  header.count_objects = options.count_objects ? 1 : 0;
  std::memcpy(header.agent_socket, options.agent_socket.c_str(), options.agent_socket.size() + 1);
  return result;
}

CallTable::~CallTable() {
  if (table_ != nullptr) munmap(table_, sizeof(abi::Table));
}

void CallTable::OnCall(abi::Operation operation, Handler handler) {
  handlers_[static_cast<uint32_t>(operation)] = std::move(handler);
}

void CallTable::Rung() {
  uint64_t rings;
  (void)!read(doorbell(), &rings, sizeof rings);
  TakeCalls();
}

bool CallTable::HasCalls() const {
  const auto is_set = [](const auto& word) { return word.load(std::memory_order_seq_cst) != 0; };
  const auto& summary = table_->header.pending_summary;
  return !heard_.empty() || std::any_of(std::begin(summary), std::end(summary), is_set);
}

bool CallTable::FallAsleep() {
  table_->header.asleep.store(1, std::memory_order_seq_cst);
  return !HasCalls();
}

void CallTable::WakeUp() {
  table_->header.asleep.store(0, std::memory_order_relaxed);
}

// The caller sets its pending bit before its summary bit, and both before it asks whether to ring: what is
// set after this has found the agent awake is found before it sleeps.
bool CallTable::Collect() {
  bool found = false;
  for (uint32_t summary = 0; summary < abi::kSlotCount / 64 / 64; ++summary) {
    if (table_->header.pending_summary[summary].load(std::memory_order_acquire) == 0) continue;
    uint64_t words = table_->header.pending_summary[summary].exchange(0);
    for (; words != 0; words &= words - 1) {
      const uint32_t word = summary * 64 + static_cast<uint32_t>(std::countr_zero(words));
      uint64_t slots = table_->header.pending[word].exchange(0);
      for (; slots != 0; slots &= slots - 1) {
        const uint32_t index = word * 64 + static_cast<uint32_t>(std::countr_zero(slots));
        if (table_->slots[index].unheard != 0) {
          unheard_.push_back(index);
        } else {
          heard_.push_back(index);
        }
        found = true;
      }
    }
  }
  return found;
}

// Until a pass finds nothing: then whatever came before a call that was found has been found too. Slots are
// not free before their calls are taken, so this ends. Who made a call of the others still waits for it, so
// nothing follows from it yet.
void CallTable::TakeUnheard() {
  if (leaves_unheard_) return;
  while (Collect()) {
  }
  if (unheard_.empty()) return;
  std::vector<uint32_t> slots;
  slots.swap(unheard_);
  std::sort(slots.begin(), slots.end(), [this](uint32_t one, uint32_t other) {
    return table_->slots[one].ticket < table_->slots[other].ticket;
  });
  LeaveUnheard([&] {
    for (const uint32_t index : slots) TakeSlot(index);
  });
}

void CallTable::LeaveUnheard(const std::function<void()>& action) {
  const bool outer = std::exchange(leaves_unheard_, true);
  action();
  leaves_unheard_ = outer;
}

void CallTable::TakeCalls() {
  TakeUnheard();
  while (!heard_.empty()) {
    const uint32_t index = heard_.front();
    heard_.pop_front();
    TakeSlot(index);
  }
}

void CallTable::TakeSlot(uint32_t index) {
  abi::Slot& slot = table_->slots[index];
  const abi::SlotState state = StateOf(slot);
  const bool open = open_[index] != 0;
  if (state == abi::SlotState::kCancelled && open) return cancelled_(CallId{index, generations_[index]});
  if (open || (state != abi::SlotState::kPending && state != abi::SlotState::kCancelled)) return;

  Call call;
  call.operation = static_cast<abi::Operation>(slot.operation);
  call.kernel_pid = slot.owner;
  call.kernel_tid = slot.thread;
  call.wrote = slot.wrote;
  std::copy(std::begin(slot.arguments), std::end(slot.arguments), call.arguments.begin());
  const uint32_t size = std::min(slot.payload_size, abi::kSlotPayload);
  call.payload.assign(slot.payload, slot.payload + size);
  if (call.kernel_pid <= 0) return Free(index);
  call.incarnation = incarnation_of_(call.kernel_pid);

  open_[index] = call.kernel_pid;
  slots_of_[call.kernel_pid].insert(index);
  const CallId id{index, ++generations_[index]};
  const auto handler = handlers_.find(slot.operation);
  if (slot.unheard != 0) {
    Free(index);
    if (handler != handlers_.end()) handler->second(id, call);
  } else if (state == abi::SlotState::kCancelled) {
    Complete(id, -1, EINTR, {});
  } else if (handler == handlers_.end()) {
    Complete(id, -1, ENOSYS, {});
  } else {
    handler->second(id, call);
  }
}

void CallTable::Free(uint32_t index) {
  abi::Slot& slot = table_->slots[index];
  const auto owner = slots_of_.find(open_[index]);
  if (owner != slots_of_.end()) {
    owner->second.erase(index);
    if (owner->second.empty()) slots_of_.erase(owner);
  }
  open_[index] = 0;
  slot.owner = 0;
  slot.state.store(static_cast<uint32_t>(abi::SlotState::kFree), std::memory_order_release);
}

void CallTable::Complete(CallId id, int64_t result, int error, std::span<const uint8_t> payload) {
  if (id.slot >= abi::kSlotCount || generations_[id.slot] != id.generation || open_[id.slot] == 0) return;
  abi::Slot& slot = table_->slots[id.slot];
  slot.result = result;
  slot.error = error;
  const size_t size = std::min<size_t>(payload.size(), abi::kSlotPayload);
  slot.payload_size = static_cast<uint32_t>(size);
  if (size != 0) std::memcpy(slot.payload, payload.data(), size);
  const auto owner = slots_of_.find(open_[id.slot]);
  if (owner != slots_of_.end()) {
    owner->second.erase(id.slot);
    if (owner->second.empty()) slots_of_.erase(owner);
  }
  open_[id.slot] = 0;
  ++generations_[id.slot];
  slot.state.store(static_cast<uint32_t>(abi::SlotState::kDone), std::memory_order_release);
  WakeAll(slot.state);
}

void CallTable::Released(CallId id) {
  if (CallerOf(id) != 0) table_->slots[id.slot].wrote = 0;
}

void CallTable::EnterProcess(const Process& process) {
  const auto known = entries_.find(process.kernel_pid);
  uint32_t place = abi::ProcessHash(process.kernel_pid);
  if (known != entries_.end()) {
    place = known->second;
  } else {
    if (entries_.size() >= abi::kProcessCount / 2) return;  // readers fall back to asking (kWhoAmI)
    while (table_->processes[place].kernel_pid.load(std::memory_order_relaxed) > 0) {
      place = (place + 1) % abi::kProcessCount;
    }
    entries_[process.kernel_pid] = place;
  }
  abi::ProcessEntry& entry = table_->processes[place];
  entry.session_pid.store(process.session_pid, std::memory_order_relaxed);
  entry.incarnation.store(process.incarnation, std::memory_order_relaxed);
  entry.kernel_pid.store(process.kernel_pid, std::memory_order_release);
}

void CallTable::RemoveProcess(int32_t kernel_pid) {
  TakeUnheard();
  // Who was killed before its call was looked at has not made it: taken now, it would wait for a semaphore,
  // and get it, as a process that nobody knows.
  std::erase_if(heard_, [&](uint32_t index) {
    const bool made_by_it = open_[index] == 0 && table_->slots[index].owner == kernel_pid;
    if (made_by_it) Free(index);
    return made_by_it;
  });
  if (++deaths_since_sweep_ >= kDeathsPerSweep) SweepDeadOwners();
  if (const auto entry = entries_.find(kernel_pid); entry != entries_.end()) {
    table_->processes[entry->second].kernel_pid.store(-1, std::memory_order_release);
    entries_.erase(entry);
  }
  if (const auto owner = slots_of_.find(kernel_pid); owner != slots_of_.end()) {
    const std::vector<uint32_t> slots(owner->second.begin(), owner->second.end());
    for (uint32_t slot : slots) {
      dropped_(CallId{slot, generations_[slot]});
      if (open_[slot] != 0) Free(slot);
    }
  }
}

// Slots that a process claimed or was answered in, and died before it gave them back. Those of a process that
// is still known are looked at first by whoever answered (SemaphoreCalls).
void CallTable::SweepDeadOwners() {
  deaths_since_sweep_ = 0;
  for (uint32_t index = 0; index < abi::kSlotCount; ++index) {
    abi::Slot& slot = table_->slots[index];
    if (open_[index] != 0 || StateOf(slot) == abi::SlotState::kFree) continue;
    const int32_t owner = slot.owner;
    if (owner > 0 && !entries_.contains(owner) && kill(owner, 0) != 0 && errno == ESRCH) Free(index);
  }
}

void CallTable::End(int error) {
  table_->header.ending.store(1);
  for (uint32_t index = 0; index < abi::kSlotCount; ++index) {
    if (open_[index] != 0) Complete(CallId{index, generations_[index]}, -1, error, {});
  }
}

}  // namespace elsewhere::runtime
