// Named semaphores of the session, and process-shared ones in memory, until they are promoted.
//
// Home keeps the names and hands out cells of the table; a semaphore has the same cell on every host. A cell
// is free again when the name is unlinked (or was never more than an unlinked one) and no process holds it.
// Who holds it: home's processes by their own calls, children by what their parent tells (or, until it has,
// by what the parent holds), processes on workers through their deputies, which live as long as they do. What
// a process on a worker closes it holds until it ends.
//
// Promotion happens where a second host appears: a job that holds the cell, an opening on a worker, a segment
// with semaphores that becomes shared between hosts. On a worker, a cell or word is never anything but
// promoted.
//
// Thread-safety: one loop.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "runtime/agent.h"
#include "runtime/ipc/segments.h"
#include "runtime/ipc/semaphore_calls.h"
#include "shim/wire/memory_message.h"
#include "shim/wire/semaphore.h"

namespace elsewhere::runtime {

class SemaphoreNames {
 public:
  SemaphoreNames(Agent& agent, SemaphoreCalls& calls, Segments& segments);

  // Home: `deputy` was captured; promotes what it holds.
  std::vector<wire::SharedState::Semaphore> Capture(int32_t deputy, int32_t parent);
  // Worker: the same cells here.
  void Adopt(const std::vector<wire::SharedState::Semaphore>& semaphores);
  // Home: promotes the semaphores that were made in the object while it was this host's alone.
  void Promote(const ObjectKey& key, Segment& segment);

  // Home: a child of a process that may have told nothing yet, a nested deputy above all.
  void Inherit(int32_t child, int32_t parent);
  void ProcessGone(int32_t kernel_pid);
  void CallDropped(CallId id);

 private:
  struct Named {
    std::string name;
    bool linked = true;
    uint32_t mode = 0;
    uint32_t owner = 0;   // user
    uint64_t object = 0;  // 0: not promoted
    uint32_t holders = 0;
  };
  struct Holder {
    std::set<uint32_t> cells;
    std::set<uint32_t> told;    // by the parent, so far
    std::set<uint32_t> closed;  // before the parent told
    bool complete = false;      // the parent told everything, or there is no parent to tell
  };
  struct Opened {
    int error = 0;
    uint32_t cell = 0;
  };

  wire::Semaphore* Word(uint32_t cell);
  Opened Open(int32_t holder, const wire::SemaphoreName& request);
  int Unlink(const wire::SemaphoreName& request);
  uint64_t PromoteCell(uint32_t cell);
  void Hold(int32_t holder, uint32_t cell);
  void LetGo(uint32_t cell);
  void FreeIfUnused(uint32_t cell);

  void OnOpen(CallId id, const Call& call);
  void OnClose(CallId id, const Call& call);
  void OnUnlink(CallId id, const Call& call);
  void OnInherit(CallId id, const Call& call);
  void OnInit(CallId id, const Call& call);
  void Forward(CallId id, const Call& call, bool unlink);
  void OnRequest(HostId from, wire::SemaphoreName&& request);
  void OnAnswer(const wire::SemaphoreNamed& answer);

  Agent& agent_;
  SemaphoreCalls& calls_;
  Segments& segments_;
  // Home.
  std::map<std::string, uint32_t> names_;
  std::unordered_map<uint32_t, Named> cells_;
  std::vector<uint32_t> free_cells_;
  uint32_t never_used_ = 0;  // cells from here on
  std::unordered_map<int32_t, Holder> holders_;
  std::set<int32_t> recently_gone_;
  std::vector<int32_t> recently_gone_order_;
  std::map<ObjectKey, std::set<uint64_t>> made_in_;  // offsets of words in objects of this host
  // Worker: requests to home that are not answered.
  std::unordered_map<uint64_t, CallId> requests_;
  uint64_t last_request_ = 0;
};

}  // namespace elsewhere::runtime
