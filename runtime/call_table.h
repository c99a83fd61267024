// The host's shared table (shim/wire/abi.h) from the agent's side: takes calls out of it, answers them, and
// says who is who on this host.
//
// A caller may die at any instant and may write anything into its slot. So: a slot is copied once when its
// call is taken; a generation per slot, kept here, tells a late answer from the slot's next user; slots of
// dead owners are freed, those that were never handed over by a sweep. Thread-safety: one thread here; the
// table itself is shared with every process of the host.
#pragma once

#include <array>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "runtime/agent.h"
#include "shim/store/unique_fd.h"
#include "shim/wire/abi.h"

namespace elsewhere::runtime {

class CallTable {
 public:
  struct Options {
    std::string session;  // 32 hexadecimal digits
    HostId host = 0;
    std::string agent_socket;
    bool fork_remote = true;
    bool count_objects = false;
  };
  static Result<std::unique_ptr<CallTable>> Create(const Options& options);
  ~CallTable();
  CallTable(const CallTable&) = delete;
  CallTable& operator=(const CallTable&) = delete;

  int memfd() const { return memfd_.get(); }
  int doorbell() const { return doorbell_.get(); }
  abi::Table& table() { return *table_; }

  using Handler = std::function<void(CallId, const Call&)>;
  void OnCall(abi::Operation operation, Handler handler);
  void SetCancelled(std::function<void(CallId)> cancelled) { cancelled_ = std::move(cancelled); }
  void SetDropped(std::function<void(CallId)> dropped) { dropped_ = std::move(dropped); }
  void SetIncarnationOf(std::function<Incarnation(int32_t kernel_pid)> of) {
    incarnation_of_ = std::move(of);
  }

  // When the doorbell is readable.
  void Rung();
  // Takes every pending call, those first that nobody waits for.
  void TakeCalls();
  // Only those: whoever made one may have gone on, and what follows from that must find it done. In the order
  // in which they were made. Cheap when nothing is pending.
  void TakeUnheard();
  // Runs `action`, in which TakeUnheard takes nothing.
  void LeaveUnheard(const std::function<void()>& action);
  bool HasCalls() const;
  // Before the loop sleeps: callers ring from now on. False: there is something to take, do not sleep.
  bool FallAsleep();
  void WakeUp();
  void Complete(CallId id, int64_t result, int error, std::span<const uint8_t> payload);
  // Before its answer (abi::Slot::wrote).
  void Released(CallId id);

  // The process that waits for this call; 0: nobody any more.
  int32_t CallerOf(CallId id) const {
    return id.slot < abi::kSlotCount && generations_[id.slot] == id.generation ? open_[id.slot] : 0;
  }

  void EnterProcess(const Process& process);
  // Also drops its calls and frees its slots.
  void RemoveProcess(int32_t kernel_pid);

  // Says in the table that the session is over, and fails every open call with `error`.
  void End(int error);

 private:
  CallTable() = default;
  bool Collect();
  void TakeSlot(uint32_t index);
  void Free(uint32_t index);
  void SweepDeadOwners();

  store::UniqueFd memfd_;
  store::UniqueFd doorbell_;
  abi::Table* table_ = nullptr;
  std::vector<uint32_t> generations_ = std::vector<uint32_t>(abi::kSlotCount);
  std::vector<int32_t> open_;  // kernel pid of an open call, by slot; 0: none
  std::unordered_map<int32_t, std::unordered_set<uint32_t>> slots_of_;
  std::unordered_map<int32_t, uint32_t> entries_;  // kernel pid -> index of its ProcessEntry
  uint32_t deaths_since_sweep_ = 0;
  std::vector<uint32_t> unheard_;  // slots of pending calls, collected and not taken yet
  std::deque<uint32_t> heard_;
  bool leaves_unheard_ = false;  // also while one is taken
  std::unordered_map<uint32_t, Handler> handlers_;
  std::function<void(CallId)> cancelled_ = [](CallId) {};
  std::function<void(CallId)> dropped_ = [](CallId) {};
  std::function<Incarnation(int32_t)> incarnation_of_ = [](int32_t) { return Incarnation{0}; };
};

}  // namespace elsewhere::runtime
