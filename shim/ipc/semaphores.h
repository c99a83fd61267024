// Semaphores at the broker: what a process-shared or named semaphore becomes once processes of several hosts
// use it. (Before that it is a word in memory: shim/wire/semaphore.h.)
//
// Everything is one script, one round trip for each operation. A wait that is satisfied, now or later, is
// answered by a grant in the waiting host's inbox, never by the reply: what the poster published before its
// post stands in that inbox already, so it is applied before the waiter goes on.
// Waiters are served in the order in which their waits reached the broker.
//
// Exactly once. Each host numbers its operations; the script runs number n + 1 of a host only after number n,
// remembers the last one, and answers a repetition without doing anything. Results other than 0 are
// remembered until the host says that it has seen them. An operation that comes early (its predecessor has to
// be sent again with the script's body) is refused and issued again.
//
// Errors of the broker (gone session, no memory, malformed data) go to on_failure, once each, and the
// operation's own callback is not called: the session cannot go on. Thread-safety: none; one loop.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "shim/broker/keys.h"
#include "shim/broker/redis_connection.h"
#include "shim/broker/scripts.h"

namespace elsewhere::ipc {

using broker::HostId;

// For ConnectionOptions::scripts.
const broker::Script& SemaphoreScript();

class Semaphores {
 public:
  // The message that tells `host()`'s agent that `waiter` has its token; it travels with the wait and is put
  // into this host's inbox as it is, by broker::kScriptSender.
  using GrantEncoder = std::function<std::vector<uint8_t>(uint64_t object, uint64_t waiter)>;
  using FailureCallback = std::function<void(const Error& why)>;
  using ErrorCallback = std::function<void(int error)>;  // 0 or an errno value
  struct Named {
    uint64_t object = 0;
    uint32_t mode = 0;     // as created
    bool created = false;  // by this call
  };
  using OpenCallback = std::function<void(int error, const Named& named)>;

  // One per host and session: operations are numbered from 1. Must outlive the connection's callbacks.
  Semaphores(broker::RedisConnection& connection, const broker::SessionKeys& keys, HostId self,
             GrantEncoder encode_grant, FailureCallback on_failure);
  Semaphores(const Semaphores&) = delete;
  Semaphores& operator=(const Semaphores&) = delete;

  // `object`: not 0, never used twice in a session. EEXIST.
  void Create(uint64_t object, uint32_t value, ErrorCallback done);
  // Waiters, if there are any (an error of the program), wait for ever, as natively. EINVAL.
  void Destroy(uint64_t object, ErrorCallback done);

  // EOVERFLOW, EINVAL (no such object).
  void Post(uint64_t object, ErrorCallback done);
  // `waiter`: this host's name for it, never used twice. 0: a grant is or will be in the inbox; this answer
  // may come long after the grant. EINVAL.
  void Wait(uint64_t object, uint64_t waiter, ErrorCallback done);
  // 0: a grant is in the inbox. EAGAIN, EINVAL.
  void TryWait(uint64_t object, uint64_t waiter, ErrorCallback done);
  // For a timeout, a signal or a death. removed: the waiter gets no grant. Otherwise its grant is in the
  // inbox; for a dead waiter, post again.
  void Cancel(uint64_t object, uint64_t waiter, std::function<void(bool removed)> done);
  // A host is gone: its waiters leave the queues. Grants that it had not read are lost with it.
  void ForgetHost(HostId host, ErrorCallback done);

  // Waiters count as 0. EINVAL.
  void GetValue(uint64_t object, std::function<void(int error, int value)> done);

  // sem_open. `flags`: O_CREAT, O_EXCL. When it has to be created it becomes `new_object` with `value`.
  // ENOENT, EEXIST. Whether `mode` permits the opening is the caller's to judge.
  void Open(std::string_view name, int flags, uint32_t mode, uint32_t value, uint64_t new_object,
            OpenCallback done);
  // The object lives on for those who have it open. ENOENT.
  void Unlink(std::string_view name, ErrorCallback done);

 private:
  using Answer = std::function<void(std::string_view result)>;
  struct Operation {
    uint64_t sequence;
    std::string call;  // keys and arguments, in wire form
    size_t words;      // how many of them
    Answer answer;
    broker::Wake wake = broker::Wake::kPromptly;
  };
  void Issue(std::string_view operation, uint64_t object, const std::vector<std::string>& extra,
             Answer answer, broker::Wake wake = broker::Wake::kPromptly);
  void IssueForError(std::string_view operation, uint64_t object, const std::vector<std::string>& extra,
                     ErrorCallback done, broker::Wake wake = broker::Wake::kPromptly);
  void Run(std::shared_ptr<Operation> operation, bool with_body);
  void OnReply(const std::shared_ptr<Operation>& operation, const broker::Reply& reply);
  std::string Grant(uint64_t object, uint64_t waiter) const;

  broker::RedisConnection& connection_;
  const std::string semaphores_key_, waiters_key_, names_key_;
  const std::string self_;
  const GrantEncoder encode_grant_;
  const FailureCallback on_failure_;
  uint64_t last_sequence_ = 0;
  std::set<uint64_t> unanswered_;
};

}  // namespace elsewhere::ipc
