// FileSystem: one mapped directory, as POSIX sees it. Paths are relative to it, without a leading '/'; "" is
// the directory itself. A final '/' asks for a directory. Symbolic links are followed inside the map; one
// that leads out of it makes the call fail with EREMOTE, and Resolve tells where to.
//
// What is remembered: attributes and listings, for `remember_ms`; the files that are open here, by key, so
// that all who open a file on this host share one ObjectFile; what this host changes is seen here at once. An
// open looks at the store in any case (close-to-open consistency between hosts).
//
// Limits that come from S3, on purpose without a pretence: rename is copy and delete, so for a moment both
// names exist, and a directory's rename is not atomic; no hard links (EPERM), devices, FIFOs or sockets
// (EPERM).
//
// Errors are errno values as the calls of the same name have them; those of the store besides (EIO,
// ETIMEDOUT, ...). Thread-safety: every method from any thread; all may block.
#pragma once

#include <fcntl.h>

#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "shim/file/attributes.h"
#include "shim/file/object_file.h"

namespace elsewhere::file {

// Of a Put with if_absent. Also when it may have been ours before another writer replaced it: it exists.
inline bool SaysItExists(const Error& error) {
  return error.code == EEXIST || error.code == EALREADY;
}

struct FileSystemOptions {
  std::string mount_point;  // absolute; where absolute link targets may lead back into the map
  bool read_only = false;
  Defaults defaults{};
  uint64_t remember_ms = 1000;
  // Whose permissions are checked; root may do all.
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups{};
};

struct DirectoryEntry {
  std::string name;
  mode_t type = 0;  // S_IFREG also for symbolic links that were not looked at yet
  uint64_t inode = 0;
};

class FileSystem {
 public:
  FileSystem(std::shared_ptr<FileContext> context, FileSystemOptions options);

  struct Resolved {
    std::string path;       // in this map, free of links but perhaps its last name
    std::string outside{};  // absolute; then `path` means nothing
  };
  Result<Resolved> Resolve(const std::string& path, bool follow_last);

  Result<Attributes> Stat(const std::string& path, bool follow = true);
  // Every name but "." and ".."; sorted.
  Result<std::vector<DirectoryEntry>> ReadDirectory(const std::string& path);
  Result<std::string> ReadLink(const std::string& path);
  // R_OK, W_OK, X_OK
  Status Access(const std::string& path, int wanted, bool follow = true);

  // flags as open(2) has them: access mode, O_CREAT, O_EXCL, O_TRUNC, O_NOFOLLOW. A directory gives EISDIR.
  // Whoever changes the file calls ObjectFile::Flush before letting it go.
  Result<std::shared_ptr<ObjectFile>> Open(const std::string& path, int flags, mode_t mode);

  Status MakeDirectory(const std::string& path, mode_t mode);
  Status RemoveDirectory(const std::string& path);
  Status Unlink(const std::string& path);
  Status MakeLink(const std::string& target, const std::string& path);
  // flags: RENAME_NOREPLACE; others EINVAL
  Status Rename(const std::string& from, const std::string& to, unsigned flags = 0);
  Status SetMode(const std::string& path, mode_t mode, bool follow = true);
  // uid_t(-1), gid_t(-1): as it is
  Status SetOwner(const std::string& path, uid_t uid, gid_t gid, bool follow = true);
  Status SetTimes(const std::string& path, std::optional<int64_t> atime_ns, std::optional<int64_t> mtime_ns,
                  bool follow = true);
  Status Truncate(const std::string& path, uint64_t size);

  uint64_t InodeOf(const std::string& path) const;

 private:
  struct Remembered {
    std::optional<Attributes> attributes;  // nothing: there is no such name
    int64_t until_ns = 0;
  };
  struct Listing {
    std::map<std::string, bool> names;  // name -> is a directory
    int64_t until_ns = 0;
  };

  store::ObjectStore& Store() { return *context_->store; }
  Error Fail(int code, const std::string& path) const;
  Status Writable(const std::string& path) const;
  bool Allowed(const Attributes& attributes, int wanted) const;
  Status AllowedIn(const std::string& directory, int wanted);

  // Lookup of one key, links not followed. ENOENT when there is nothing.
  Result<Attributes> Lookup(const std::string& key, bool fresh = false);
  Result<Attributes> LookupInStore(const std::string& key);
  Result<Attributes> LookupDirectory(const std::string& key);
  void LookAhead(const std::string& key);
  Error WhyMissing(const std::string& key);
  Result<Listing> List(const std::string& key);
  // Both ends of a change: resolved path without a final '/', its parent checked for permission to change it.
  Result<std::string> ResolveForChange(const std::string& path);

  void Remember(const std::string& key, const std::optional<Attributes>& attributes);
  void Forget(const std::string& key);
  void NoteName(const std::string& key, std::optional<bool> directory);
  std::shared_ptr<ObjectFile> FindOpen(const std::string& key);
  void PutOpen(const std::string& key, const std::shared_ptr<ObjectFile>& file);
  std::vector<std::pair<std::string, std::shared_ptr<ObjectFile>>> OpenBelow(const std::string& prefix);

  bool IsRemembered(const std::string& key);
  Result<std::shared_ptr<ObjectFile>> OpenExisting(const std::string& key, int flags,
                                                   const Attributes* known);
  Result<std::shared_ptr<ObjectFile>> Create(const std::string& key, int flags, mode_t mode);
  Attributes NewAttributes(mode_t mode) const;
  // A directory must not vanish with the last object in it.
  Status KeepDirectory(const std::string& key);
  Status PutDirectory(const std::string& key, const Attributes& attributes, bool if_absent);
  Status Change(const std::string& path, bool follow, const std::function<Status(Attributes&)>& change);
  Status RenameFile(const std::string& from, const std::string& to, bool replace);
  Status RenameDirectory(const std::string& from, const std::string& to);
  Result<std::string> CopyObject(const std::string& from, const std::string& to, uint64_t size,
                                 const std::string& etag);
  Result<bool> IsEmpty(const std::string& key);

  const std::shared_ptr<FileContext> context_;
  const FileSystemOptions options_;
  std::mutex mutex_;
  std::map<std::string, Remembered> remembered_;
  std::map<std::string, Listing> listings_;
  std::map<std::string, std::weak_ptr<ObjectFile>> open_;
  std::set<std::string> kept_directories_;  // known to have an object of their own
};

// "a" of "a/b", "" of "a"; and "b".
std::string ParentOf(const std::string& key);
std::string NameOf(const std::string& key);

}  // namespace elsewhere::file
