// FileSystem: what has no content or no name: links, FIFOs, sockets, devices, O_TMPFILE files.
#include <sys/stat.h>
#include <unistd.h>

#include "shim/file/file_system.h"

namespace elsewhere::file {

Attributes FileSystem::NewAttributes(const std::string& key, mode_t mode) {
  const Caller& who = Who();
  Attributes attributes;
  attributes.mode = mode;
  attributes.uid = who.uid;
  attributes.gid = who.gid;
  attributes.mtime_ns = attributes.atime_ns = attributes.ctime_ns = NowNs();
  if (!options_.plain) {
    attributes.inode = NewInode();
    attributes.inode_key = KeyHash(S_ISDIR(mode) ? MarkerOf(key) : key);
  }
  auto parent = Lookup(ParentOf(key));
  if (!parent || !(parent->mode & S_ISGID)) return attributes;
  attributes.gid = parent->gid;
  if (S_ISDIR(mode)) attributes.mode |= S_ISGID;
  bool group_runs = (mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP);
  if (!S_ISDIR(mode) && group_runs && !who.is_root() && !who.in_group(attributes.gid))
    attributes.mode &= ~mode_t{S_ISGID};
  return attributes;
}

Status FileSystem::MakeObject(const std::string& path, mode_t mode, std::string_view content,
                              uint64_t device) {
  auto key = FreeKey(path);
  if (!key) return key.error();
  if (options_.plain && !S_ISREG(mode)) return Fail(EPERM, path);
  Attributes attributes = NewAttributes(*key, mode);
  if (attributes.is_device() && !Who().is_root()) return Fail(EPERM, path);
  attributes.device = device;
  auto put = Store().Put(
      *key, content,
      {.if_absent = true, .content_type = ContentTypeOf(attributes), .metadata = MetadataOf(attributes)});
  if (!put) return SaysItExists(put.error()) ? Fail(EEXIST, path) : put.error();
  NoteName(*key, false);
  return Ok{};
}

Status FileSystem::MakeLink(const std::string& target, const std::string& path) {
  if (target.empty()) return Fail(ENOENT, path);
  return MakeObject(path, S_IFLNK | 0777, target);
}

Status FileSystem::MakeSpecial(const std::string& path, mode_t mode, uint64_t device) {
  if ((mode & S_IFMT) == 0) mode |= S_IFREG;
  if (S_ISDIR(mode)) return Fail(EPERM, path);
  if (!S_ISREG(mode) && !S_ISFIFO(mode) && !S_ISSOCK(mode) && !S_ISCHR(mode) && !S_ISBLK(mode))
    return Fail(EINVAL, path);
  return MakeObject(path, mode & (S_IFMT | 07777), "", device);
}

Result<std::shared_ptr<ObjectFile>> FileSystem::OpenAnonymous(const std::string& directory, int flags,
                                                              mode_t mode) {
  if ((flags & O_ACCMODE) == O_RDONLY) return Fail(EINVAL, directory);
  auto resolved = Resolve(directory, true);
  if (!resolved) return resolved.error();
  if (!resolved->outside.empty()) return Fail(EREMOTE, directory);
  auto allowed = AllowedIn(resolved->path, W_OK | X_OK);
  if (!allowed) return allowed.error();
  if (options_.read_only) return Fail(EROFS, directory);
  std::string inside = resolved->path.empty() ? "x" : resolved->path + "/x";
  return ObjectFile::Anonymous(context_, NewAttributes(inside, S_IFREG | (mode & 07777)), !(flags & O_EXCL));
}

Status FileSystem::Link(const std::shared_ptr<ObjectFile>& file, const std::string& to) {
  auto key = FreeKey(to);
  if (!key) return key.error();
  if (!file->unlinked()) return Fail(EPERM, to);
  auto named = file->GiveName(*key);
  if (!named) return SaysItExists(named.error()) ? Fail(EEXIST, to) : named;
  PutOpen(*key, file);
  NoteName(*key, false);
  return Ok{};
}

Status FileSystem::HardLink(const std::string& from, const std::string& to) {
  auto source = Stat(from, false);
  if (!source) return source.error();
  auto key = FreeKey(to);
  if (!key) return key.error();
  return Fail(EPERM, to);
}

}  // namespace elsewhere::file
