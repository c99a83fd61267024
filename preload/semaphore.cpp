// Semaphores that processes share. Private ones never come here: the wrappers leave a sem_t without our magic
// to libc.
//
// A word of ours (shim/wire/semaphore.h) is made where sem_init(pshared = 1) is asked for memory that
// processes share, and in the cells of named semaphores. Everything is done on the word until it is promoted,
// then through the agent, which publishes shared memory before a post, and returns from a wait when what was
// published before the post is here.
#include "preload/semaphore.h"

#include <errno.h>
#include <time.h>

#include <utility>

#include "preload/agent.h"
#include "preload/hooks.h"
#include "preload/memory.h"
#include "preload/object_count.h"
#include "preload/real.h"
#include "preload/self.h"
#include "preload/stream.h"
#include "shim/wire/semaphore_lease.h"
#include "shim/wire/semaphore_share.h"

namespace elsewhere::preload {
namespace {

using wire::Semaphore;
using wire::SemaphoreOutcome;

int Fail(int error) {
  errno = error;
  return -1;
}

// 0, or -1 and errno; not for kPromoted.
int Answer(SemaphoreOutcome outcome) {
  switch (outcome) {
    case SemaphoreOutcome::kDone:
      return 0;
    case SemaphoreOutcome::kWouldBlock:
      return Fail(EAGAIN);
    case SemaphoreOutcome::kInterrupted:
      return Fail(EINTR);
    case SemaphoreOutcome::kTimedOut:
      return Fail(ETIMEDOUT);
    case SemaphoreOutcome::kInvalid:
      return Fail(EINVAL);
    default:
      return Fail(EOVERFLOW);
  }
}

int64_t ObjectOf(const Semaphore* word) {
  return static_cast<int64_t>(word->object.load(std::memory_order_acquire));
}

// Where this host has the count of a promoted semaphore; nullptr: at home's agent.
Semaphore* Lease(const Semaphore* word) {
  return wire::LeaseOf<wire::Semaphore>(ConnectedTable(), word->object.load(std::memory_order_acquire));
}

int32_t ThisProcess() {
  return self.kernel_pid.load(std::memory_order_relaxed);
}

// This host's part of a large count; nullptr: it has none.
wire::SemaphoreShare* Share(const Semaphore* word) {
  const uint64_t object = word->object.load(std::memory_order_acquire);
  if ((object & wire::kSemaphoreLarge) == 0) return nullptr;
  return wire::LeaseOf<wire::SemaphoreShare>(ConnectedTable(), object);
}

// A promoted semaphore without its agent. kPromoted: it must be asked.
SemaphoreOutcome TakeHere(const Semaphore* word, bool blocks, const timespec* deadline, clockid_t clock) {
  if (wire::SemaphoreShare* share = Share(word))
    return wire::ShareTake(share) ? SemaphoreOutcome::kDone : SemaphoreOutcome::kPromoted;
  Semaphore* lease = Lease(word);
  if (lease == nullptr) return SemaphoreOutcome::kPromoted;
  const SemaphoreOutcome outcome =
      blocks ? wire::SemaphoreWait(lease, deadline, clock) : wire::SemaphoreTryWait(lease);
  int known = 0;
  if (outcome == SemaphoreOutcome::kPromoted && !blocks && wire::SemaphoreKnown(lease, &known) && known == 0)
    return SemaphoreOutcome::kWouldBlock;
  if (outcome != SemaphoreOutcome::kDone) return outcome;
  const int32_t poster = wire::UnsentBy(wire::UnsentOf(lease)->load(std::memory_order_acquire));
  if (poster != 0 && poster != ThisProcess()) CallAgent(abi::Operation::kSemSettle, {ObjectOf(word)});
  return outcome;
}

// What was written before the post must leave before what others write after it: the cell says so, or else
// the agent posts.
SemaphoreOutcome PostHere(const Semaphore* word) {
  int count = 0;
  wire::SemaphoreShare* share = Share(word);
  Semaphore* lease = share == nullptr ? Lease(word) : nullptr;
  if (share == nullptr && lease == nullptr) return SemaphoreOutcome::kPromoted;
  // A cell that names this process does so until another one takes a token: it need not be looked at again.
  const bool named = lease != nullptr &&
                     wire::UnsentBy(wire::UnsentOf(lease)->load(std::memory_order_relaxed)) == ThisProcess();
  const bool unsent = OnWorker() && (named || MayHaveUnsentOutput());
  if (unsent && (share != nullptr || !wire::NoteUnsent(lease, ThisProcess(), written_to)))
    return SemaphoreOutcome::kPromoted;
  // What a handler writes from here on is not released. Nor is the rest where the lease has ended meanwhile,
  // perhaps before the cell said so: then the agent posts, and has to be told.
  const uint64_t wrote = OnWorker() ? std::exchange(written_to, 0) : 0;
  SemaphoreOutcome outcome = SemaphoreOutcome::kPromoted;
  if (share != nullptr) {
    if (wire::SharePost(share)) outcome = SemaphoreOutcome::kDone;
  } else if (wire::SemaphoreGetValue(lease, &count) && static_cast<uint32_t>(count) < wire::kMostLent) {
    outcome = wire::SemaphorePost(lease);
  }
  if (outcome != SemaphoreOutcome::kDone) written_to |= wrote;
  return outcome;
}

// A token that was granted while a handler ran goes back. A native wait would have ended at the handler, long
// before whoever posted in answer to the same signal; a program whose handler leaves the wait (Python's
// KeyboardInterrupt) never posts what it does not know that it has.
int TakeThroughAgent(const Semaphore* word, abi::Operation operation, clockid_t clock,
                     const timespec* deadline) {
  const int64_t which = deadline != nullptr ? clock : -1;
  const int64_t seconds = deadline != nullptr ? deadline->tv_sec : 0;
  const int64_t nanoseconds = deadline != nullptr ? deadline->tv_nsec : 0;
  bool interrupted = false;
  Payload payload;
  payload.interrupted = &interrupted;
  const auto result =
      static_cast<int>(CallAgent(operation, {ObjectOf(word), which, seconds, nanoseconds}, payload,
                                 deadline != nullptr ? Interruption::kTimed : Interruption::kAllowed));
  if (!interrupted) return result;
  if (result == 0) CallAgent(abi::Operation::kSemPost, {ObjectOf(word)});
  return result == 0 || result == wire::kTryAgain || errno == EAGAIN ? Fail(EINTR) : result;
}

// At home the agent that is asked is the one that keeps the count, and what this process wrote to its pipes
// is in home's own: nothing has to happen before the caller goes on. A worker's agent must first send on what
// was written before the post, and not what is written after it.
bool MayPostUnheard() {
  const abi::Table* table = ConnectedTable();
  return !OnWorker() && table != nullptr && table->header.hear_posts.load(std::memory_order_relaxed) == 0;
}

[[gnu::noinline]] int Wait(sem_t* semaphore, clockid_t clock, const timespec* deadline) {
  const Counted counted(abi::ObjectKind::kSemaphore, semaphore);
  Semaphore* word = AsWord(semaphore);
  for (;;) {
    SemaphoreOutcome outcome = wire::SemaphoreWait(word, deadline, clock);
    if (outcome != SemaphoreOutcome::kPromoted) return Answer(outcome);
    outcome = TakeHere(word, true, deadline, clock);
    if (outcome != SemaphoreOutcome::kPromoted) return Answer(outcome);
    const int result = TakeThroughAgent(word, abi::Operation::kSemWait, clock, deadline);
    if (result != wire::kTryAgain) return result;
  }
}

[[gnu::noinline]] int Post(sem_t* semaphore) {
  const Counted counted(abi::ObjectKind::kSemaphore, semaphore);
  Semaphore* word = AsWord(semaphore);
  SemaphoreOutcome outcome = wire::SemaphorePost(word);
  if (outcome != SemaphoreOutcome::kPromoted) return Answer(outcome);
  outcome = PostHere(word);
  if (outcome != SemaphoreOutcome::kPromoted) return Answer(outcome);
  // What this process wrote goes first, so the agent must know whose post it is.
  if (OnWorker()) SessionPid();
  // Who looks at the count behind this call must find it in there, or nothing: so a cell counts it first.
  Semaphore* cell = Share(word) == nullptr ? Lease(word) : nullptr;
  if (cell != nullptr) wire::BegunOf(cell)->fetch_add(1, std::memory_order_seq_cst);
  return static_cast<int>(CallAgent(abi::Operation::kSemPost, {ObjectOf(word), cell != nullptr}, {},
                                    Interruption::kNone, cell != nullptr && MayPostUnheard()));
}

}  // namespace

namespace hooks {

int sem_init(sem_t* semaphore, int shared, unsigned value) {
  SharedPlace place;
  if (shared == 0 || !FindSharedPlace(semaphore, &place)) {
    if (IsShared(semaphore)) AsWord(semaphore)->magic = 0;  // of what lay here before
    return real::sem_init(semaphore, shared, value);
  }
  if (value > wire::kSemaphoreMaximum) return Fail(EINVAL);
  const int before = errno;
  // The word first: from the call on, whoever captures this process may promote it.
  wire::SemaphoreInit(AsWord(semaphore), value);
  // 0: nobody on another host has this memory. No agent: there is no other host.
  const int64_t object =
      CallAgent(abi::Operation::kSemInit,
                {static_cast<int64_t>(place.host), static_cast<int64_t>(place.device),
                 static_cast<int64_t>(place.inode), static_cast<int64_t>(place.offset), value});
  if (object < 0 && errno != ENOTCONN) {
    AsWord(semaphore)->magic = 0;
    return Fail(ENOSPC);
  }
  errno = before;
  uint32_t count = 0;
  if (object > 0) wire::SemaphorePromote(AsWord(semaphore), static_cast<uint64_t>(object), &count);
  return 0;
}

int sem_destroy(sem_t* semaphore) {
  if (named::IsCell(semaphore)) return Fail(EINVAL);
  Semaphore* word = AsWord(semaphore);
  if (wire::IsPromoted(word)) {
    const int before = errno;
    CallAgent(abi::Operation::kSemDestroy, {ObjectOf(word)});
    errno = before;
  }
  word->magic = 0;
  return 0;
}

int sem_wait(sem_t* semaphore) {
  if (!CountsObjects() && wire::SemaphoreTakeAtOnce(AsWord(semaphore))) [[likely]]
    return 0;
  return Wait(semaphore, CLOCK_REALTIME, nullptr);
}

int sem_timedwait(sem_t* semaphore, const timespec* deadline) {
  return Wait(semaphore, CLOCK_REALTIME, deadline);
}

int sem_clockwait(sem_t* semaphore, clockid_t clock, const timespec* deadline) {
  if (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC) return Fail(EINVAL);
  return Wait(semaphore, clock, deadline);
}

int sem_trywait(sem_t* semaphore) {
  const Counted counted(abi::ObjectKind::kSemaphore, semaphore);
  Semaphore* word = AsWord(semaphore);
  for (;;) {
    SemaphoreOutcome outcome = wire::SemaphoreTryWait(word);
    if (outcome != SemaphoreOutcome::kPromoted) return Answer(outcome);
    outcome = TakeHere(word, false, nullptr, CLOCK_REALTIME);
    if (outcome != SemaphoreOutcome::kPromoted) return Answer(outcome);
    // It takes a message and its answer, long enough for a signal to come: EINTR, as POSIX permits here too.
    const int result = TakeThroughAgent(word, abi::Operation::kSemTryWait, CLOCK_REALTIME, nullptr);
    if (result != wire::kTryAgain) return result;
  }
}

int sem_post(sem_t* semaphore) {
  if (!CountsObjects() && wire::SemaphorePostAtOnce(AsWord(semaphore))) [[likely]]
    return 0;
  return Post(semaphore);
}

int sem_getvalue(sem_t* semaphore, int* value) {
  const Semaphore* word = AsWord(semaphore);
  if (wire::SemaphoreGetValue(word, value)) return 0;
  if (const wire::SemaphoreShare* share = Share(word); share != nullptr && wire::ShareGetValue(share, value))
    return 0;
  if (Semaphore* lease = Lease(word);
      lease != nullptr && (wire::SemaphoreGetValue(lease, value) || wire::SemaphoreKnown(lease, value)))
    return 0;
  const int64_t count = CallAgent(abi::Operation::kSemGetValue, {ObjectOf(word)});
  if (count < 0) return -1;
  *value = static_cast<int>(count);
  return 0;
}

}  // namespace hooks
}  // namespace elsewhere::preload
