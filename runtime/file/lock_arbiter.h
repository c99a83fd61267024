// LockArbiter: who has which lock on a mapped file, for all hosts. Home's (file_locks.h says how it is
// asked).
//
// Record locks of processes are in its LockTable as they are. Locks of open file descriptions (flock,
// F_OFD_*) are taken in each host's own kernel; here hosts have the right to take them, of a range and a
// type, and keep it until another one needs it. Then they are asked for it (FileLockWanted), and give it when
// nobody on them has such a lock any more. Home has the right to every flock from the beginning.
//
// Thread-safety: the loop's thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "shim/file/lock_table.h"
#include "shim/wire/lock_message.h"

namespace elsewhere::runtime {

class LockArbiter {
 public:
  using Answer = std::function<void(wire::HostId, const wire::FileLockAnswer&)>;
  using Want = std::function<void(wire::HostId, const wire::FileLockWanted&)>;
  LockArbiter(Answer answer, Want want) : answer_(std::move(answer)), want_(std::move(want)) {}

  void Take(wire::HostId host, const wire::FileLock& lock);
  void Cancel(wire::HostId host, uint64_t number);
  void Given(wire::HostId host, uint64_t number, bool given);

  // The processes that have a record lock on the file.
  std::vector<int32_t> Lockers(wire::HostId host, wire::FileLock lock);
  bool HoldsAny(int32_t pid) const { return table_.Holds(static_cast<uint64_t>(pid)); }
  void ReleaseProcess(int32_t pid);
  void HostGone(wire::HostId host);
  // The name is gone, or another file's: who has it locked goes on to.
  void NameGone(uint32_t map, const std::string& from, const std::string& to);
  bool empty() const { return names_.empty(); }

 private:
  struct Request {
    wire::HostId host = wire::kHome;
    wire::FileLock lock;
    file::LockRequest wanted{};
  };
  // A right that was asked for.
  struct Asked {
    wire::HostId host = wire::kHome;
    file::LockRequest right{};  // what it gives up
    uint64_t for_whom = 0;      // a request that must not wait; 0: for those who wait
  };

  bool IsUsed(uint64_t file) const;
  uint64_t FileOf(wire::HostId host, const wire::FileLock& lock);
  void AnswerTo(const Request& request, int error);
  void Decide(Request request);
  // True: answers are to be awaited.
  bool AskWithoutWaiting(const Request& request, uint64_t number);
  void Settle();
  void Refuse(const Asked& asked);
  void Ask(wire::HostId host, const Request& request, uint64_t for_whom);
  void Close(const wire::FileLock& lock, uint64_t file);

  const Answer answer_;
  const Want want_;
  file::LockTable table_;
  // Files of whom anybody has a lock; of each an even number for record locks, and the next for flock.
  std::map<std::pair<uint32_t, std::string>, uint64_t> names_;
  uint64_t last_file_ = 0, last_number_ = 0;
  std::map<uint64_t, Request> waiting_;                                // by the table's name for it
  std::map<uint64_t, std::pair<Request, std::set<uint64_t>>> asking_;  // and what it asked for
  std::map<uint64_t, Asked> asked_;
};

}  // namespace elsewhere::runtime
