// Home: the deputies, from the fork at home to the end of the process that runs elsewhere.
//
// A deputy's life:
//
//   kConnected -> kReceiving   the capture's packets
//              -> kWaiting     workers are starting; nothing is decided
//              -> kUploading   a worker is chosen, components have taken their descriptors, packs are on
//              their way; the deputy has no pipe or socket any more
//              -> kPublished   the job is in the worker's inbox; whoever wins the claim may run the child
//              -> kRunning     Started came: the deputy is a proxy
//              -> kEnding      Exited came: components drain, then the deputy is told how to end
//   kLocal: until kPublished, or when home wins the claim after the worker's death, the deputy runs the child
//   itself.
//
// Rules:
//  - A deputy's end is its pidfd's. One that ends before it was told to fences its incarnation: it is
//  forgotten here
//    first (so whatever still comes from there is dropped), then the worker is told to kill it. Who has
//    reaped it waits until the worker says that the process has ended (kKilled), and what it wrote is in by
//    then.
//  - A nested deputy begins as kRunning: its process runs before it exists. What comes for its incarnation
//  earlier
//    (its exit) waits in `nested_`.
//  - A deputy that is stopped from outside, which it cannot tell, is noticed by its signal watch; a look at
//  it that finds it stopped sends SIGSTOP to its process, unless that is known to be stopped. A SIGCONT of
//  the deputy is forwarded and followed by such a look, so that the last word is always the deputy's state.
//  A parent at home that has seen its child stopped waits until the process is (kStopped); a parent on the
//  worker sees the process itself.
//  - Never twice: kRunLocal is sent only before the job is published, after JobRejected (the worker promises
//  that
//    nothing of it ran), or after the claim was won for home.
// Thread-safety: one loop.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "runtime/agent_core.h"
#include "runtime/ipc/queue_leases.h"
#include "runtime/kept_descriptors.h"
#include "runtime/usage_book.h"
#include "runtime/worker_pool.h"
#include "shim/image/pack_catalog.h"
#include "shim/store/async_store.h"
#include "shim/wire/kernel_message.h"

namespace elsewhere::runtime {

class Deputies {
 public:
  struct Options {
    bool colocate = false;  // what shares memory stays where it is
    bool strict = false;
    bool seal_packs = false;   // the store is not the session's own directory
    uint64_t arena_bytes = 0;  // capacity; 0: ArenaFile::DefaultCapacity()
  };
  Deputies(AgentCore& core, WorkerPool& workers, store::AsyncStore& store, Options options);

  // Called for Hello packets of deputies, and for every later packet on their connections.
  void Hello(ConnectionId connection, const abi::Hello& hello, Connections::Packet packet);
  bool Owns(ConnectionId connection) const { return by_connection_.contains(connection); }
  void Receive(ConnectionId connection, Connections::Packet packet);
  void Closed(ConnectionId connection);

  void WorkersChanged();  // one became ready, or none will
  void WorkerGone(HostId host, const std::string& reason);
  size_t count() const { return by_incarnation_.size(); }
  UsageBook& usage() { return usage_; }
  bool IsDeputy(int32_t pid) const;

 private:
  enum class State { kConnected, kReceiving, kWaiting, kUploading, kPublished, kRunning, kEnding, kLocal };
  struct Deputy {
    Incarnation incarnation = 0;
    int32_t pid = 0;
    int32_t parent = 0;
    ConnectionId connection = 0;
    bool nested = false;
    store::UniqueFd signal_watch;
    uint32_t continues = 0;        // SIGCONTs that were forwarded
    bool stop_sent = false;        // SIGSTOP is on its way to the process
    bool process_stopped = false;  // as its worker said last
    std::vector<CallId> stop_waiters;
    State state = State::kConnected;
    HostId host = 0;
    Agent::Moment forked = UINT64_MAX;  // behind the fork
    bool counted = false;               // in the pool's numbers
    std::vector<uint8_t> manifest;
    size_t descriptors_expected = 0;
    KeptDescriptors descriptors;  // until the child runs somewhere
    bool lets_go = false;         // of pipes and sockets, which its job waits for
    std::shared_ptr<image::PackCatalog> catalog;
    std::set<image::PackNumber> waits;
    wire::Job job;
    std::vector<bool> taken_by;  // components whose Captured succeeded
    uint64_t captured_bytes = 0;
    uint64_t placed = 0;  // CLOCK_MONOTONIC nanoseconds
    uint64_t published = 0;
    uint64_t signals_ahead = 0;  // told to the process before the deputy's own packet: bit N-1 for signal N
  };
  struct Nested {  // a child on a worker whose deputy does not exist yet
    Incarnation caller = 0;
    HostId host = 0;
    std::optional<wire::Exited> exited;
  };
  struct Killed {  // its deputy has ended, and its process has not yet
    Process process;
    int32_t parent = 0;
    std::vector<CallId> reapers;
  };
  struct PendingHomeCall {
    HostId host = 0;
    Incarnation incarnation = 0;
    uint64_t id = 0;
  };
  struct PendingKernelCall {
    HostId host = 0;
    Incarnation incarnation = 0;
    uint64_t id = 0;
    abi::KernelCall call{};
    store::UniqueFd memory;  // where it is large
    std::chrono::steady_clock::time_point began{};
    std::string object;  // its name, where it is counted
  };

  // deputies.cpp: to the start
  Deputy* Find(Incarnation incarnation);
  void StartCapture(Deputy& deputy, Connections::Packet packet);
  void TakeDescriptors(Deputy& deputy, Connections::Packet& packet);
  void Captured(Deputy& deputy);
  void Place(Deputy& deputy);
  Status Offer(Deputy& deputy, const Process& process);
  Status Assign(Deputy& deputy);
  void Put(const std::shared_ptr<image::PackCatalog>& catalog, image::PackCatalog::PackWrite write);
  void PackDone(const std::shared_ptr<image::PackCatalog>& catalog, image::PackNumber pack,
                const Status& status);
  void HasLetGo(Deputy& deputy);
  void Publish(Deputy& deputy);
  void Withdraw(Deputy& deputy);
  bool CountLocal(const Deputy& deputy, const std::string& reason);
  void RunLocally(Deputy& deputy, const std::string& reason);
  void OnStarted(HostId from, const wire::Started& started);
  void OnRejected(HostId from, const wire::JobRejected& rejected);
  void Gone(const Process& process);
  void Forget(Incarnation incarnation);
  void ReplaceCrowdedArena();

  // deputies_running.cpp: from there to the end
  void HelloNested(ConnectionId connection, const abi::Hello& hello, Connections::Packet& packet);
  void OnExited(HostId from, const wire::Exited& exited);
  void End(Deputy& deputy, const wire::Exited& exited);
  void OnSignalPacket(Deputy& deputy, const abi::SignalPacket& packet);
  void ForwardSignal(const Deputy& deputy, const abi::SignalPacket& packet);
  void ForwardToGroup(const Deputy& deputy, const abi::SignalPacket& packet);
  void Continued(Deputy& deputy);
  void Watch(Deputy& deputy, Connections::Packet& packet);
  void Unwatch(Deputy& deputy);
  void StopIfStopped(Deputy& deputy);
  void SetProcessStopped(Deputy& deputy, bool stopped);
  void AwaitStop(CallId id, const Call& call);
  void AwaitKilled(CallId id, const Call& call);
  void EndKilled(HostId from, const wire::Exited& exited);
  void OnStopped(HostId from, const wire::Stopped& stopped);
  void OnHomeCall(HostId from, const wire::HomeCall& call);
  void OnHomeResult(const abi::HomePacket& packet);
  void OnNestedFork(HostId from, const wire::NestedFork& fork);
  void FailNested(HostId host, Incarnation child, int error);
  void FailNestedOf(Incarnation caller);

  // deputies_kernel.cpp: calls with memory
  void OnKernelCall(HostId from, const wire::KernelCall& message);
  void OnKernelCancel(HostId from, const wire::KernelCancel& cancel);
  bool MakeNow(uint64_t id, const PendingKernelCall& pending, std::span<const uint8_t> data);
  void Count(const PendingKernelCall& call);
  void CountUnheard(int queue);  // a send to it, which was not waited for
  void CallOff(uint64_t call);
  void OnKernelAnswer(const Connections::Packet& packet);
  void OnKernelEvent(const Deputy& deputy, const abi::KernelEvent& event);
  void ForgetKernelCalls(Incarnation incarnation);

  AgentCore& core_;
  WorkerPool& workers_;
  store::AsyncStore& store_;
  const Options options_;
  std::shared_ptr<image::PackCatalog> catalog_;
  std::string no_arena_;  // why there is no catalog
  UsageBook usage_;
  std::unordered_map<Incarnation, std::unique_ptr<Deputy>> by_incarnation_;
  std::unordered_map<ConnectionId, Incarnation> by_connection_;
  std::map<image::PackCatalog*, std::map<image::PackNumber, std::vector<Incarnation>>> pack_waiters_;
  std::unordered_map<Incarnation, Nested> nested_;
  std::unordered_map<Incarnation, Killed> killed_;
  std::unordered_map<uint64_t, PendingHomeCall> home_calls_;
  std::unordered_map<uint64_t, PendingKernelCall> kernel_calls_;
  uint64_t last_home_call_ = 0;
  QueueLeases queue_leases_;
  bool looked_at_group_ = false;  // in this round of the loop
};

}  // namespace elsewhere::runtime
