// Locks on mapped files, which hold between processes of all hosts. Home decides (lock_arbiter.h).
//
// A record lock of a process (F_SETLK, lockf) is in the arbiter's table under its pid: a call of the process
// becomes FileLock to home, which answers when it has the lock or will not get it. It goes by an unlock, by
// kClose, which every close of a descriptor of the file is followed by, and with its process: then home first
// has the host where it ran store what it wrote.
//
// A lock of a description (flock, F_OFD_SETLK) is the kernel's, on the local file that all of this host have
// open, so dup, fork, exec and the last close mean what they always do. Before, the process asks for this
// host's right to it, and behind it once more: had the right been given away in between, it gives the lock
// up and begins again. When home wants a right back, a thread locks the local file itself, and has it when no
// process has: nobody has to tell of unlocks and closes. As long as no other host has asked for any flock,
// home's processes do not ask either (TableHeader::flocks_ask).
//
// Memory that has locks: a file that is mapped writable on one host and has record locks, as the index of
// SQLite's write-ahead log, cannot be the same memory on another one, and what it tells of are the files
// beside it. So it is one host's at a time: as long as a process there has a record lock on it, mapping it
// elsewhere is ENODEV, and so is locking it EAGAIN, also before it is mapped again, or ENOLCK for who would
// wait. The host that gives its locks up has all files that it has open to be changed in that directory in
// the store first, and who gets a lock looks at the store before it reads them.
//
// Locks order what is in the file: an unlock, and a right that is given away, is told of when everything that
// was written here is in the store, and who gets a lock looks at the store before it reads.
//
// Limits: who has opened a file only to read keeps that version under locks, too. A lock of a description
// that two hosts share is one on the host that has it from the other only where that is written only.
// Thread-safety: the loop's thread.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>

#include "runtime/agent.h"
#include "runtime/file/lock_arbiter.h"
#include "runtime/file/open_files.h"
#include "shim/store/unique_fd.h"
#include "shim/wire/file_message.h"

namespace elsewhere::runtime {

class FileLocks {
 public:
  // Has what was written to the file, or to all for nullptr, in the store, and other hosts told, before
  // `done`, which runs on the loop's thread.
  using Store = std::function<void(std::shared_ptr<OpenFile>, std::function<void(const Status&)> done)>;
  // `changed`: something may be locked now.
  FileLocks(Agent& agent, OpenFiles& open, Store store, std::function<void()> changed);
  ~FileLocks() { End(); }

  // flock, asked for by a process of another host that shares the description. `done`: errno or 0.
  void LockOutput(const std::shared_ptr<OpenFile>& file, const std::shared_ptr<store::UniqueFd>& descriptor,
                  int operation, std::function<void(int error)> done);

  // It is to be mapped writable. `done`: whether it is locked elsewhere, and so cannot be.
  void Maps(const std::shared_ptr<OpenFile>& file, int32_t kernel_pid, std::function<void(bool)> done);

  void CallDropped(CallId id) { Cancel(id); }
  void CallCancelled(CallId id) { Cancel(id); }
  void ProcessGone(const Process& process);
  void HostGone(HostId host);
  // Home: of a file that may be locked.
  void NameGone(const wire::NameLeaves& names) { arbiter_.NameGone(names.map, names.from, names.to); }
  bool empty() const { return arbiter_.empty(); }
  void End();

 private:
  using Answered = std::function<void(const wire::FileLockAnswer&)>;
  struct Waiting {
    std::optional<CallId> call;
    std::shared_ptr<OpenFile> file;
    Answered answered;
  };
  // What threads that wait for the kernel's locks refer to.
  struct Link {
    std::mutex mutex;
    FileLocks* locks = nullptr;  // nullptr: ended
  };

  void OnLock(CallId id, const Call& call);
  void Send(std::optional<CallId> call, std::shared_ptr<OpenFile> file, wire::FileLock lock,
            Answered answered);
  void Complete(CallId id, const wire::FileLockAnswer& answer, int error);
  void Take(HostId host, const wire::FileLock& lock);
  void TellOfOthers(HostId host, const wire::FileLock& lock);
  bool IsMemoryOfOthers(HostId host, const wire::FileLock& lock);
  HostId HostOf(int32_t pid) const;
  void AnswerTo(HostId host, wire::FileLockAnswer answer);
  void StoreAround(const std::shared_ptr<OpenFile>& file, std::function<void(const Status&)> done);
  void OnAnswer(const wire::FileLockAnswer& answer);
  void Cancel(CallId id);
  // `work`, which may block, then `done` with its result on the loop's thread, or never where all has ended.
  void Apart(std::function<int()> work, std::function<void(int)> done);
  void AskForFlock(const std::shared_ptr<OpenFile>& file, int operation, abi::FileLockCommand command,
                   std::function<void(int error)> done);
  void FlockWithRight(const std::shared_ptr<OpenFile>& file,
                      const std::shared_ptr<store::UniqueFd>& descriptor, int operation,
                      std::function<void(int error)> done);
  void OnWanted(const wire::FileLockWanted& wanted);
  void Locked(const wire::FileLockWanted& wanted, const std::shared_ptr<OpenFile>& file, int descriptor);
  void Give(uint64_t number, bool given);
  void OnLeft(int32_t pid);
  void StoreLeft(int32_t pid);
  void Stored(HostId host, int32_t pid);

  Agent& agent_;
  OpenFiles& open_;
  const Store store_;
  const std::function<void()> changed_;
  LockArbiter arbiter_;                                  // home's
  std::set<std::pair<uint32_t, std::string>> memories_;  // home: locked memory, by name, also that it was
  std::shared_ptr<Link> link_ = std::make_shared<Link>();
  std::map<uint64_t, Waiting> waiting_;  // calls of this host
  uint64_t last_ = 0;
  std::map<int32_t, HostId>
      left_;                  // home: processes whose locks go when their host has stored what they wrote
  std::set<int32_t> ending_;  // worker: such processes that are not gone here yet
};

}  // namespace elsewhere::runtime
