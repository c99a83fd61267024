// LockTable: the locks on mapped files, for the one agent that decides for all hosts (home's).
//
// Two kinds, as Linux has them: POSIX record locks (fcntl F_SETLK, lockf), which belong to a process; and
// record locks of an open file description (F_OFD_SETLK). They exclude each other. flock, which knows nothing
// of them, is for the caller a lock of a description on another file.
//
// Rules, all of them the kernel's
//  - A request is checked against the locks that are held, not against those who wait; whoever waits is tried
//    again, in the order of arrival, whenever a lock on the file goes or shrinks.
//  - Setting a record lock replaces what its owner has in the range, also when the type changes; ranges of
//    one type that touch become one.
//  - A POSIX request that would close a circle of processes, each waiting for the next, fails with EDEADLK,
//    at once or when it is tried again. The other kinds may wait for ever.
//  - A process's POSIX locks on a file go with its first close of any descriptor of that file, all of them
//    with its end; those of a description with its last close.
//
// The table answers nobody: those who need not wait any more are handed out by TakeAnswers. Thread-safety:
// none; one agent's thread. Sources: POSIX fcntl(), Linux fcntl(2), flock(2), fs/locks.c.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <list>
#include <map>
#include <optional>
#include <vector>

#include "shim/wire/result.h"

namespace elsewhere::file {

// Chosen by the caller: the same as long as anybody has the file open, whatever its name is by then.
using LockedFile = uint64_t;

enum class LockKind { kProcess, kDescription };
enum class LockType { kUnlock, kShared, kExclusive };

struct LockOwner {
  LockKind kind = LockKind::kProcess;
  uint64_t id = 0;  // of the process (its pid at home) or the open file description
  bool operator==(const LockOwner&) const = default;
};

struct LockRange {
  uint64_t from = 0;
  uint64_t to = UINT64_MAX;  // exclusive; UINT64_MAX: whatever is written behind
  bool operator==(const LockRange&) const = default;
};

struct LockRequest {
  LockedFile file = 0;
  LockOwner owner{};
  LockType type = LockType::kShared;
  LockRange range{};
};

// As F_GETLK tells.
struct LockConflict {
  LockType type = LockType::kShared;
  LockRange range{};
  pid_t pid = -1;  // -1: it belongs to a description
  bool operator==(const LockConflict&) const = default;
};

struct LockAnswer {
  uint64_t waiter = 0;
  int code = 0;  // 0: it has the lock; EDEADLK, ENOLCK
  bool operator==(const LockAnswer&) const = default;
};

class LockTable {
 public:
  // `most_locks`: of all files together; beyond, ENOLCK.
  explicit LockTable(size_t most_locks = 1 << 20) : most_locks_(most_locks) {}

  // EAGAIN: somebody has it.
  Status Try(const LockRequest& request);
  // True: it has the lock. False: it waits under the name `waiter`, which the caller makes unique. EDEADLK.
  Result<bool> Wait(const LockRequest& request, uint64_t waiter);
  // The waiting call was interrupted or its process died; unknown names are ignored.
  void Cancel(uint64_t waiter);

  // The first lock that keeps the request from being granted.
  std::optional<LockConflict> Find(const LockRequest& request) const;

  // All of them, once each.
  std::vector<LockOwner> Blockers(const LockRequest& request) const;

  bool Holds(uint64_t process) const;
  bool Knows(LockedFile file) const { return files_.contains(file); }

  void ReleaseProcess(uint64_t process);
  void ReleaseOnClose(uint64_t process, LockedFile file);
  void ReleaseDescription(uint64_t description);

  // Whose waiting has ended since the last call, in that order.
  std::vector<LockAnswer> TakeAnswers();

  size_t locks() const { return count_; }
  bool empty() const { return files_.empty(); }

 private:
  struct Held {
    LockOwner owner;
    LockType type;
    LockRange range;
  };
  struct Waiter {
    uint64_t name;
    LockRequest request;
  };
  struct File {
    std::vector<Held> held{};  // in the order of their beginnings
    std::list<Waiter> waiters{};
  };

  static bool Excludes(const Held& held, const LockRequest& request);
  const Held* FindHeld(const LockRequest& request) const;
  Status Set(File& file, const LockRequest& request);
  bool WouldWaitForItself(const LockRequest& request) const;
  void Release(bool (*matches)(const LockOwner&, uint64_t), uint64_t id);
  template <class Condition>
  void Drop(LockedFile name, const Condition& condition);
  void TryWaitersOf(LockedFile name);

  const size_t most_locks_;
  size_t count_ = 0;
  std::map<LockedFile, File> files_;
  std::vector<LockAnswer> answers_;
};

}  // namespace elsewhere::file
