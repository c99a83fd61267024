// The process-shared pthread objects that are lent to this host (shim/wire/shared_lease.h). Its processes
// operate on their cells; the agent does so for processes that have output to be sent first, and for the
// dead. A lease ends when home asks, and before the last process of a worker is said to have ended.
//
// A thread that is killed while it holds one holds it for ever, as natively; one that was killed between
// being woken and locking has its place taken by all others that sleep.
//
// Thread-safety: one loop.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <unordered_map>
#include <unordered_set>

#include "runtime/agent.h"
#include "shim/wire/shared_message.h"
#include "shim/wire/shared_object.h"

namespace elsewhere::runtime {

class SharedLessee {
 public:
  using Processes = std::unordered_set<int32_t>;  // kernel pids of a worker's
  using AskCallback = std::function<void(const wire::SharedRequest& request)>;
  SharedLessee(Agent& agent, const Processes& processes, AskCallback ask);

  void OnOrder(const wire::SharedOrder& order);
  // The answer of a request that is not home's now. `argument`: of a kWait the mutex.
  std::optional<int> Act(wire::SharedAction action, uint64_t object, uint64_t argument, uint32_t thread);
  void ReturnAll();
  void WakeAll();

 private:
  template <class Use>
  auto WithCell(wire::SharedKind kind, uint64_t object, const Use& use);
  bool Take(const wire::SharedOrder& order);
  void Lend(const wire::SharedOrder& order);
  void Return(uint64_t object);
  void Forget(uint64_t object);
  void Say(uint64_t object, const wire::SharedObjectState& state, uint64_t more);

  Agent& agent_;
  const Processes& processes_;
  const AskCallback ask_;
  std::unordered_map<uint64_t, wire::SharedKind> lent_;
};

}  // namespace elsewhere::runtime
