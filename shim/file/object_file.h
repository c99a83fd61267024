// ObjectFile: one open file whose content is an object, shared by everything on this host that has it open.
//
// Its local file (FileCache) holds what has been fetched and what has been written. `valid_` says what of it
// is right, `changed_` what is not yet in the store, `base_*` which version of the object it started from.
//
// Rules
//  - Fetched bytes never overwrite written ones: they are put into place under the lock, only where still
//  missing.
//  - A version that was replaced elsewhere cannot be fetched any more: reading what is missing gives ESTALE.
//  - Flush replaces exactly the version that this file started from. When another host was faster, the
//  changed bytes are
//    laid over the new version (appended bytes: behind it) and sent again: both writers' changes are in the
//    object, where they overlap those of the later Flush. A file that was truncated replaces the other's
//    content whole. However often others are faster, it goes on.
//  - Appended bytes never get into the object twice (`doubted_`). When an answer was lost and another host
//    replaced the object before we look: our bytes at their place in its version were probably sent by us,
//    and Flush gives EIO, now and when repeated. Other bytes there: ours were not written, and follow.
//  - What Flush has confirmed is durable in the store. After a failed Flush the changes are still here; it
//  may be
//    repeated.
//  - Of memory (KeepTwin) only the bytes that are no longer those of that version are laid over
//  (object_memory.cpp).
//  - A new or emptied file that is written in sequence is sent while it is written (`stream_`); a part that
//  is written
//    again later is sent again.
//
// Errors: those of the store, with ENOENT turned into ESTALE and EALREADY into EIO; when the cache's
// disk is full, ENOSPC for who writes and EIO for who reads. Thread-safety: every method from any thread;
// those that need the store block.
#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "shim/file/attribute_cache.h"
#include "shim/file/attributes.h"
#include "shim/file/buffer.h"
#include "shim/file/cache.h"
#include "shim/file/change_numbers.h"
#include "shim/file/extents.h"
#include "shim/file/upload_plan.h"
#include "shim/file/workers.h"
#include "shim/store/object_store.h"

namespace elsewhere::file {

// What the files of one mapped directory share. All of it outlives them.
struct FileContext {
  std::shared_ptr<store::ObjectStore> store;
  std::shared_ptr<FileCache> cache;
  std::shared_ptr<Workers> workers;
  std::shared_ptr<ChangeNumbers> changes = std::make_shared<ChangeNumbers>();
  std::shared_ptr<AttributeCache> attributes = nullptr;  // perhaps none
};

class ObjectFile {
 public:
  // Of an object that is there. `content`: all of it, when it is known already.
  static Result<std::shared_ptr<ObjectFile>> Existing(std::shared_ptr<FileContext> context, std::string key,
                                                      Attributes attributes,
                                                      std::optional<std::string_view> content);
  // A file that the store does not know yet.
  static Result<std::shared_ptr<ObjectFile>> Created(std::shared_ptr<FileContext> context, std::string key,
                                                     Attributes attributes);
  // A file without a name (O_TMPFILE): nothing of it is sent before GiveName.
  static Result<std::shared_ptr<ObjectFile>> Anonymous(std::shared_ptr<FileContext> context,
                                                       Attributes attributes, bool may_be_linked);
  ~ObjectFile();

  // The local file: what was fetched is valid, all else reads as zeros. Owned by the ObjectFile.
  int fd() const { return local_.fd.get(); }
  std::string key() const;
  Attributes attributes() const;
  bool changed() const;         // Flush has something to send
  bool ahead_of_store() const;  // that, or a Flush is under way
  uint64_t unsent_bytes() const;
  // How often a Flush has put another version into the store. What was there before is the same version by
  // its ETag, but news for who has seen one in between.
  uint64_t times_sent() const;
  bool writable() const;  // MakeWritable was called

  // Makes the range valid in the local file, and reads ahead when the calls come in sequence.
  Status Prepare(uint64_t offset, uint64_t length);
  Result<size_t> Read(std::span<char> into, uint64_t offset);
  // lseek(2) with SEEK_DATA and SEEK_HOLE: all of the file is data. ENXIO.
  Result<uint64_t> SeekData(uint64_t offset) const;
  Result<uint64_t> SeekHole(uint64_t offset) const;

  // Somebody who is not root may write from now on, perhaps without saying who he is: set-ID bits go then.
  void NoteOrdinaryWriter();
  // Must be called once before the first change: turns a file of the cache into one of our own.
  Status MakeWritable();
  Result<size_t> Write(std::string_view data, uint64_t offset);
  // At the end, atomically among all writers of this host; answers where.
  Result<uint64_t> Append(std::string_view data);
  // Says that the range was or will be written into fd() by somebody else.
  Status NoteWritten(uint64_t offset, uint64_t length);
  // The same of everything that stands in fd() behind the size that is known here. `appended`: by writers who
  // meant the end, wherever it is.
  void NoteGrowth(bool appended);
  // All of it is in the local file, and stays there.
  bool IsWhole() const;
  // From now on bytes of fd(), all of which is there, change without a word, as memory does; NoteMemory finds
  // them.
  Status KeepTwin();
  Status NoteMemory();
  Status Truncate(uint64_t size);
  // fallocate(2); EOPNOTSUPP for modes that move content.
  Status Allocate(int mode, uint64_t offset, uint64_t length);
  // Mode, owner and times of `wanted`; kept in the store by the next Flush.
  void SetAttributes(const Attributes& wanted);

  Status Flush();
  // Takes over what another host has put in the object's place, if nothing here is unsent (otherwise the next
  // Flush does): for a description that processes of both hosts share, which is to show what either wrote.
  Status Refresh();

  // The object has another key from now on, with this version if it was copied, and the inode and time of
  // change of `now`.
  void Renamed(std::string key, const std::string& etag, const Attributes& now);
  // The name is gone: nothing more is sent. First fetches what is missing, so that it lives on for those who
  // have it.
  Status Unlink();
  // It is not gone after all, for the store has failed.
  void KeepsName();
  // Another host is about to take the name away or to change it (OtherHolders): fetches what is missing, and
  // lets no Flush begin before Settled.
  Status Leaves();
  void RemovedElsewhere();  // it has taken it away
  void Settled();
  bool unlinked() const;
  // Makes an anonymous file the object `key`, which must not exist: EEXIST, and it stays anonymous. ENOENT if
  // it had a name before.
  Status GiveName(std::string key);

 private:
  struct Stream;
  struct Snapshot;
  ObjectFile(std::shared_ptr<FileContext> context, std::string key, Attributes attributes);
  std::string Identity() const;

  Status FetchAll();
  std::unique_lock<std::mutex> LockFlush();
  Status FetchRange(uint64_t from, uint64_t to);
  Status FetchPiece(uint64_t from, uint64_t to);
  Status FillMissing(std::string_view data, uint64_t offset);
  void ReadAhead(std::unique_lock<std::mutex>& lock, uint64_t from, uint64_t to);
  void MarkWritten(uint64_t offset, uint64_t length, bool appended);
  void DropPrivileges();
  Error Failed(const Error& error) const;

  Status FlushOnce();
  bool NothingToSend() const;
  Snapshot Begin();
  void End(const Snapshot& snapshot, const Result<store::ObjectInfo>& sent);
  Result<store::ObjectInfo> Send(const Snapshot& snapshot);
  Result<store::ObjectInfo> SendAttributes(const Snapshot& snapshot);
  Result<store::ObjectInfo> SendWhole(const Snapshot& snapshot);
  Result<store::ObjectInfo> SendParts(const Snapshot& snapshot);
  Result<store::ObjectInfo> SendStream(const Snapshot& snapshot);
  Status CheckVersion(const Snapshot& snapshot);
  Result<Buffer> Content(uint64_t offset, uint64_t length);
  Status TakeCopy(const Extents& changed, uint64_t size);
  Status ReadCopy(char* to, uint64_t length, uint64_t offset) const;
  Status CopyArrived(uint64_t size);
  void DropCopy();
  Result<std::string> RebaseMemory(store::ObjectInfo now, std::string content);
  Status TakeTheirs(std::string_view theirs, uint64_t offset);
  Result<store::Object> LookThere();
  Result<std::string> Rebase();
  Result<bool> DoubtedIsThere(const store::ObjectInfo& now);
  Status MoveAppended(uint64_t by);

  void StreamWritten(std::unique_lock<std::mutex>& lock, uint64_t offset, uint64_t length);
  void SendStreamPart(std::shared_ptr<Stream> stream, unsigned index);
  void AbandonStream();

  const std::shared_ptr<FileContext> context_;
  FileCache::Version local_;

  mutable std::mutex mutex_;
  std::condition_variable arrived_;  // a fetch or a part of the stream ended, or the name is settled
  std::string key_;
  Attributes attributes_;
  std::string base_etag_;    // empty: not in the store
  uint64_t base_size_ = 0;   // of that version
  uint64_t base_limit_ = 0;  // so much of its beginning is still part of this file, where not changed
  Extents valid_, fetching_, changed_;
  Extents doubted_;  // appended to that version by a Flush that failed, and perhaps in the store
  bool writable_ = false, truncated_ = false, attributes_changed_ = false, appended_only_ = true,
       unlinked_ = false, may_be_linked_ = false, ordinary_writer_ = false;
  bool flushing_ = false;
  uint64_t times_sent_ = 0;
  unsigned leaving_ = 0;  // other hosts that are about to change the name
  uint64_t truncated_while_flushing_ = UINT64_MAX;
  uint64_t next_expected_ = 0, ahead_ = 0;  // sequential reading
  unsigned background_ = 0;                 // tasks that refer to this file
  std::shared_ptr<Stream> stream_;
  store::UniqueFd
      twin_;  // of memory: what the version has that this file started from; changed under flush_mutex_
  store::UniqueFd copy_;  // of memory: what of copied_ is being sent; under flush_mutex_
  Extents copied_;
  std::mutex flush_mutex_;  // one Flush at a time; taken before mutex_
};

}  // namespace elsewhere::file
