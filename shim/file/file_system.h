// FileSystem: one mapped directory, as POSIX sees it. Paths are relative to it, without a leading '/'; "" is
// the directory itself. A final '/' asks for a directory. Symbolic links are followed inside the map; one
// that leads out of it makes the call fail with EREMOTE, and Resolve tells where to.
//
// What is remembered: attributes and listings, for `remember_ms`; the files that are open here, by key, so
// that all who open a file on this host share one ObjectFile; what this host changes is seen here at once. An
// open looks at the store in any case (close-to-open consistency between hosts).
//
// Limits that come from S3, on purpose without a pretence: rename is copy and delete, so for a moment both
// names exist, and a directory's rename is not atomic; no hard links (EPERM). FIFOs, sockets and devices are
// empty objects whose mode says so; what FIFOs and sockets connect is the caller's to provide, and devices
// can only be looked at, as on a file system that is mounted with nodev.
//
// Paths may hold ".", ".." and repeated slashes; ".." leads to where a link's target lies, as in the kernel.
// Permissions are those of the calling thread's ActingAs (caller.h), checked against mode and owner in the
// metadata, on the file and on the directories on the way, as the kernel does it.
//
// A directory's times are its marker's, or those of the last change of a name in it by this host if that is
// later; other hosts do not see the latter.
//
// Errors are errno values as the calls of the same name have them; those of the store besides (EIO,
// ETIMEDOUT, ...). Thread-safety: every method from any thread; all may block.
#pragma once

#include <fcntl.h>
#include <sys/statvfs.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "shim/file/attributes.h"
#include "shim/file/caller.h"
#include "shim/file/object_file.h"
#include "shim/file/other_holders.h"
#include "shim/file/removals.h"

namespace elsewhere::file {

// Of a Put with if_absent. Also when it may have been ours before another writer replaced it: it exists.
inline bool SaysItExists(const Error& error) {
  return error.code == EEXIST || error.code == EALREADY;
}

struct FileSystemOptions {
  std::string mount_point;  // absolute; where absolute link targets may lead back into the map
  bool read_only = false;
  // Every object is a plain file, of whose attributes only those count that a listing tells.
  bool plain = false;
  Defaults defaults{};
  uint64_t remember_ms = 1000;
  // Whose permissions are checked where no ActingAs is in force; root may do all.
  Caller caller{};
};

struct DirectoryEntry {
  std::string name;
  mode_t type = 0;  // S_IFDIR, S_IFREG, ...; 0: unknown, since a listing does not tell links and FIFOs
};

class FileSystem {
 public:
  FileSystem(std::shared_ptr<FileContext> context, FileSystemOptions options);
  ~FileSystem();
  FileSystem(const FileSystem&) = delete;
  FileSystem& operator=(const FileSystem&) = delete;

  struct Resolved {
    std::string path;       // in this map, free of links but perhaps its last name
    std::string outside{};  // absolute; then `path` means nothing
  };
  Result<Resolved> Resolve(const std::string& path, bool follow_last);

  Result<Attributes> Stat(const std::string& path, bool follow = true);
  // The same of a file where the answer is known; never blocks. Nothing: ask Stat.
  std::optional<Attributes> KnownStat(const std::string& path, bool follow);
  // Every name but "." and ".."; sorted.
  Result<std::vector<DirectoryEntry>> ReadDirectory(const std::string& path);
  Result<std::string> ReadLink(const std::string& path);
  // R_OK, W_OK, X_OK
  Status Access(const std::string& path, int wanted, bool follow = true);

  // flags as open(2) has them: access mode, O_CREAT, O_EXCL, O_TRUNC, O_NOFOLLOW, O_TMPFILE. A directory
  // gives EISDIR, a FIFO or socket ENXIO, a device EACCES. Whoever changes the file calls ObjectFile::Flush
  // before letting it go.
  Result<std::shared_ptr<ObjectFile>> Open(const std::string& path, int flags, mode_t mode);

  Status MakeDirectory(const std::string& path, mode_t mode);
  Status RemoveDirectory(const std::string& path);
  Status Unlink(const std::string& path);
  // Whether an Unlink may return before the store has done it (removals.h). What was put off is not done by
  // forbidding it.
  void PutOffRemovals(bool allowed) { put_off_removals_ = allowed; }
  Removals& removals() { return removals_; }
  // fsync(2) of a directory: waits for what was put off below it. EIO: not all could be deleted, and what
  // could not be is there again; said once.
  Status SyncDirectory(const std::string& path);
  Status MakeLink(const std::string& target, const std::string& path);
  // mknod(2). Only root makes devices, as the kernel has it; nobody can open them.
  Status MakeSpecial(const std::string& path, mode_t mode, uint64_t device = 0);
  // linkat(2) of a descriptor: gives an O_TMPFILE file its name. EPERM for one that has a name.
  Status Link(const std::shared_ptr<ObjectFile>& file, const std::string& to);
  // link(2): always fails, with EPERM where a file system without hard links would.
  Status HardLink(const std::string& from, const std::string& to);
  // flags: RENAME_NOREPLACE; others EINVAL
  Status Rename(const std::string& from, const std::string& to, unsigned flags = 0);
  // Of a path, or of a file that is open and perhaps has no name any more.
  Status SetMode(const std::string& path, mode_t mode, bool follow = true);
  Status SetMode(const std::shared_ptr<ObjectFile>& file, mode_t mode);
  // uid_t(-1), gid_t(-1): as it is
  Status SetOwner(const std::string& path, uid_t uid, gid_t gid, bool follow = true);
  Status SetOwner(const std::shared_ptr<ObjectFile>& file, uid_t uid, gid_t gid);
  // Without a value: as it is. `touch`: both were given as "now", which who may write the file may do as
  // well.
  struct Times {
    std::optional<int64_t> atime_ns{}, mtime_ns{};
    bool touch = false;
  };
  Status SetTimes(const std::string& path, const Times& times, bool follow = true);
  Status SetTimes(const std::shared_ptr<ObjectFile>& file, const Times& times);

  // extended_attributes.h
  Result<std::string> GetXattr(const std::string& path, const std::string& name, bool follow = true);
  Result<std::string> GetXattr(const std::shared_ptr<ObjectFile>& file, const std::string& name);
  Result<std::string> ListXattr(const std::string& path, bool follow = true);
  Status SetXattr(const std::string& path, const std::string& name, const std::string& value, int flags,
                  bool follow = true);
  Status SetXattr(const std::shared_ptr<ObjectFile>& file, const std::string& name, const std::string& value,
                  int flags);
  Status RemoveXattr(const std::string& path, const std::string& name, bool follow = true);
  Status RemoveXattr(const std::shared_ptr<ObjectFile>& file, const std::string& name);

  // What of a bucket can be said: it has no size, so there is room for much.
  struct statvfs StatFs() const;
  Status Truncate(const std::string& path, uint64_t size);

  // Bytes that a path may have.
  size_t LongestPath() const;
  // The one that it has, or else one that is its path's.
  uint64_t InodeOf(const std::string& path, const Attributes& attributes) const;

  // Another host says that it has changed something here.
  void ForgetAll();
  // Directories and when this host last changed names in them, since the last call. The store does not know:
  // the other hosts are told.
  using DirectoryTimes = std::vector<std::pair<std::string, int64_t>>;
  DirectoryTimes TakeDirectoryTimes();
  void NoteDirectoryTimes(const DirectoryTimes& times);

  // Who has files of this map open on other hosts; before the first call. It outlives the FileSystem's calls.
  void SetOthers(OtherHolders* others) { others_ = others; }
  // The other side of OtherHolders: what this host has open under the names; Keep blocks, and is followed by
  // Settle.
  struct Held {
    std::string key;
    std::shared_ptr<ObjectFile> file;
    bool replaced = false;  // it has the name that another file gets
  };
  std::vector<Held> OpenUnder(const std::string& from, const std::string& to);
  static Status Keep(const std::vector<Held>& held);
  void Settle(const std::vector<Held>& held, const std::string& from, const std::string& to, bool done);

 private:
  struct Remembered {
    std::optional<Attributes> attributes;  // nothing: there is no such name
    int64_t until_ns = 0;
    bool settled = false;  // Name::settled, in the listing before it was looked up
    uint64_t number = 0;   // of the change after which it was looked up
  };
  struct Name {
    bool directory = false;
    bool certain = false;  // else it may also be a link, FIFO or socket
    // Stored so long before the listing that whatever changes it afterwards shows another time.
    bool settled = false;
    uint64_t size = 0;
    int64_t stored_ns = 0;
    std::string etag{};

    bool IsThat(const Attributes& attributes) const;
  };
  struct Listing {
    std::map<std::string, Name> names;
    int64_t begun_ns = 0, until_ns = 0;
    uint64_t number = 0;  // of the change after which it was there
    size_t pages = 0;
    // Look-ahead: how far it has come, how many names at once, and how many were asked for since.
    std::string looked_to{};
    size_t window = 0, used = 0;
    bool ahead = false;  // listed for somebody who has not come yet
  };
  // Directories of one parent that were listed one after the other.
  struct Walk {
    std::string parent;
    std::vector<std::string> names{};  // of all directories in it, sorted
    size_t at = SIZE_MAX;              // the one that was listed last
    std::string next{};                // the one that is probably next; empty: nobody can tell
    bool looks_up = false;             // names in them are asked for too
  };
  // Names of a directory that were asked for one by one.
  struct Asked {
    size_t times = 0, pages = 1;
    int64_t since_ns = 0;
  };

  store::ObjectStore& Store() { return *context_->store; }
  ChangeNumbers& Changes() const { return *context_->changes; }
  Error Fail(int code, const std::string& path) const;
  Status Writable(const std::string& path) const;
  Attributes AttributesOfObject(const std::string& key, store::ObjectInfo info) const;

  // file_access.cpp
  const Caller& Who() const;
  bool Allowed(const Attributes& attributes, int wanted) const;
  Status AllowedIn(const std::string& directory, int wanted);
  // Search permission in `directory` and all above it.
  Status Searchable(const std::string& directory);
  // From a sticky directory only the owner of either may remove, and root.
  Status MayRemove(const std::string& key, const Attributes& attributes);
  // The same where it does not matter whose it is; nothing: it does.
  std::optional<Status> MayRemoveAnything(const std::string& directory);
  Status MayRename(const std::string& from, const Attributes& source, const std::string& to,
                   const Attributes* target);

  // Lookup of one key, links not followed. ENOENT when there is nothing.
  Result<Attributes> Lookup(const std::string& key, bool fresh = false);
  Result<Attributes> LookupName(const std::string& key, bool fresh);
  Result<Attributes> LookupInStore(const std::string& key);
  // What a HEAD of the key says, or that it is a directory.
  Result<Attributes> LookupAfterHead(const std::string& key, Result<store::ObjectInfo> info);
  Result<Attributes> LookupDirectory(const std::string& key);
  // Under the lock. What is known of a name without asking the store: perhaps that there is none.
  std::optional<Remembered> Known(const std::string& key, int64_t now);
  Listing* FreshListing(const std::string& directory, int64_t now);
  // The same. What is known since an earlier session of the version that a listing shows.
  Remembered* FromCache(const std::string& key, const Name& name, const Listing& listing);
  void LookAhead(const std::string& directory, const std::string& asked, Listing& listing);
  void LookUpAside(std::vector<std::string> keys, bool directories);
  // Under the lock.
  Walk* WalkThrough(const std::string& parent);
  void NoteListed(const std::string& directory, const Listing& listing);
  void ListAhead(const std::string& directory);
  // What was listed ahead, once; nothing: it was not.
  std::shared_ptr<Listing> TakeListedAhead(const std::string& directory);
  bool IsListedFile(const std::string& key);
  // Whoever asks for name after name of a directory is answered from its listing.
  bool IsWorthListing(const std::string& directory, int64_t now);
  Error WhyMissing(const std::string& key);
  // EFBIG: it has more pages than that.
  Result<std::shared_ptr<Listing>> List(const std::string& key, size_t most_pages = SIZE_MAX);
  // Takes "." and ".." out of a path; the answer ends in '/' if it can only be a directory.
  Result<Resolved> WithoutDots(const std::string& path, int* links_left);
  Result<Resolved> ResolveLinks(const std::string& path, bool follow_last, int* links_left);
  // Either end of a change: resolved path without a final '/'.
  // A path that ends in "." or ".." fails with `dot_code`.
  Result<std::string> ResolveForChange(const std::string& path, int dot_code = EEXIST);
  // The key of a name that does not exist yet and that the caller may make. Only a directory's may end in
  // '/'.
  Result<std::string> FreeKey(const std::string& path, bool directory = false);

  // What was asked of the store before a change of that name, by its number, is not remembered.
  void Remember(const std::string& key, const std::optional<Attributes>& attributes, uint64_t changes);
  std::string NameInCache(const std::string& key) const;
  void Forget(const std::string& key);
  void NoteName(const std::string& key, std::optional<bool> directory);
  void NoteDirectoryTime(const std::string& directory, int64_t changed_ns);
  std::shared_ptr<ObjectFile> FindOpen(const std::string& key);
  void PutOpen(const std::string& key, const std::shared_ptr<ObjectFile>& file);
  // The same, unless somebody else has opened it at the same time, whose file it is then: all of this host
  // share one. `before`: what was known to be open.
  std::shared_ptr<ObjectFile> ShareOpen(const std::string& key, const std::shared_ptr<ObjectFile>& file,
                                        const std::shared_ptr<ObjectFile>& before);
  std::vector<std::pair<std::string, std::shared_ptr<ObjectFile>>> OpenBelow(const std::string& prefix);

  bool IsRemembered(const std::string& key);
  Result<std::shared_ptr<ObjectFile>> OpenExisting(const std::string& key, int flags,
                                                   const Attributes* known);
  Result<std::shared_ptr<ObjectFile>> Create(const std::string& key, int flags, mode_t mode);
  // Of something new in the directory of `key`, whose set-group-ID bit it heeds.
  Attributes NewAttributes(const std::string& key, mode_t mode);
  // A name that must not exist, for what is made of one object: link, FIFO, socket, empty file.
  Status MakeObject(const std::string& path, mode_t mode, std::string_view content, uint64_t device = 0);
  Result<std::shared_ptr<ObjectFile>> OpenAnonymous(const std::string& directory, int flags, mode_t mode);
  // A directory must not vanish with the last object in it.
  Status KeepDirectory(const std::string& key);
  Status PutDirectory(const std::string& key, const Attributes& attributes, bool if_absent);
  using Changer = std::function<Status(Attributes&)>;
  Status Change(const std::string& path, bool follow, const Changer& change);
  Status Change(const std::shared_ptr<ObjectFile>& file, const Changer& change);
  Status KeptByPlainObject(const Attributes& before, const Attributes& wanted) const;
  Status ChangeKey(const std::string& key, const Attributes& known, const Changer& change);
  Changer ModeChange(mode_t mode) const;
  Changer OwnerChange(uid_t uid, gid_t gid) const;
  Changer TimesChange(const Times& times) const;
  Changer XattrChange(const std::string& name, const std::string& value, int flags) const;
  Changer XattrRemoval(const std::string& name) const;
  Result<Attributes> CopyFile(const std::string& from, const std::string& to, bool replace);
  Status RenameFile(const std::string& from, const std::string& to, bool replace);
  Status RenameDirectory(const std::string& from, const std::string& to);
  Status RenameMarker(const std::string& from, const std::string& to, bool is_there);
  // The new version. `as`: with other attributes.
  Result<std::string> CopyObject(const std::string& from, const std::string& to, uint64_t size,
                                 const std::string& etag, const Attributes* as = nullptr);
  Result<bool> IsEmpty(const std::string& key);

  const std::shared_ptr<FileContext> context_;
  const FileSystemOptions options_;
  OtherHolders* others_ = nullptr;
  std::atomic<bool> put_off_removals_ = false;
  std::mutex mutex_;
  std::map<std::string, Remembered> remembered_;
  std::map<std::string, std::shared_ptr<Listing>> listings_;
  std::map<std::string, Asked> asked_;
  std::deque<Walk> walks_;  // the last begun first
  // Names that tasks of ours are looking up; with a '/': directories that they list.
  std::set<std::string> looking_;
  std::condition_variable looked_;  // one of them is done
  std::map<std::string, std::weak_ptr<ObjectFile>> open_;
  std::set<std::string> kept_directories_;     // known to have an object of their own
  std::map<std::string, int64_t> changed_at_;  // directories in which names were changed, ns
  std::set<std::string> untold_times_;         // of these, by this host since TakeDirectoryTimes
  struct Searched {
    Attributes attributes;
    int64_t until_ns = 0;
  };
  std::map<std::string, Searched> searched_;  // directories, for search permission
  Removals removals_;                         // never asked under the lock
};

// The key of a directory's marker. That of the mapped directory itself is "/", which an S3Store takes for the
// marker of its own prefix.
std::string MarkerOf(const std::string& key);
// "a" of "a/b", "" of "a"; and "b".
std::string ParentOf(const std::string& key);
std::string NameOf(const std::string& key);
// It is a key as it stands.
bool IsPlainPath(const std::string& path);

}  // namespace elsewhere::file
