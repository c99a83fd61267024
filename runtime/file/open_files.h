// The mapped files that processes of this host have open.
//
// A process holds a descriptor of the ObjectFile's local file, reads it when the range is there and writes it
// without asking. What it wrote is known here in three ways:
//   - what grew: everything behind the size that was last known here (FileEntry::known_size), looked at
//   before
//     whatever needs it. This covers writers that no hook sees;
//   - what was overwritten before that: the process says so behind every such write;
//   - "unseen" files (opened by stdio to be changed in place, mapped writable): all of it is fetched, and
//     bytes that are no longer what they were are found when the file is flushed
//     (shim/file/object_memory.cpp).
//
// How long a file stays here: until nobody has it open, which is the kernel's knowledge: a write lease on the
// local file is granted only when no other descriptor or mapping of it exists, anywhere. So no death, no
// exec, no libc that closes without a hook and no descriptor that went through a socket can be missed.
//
// Thread-safety: all methods from any thread; Flush, Fetch and Sweep block.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "shim/file/object_file.h"
#include "shim/file/write_back.h"
#include "shim/wire/abi.h"
#include "shim/wire/result.h"

namespace elsewhere::runtime {

// One of them. What it points to outlives it; the fields below the mutex are guarded by it.
struct OpenFile {
  std::shared_ptr<file::ObjectFile> object;
  size_t map = 0;
  uint64_t device = 0, inode = 0;
  uint32_t entry = 0;  // number of its FileEntry, from 1; 0: none was free

  std::mutex refresh_mutex;  // one Refresh at a time; taken before `mutex`
  std::mutex mutex;
  unsigned pins = 0;      // guarded by OpenFiles: descriptors on their way to a process
  bool writable = false;  // was opened to be changed
  bool appends = true;    // only by those who append
  bool unseen = false;
  bool shared = false;  // the description is open on another host, too
  // How often another host may have replaced the object, and up to which of them that was looked at.
  uint64_t told = 0, looked = 0;
  uint64_t told_sent = 0;  // so many of object->times_sent() others know of; the loop's thread only
  uint64_t lock = 0;       // what home calls it where it is locked; the loop's thread only
  bool mapped = false;     // writable, as memory; the loop's thread only
  bool memory = false;     // that and locked, by any host; the loop's thread only
  std::atomic<bool> unstored = false;  // the last flush has failed
  bool rewritten = false;              // in places that nobody named; all of it is here
};

class OpenFiles {
 public:
  // `write_back`: nullptr, or where closed files are sent from later.
  OpenFiles(abi::Table& table, file::WriteBack* write_back) : table_(table), write_back_(write_back) {}

  // What a process is about to get a descriptor of; pinned until Unpin.
  Result<std::shared_ptr<OpenFile>> Opened(std::shared_ptr<file::ObjectFile> object, size_t map, int flags);
  void Unpin(const std::shared_ptr<OpenFile>& file);
  std::shared_ptr<OpenFile> Find(uint64_t device, uint64_t inode);

  Status Fetch(OpenFile& file, uint64_t offset, uint64_t length);
  void Written(OpenFile& file, uint64_t offset, uint64_t length);
  // Takes notice of what processes wrote without saying so.
  void Absorb(OpenFile& file);
  void AbsorbAll();
  Status Truncate(OpenFile& file, uint64_t size);
  Status SetUnseen(OpenFile& file);
  void NoteRewritten(OpenFile& file);
  // Processes of another host have the same description.
  void SetShared(OpenFile& file);
  // Processes of several hosts lock it: as SetShared, and nobody knows what was changed before. `records`: a
  // process has a record lock.
  void SetLocked(OpenFile& file, bool records);
  // The others in its directory that are open to be changed.
  std::vector<std::shared_ptr<OpenFile>> Beside(const OpenFile& file);
  // By what home calls it, or by its name.
  std::shared_ptr<OpenFile> FindLocked(size_t map, uint64_t lock, const std::string& key);
  // Another host has changed something on this map: its shared files are looked at before they are used
  // again. Answers them, for Refresh.
  std::vector<std::shared_ptr<OpenFile>> NoteStale(size_t map);
  Status Refresh(OpenFile& file);
  bool IsStale(OpenFile& file);
  // `watcher` is told of every file whose changes are stored, from any thread.
  using Watcher = std::function<void(const OpenFile& file)>;
  void SetWatcher(Watcher watcher);
  Status Flush(OpenFile& file);
  // As a close does it: with a write-back, later, while that is allowed. What was put off is not sent by
  // forbidding it.
  Status FlushByClose(OpenFile& file);
  void PutOff(bool allowed) { put_off_ = allowed; }
  // Until nothing that was put off is on its way; who closes or syncs the file next is told what failed.
  void AwaitClosed() {
    if (write_back_ != nullptr) write_back_->Drain();
  }
  // Flushes every file of this host that was changed; the first error. `sent`, if given: the maps of those
  // that were.
  Status FlushAll(std::set<size_t>* sent = nullptr);

  // Sends what was left behind and forgets the files that nobody has open any more.
  // `failed` is told of what could not be sent: nobody else is there to be told.
  void Sweep(const std::function<void(const std::string& key, const Error&)>& failed);
  bool empty();

 private:
  std::vector<std::shared_ptr<OpenFile>> All();
  void Publish(OpenFile& file);
  void PublishLocked(OpenFile& file);
  void GiveEntryBack(OpenFile& file);
  Status FindUnseen(OpenFile& file);
  uint32_t NewEntry(const OpenFile& file);
  void NoteStored(const OpenFile& file);

  abi::Table& table_;
  file::WriteBack* const write_back_;
  std::atomic<bool> put_off_ = true;
  std::once_flag watching_;
  Watcher watcher_;
  std::atomic<bool> watched_ = false;
  std::mutex mutex_;
  std::map<std::pair<uint64_t, uint64_t>, std::shared_ptr<OpenFile>> files_;
};

}  // namespace elsewhere::runtime
