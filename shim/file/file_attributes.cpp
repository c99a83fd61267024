// FileSystem: changing attributes.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "shim/file/extended_attributes.h"
#include "shim/file/file_system.h"

namespace elsewhere::file {
namespace {

constexpr uint64_t kLargestCopy = 5ull << 30;
constexpr unsigned long kBlock = 4096;
constexpr fsblkcnt_t kRoom = 1ull << 38;  // blocks: 1 PiB

}  // namespace

Status FileSystem::Change(const std::string& path, bool follow, const Changer& change) {
  auto writable = Writable(path);
  if (!writable) return writable;
  auto resolved = Resolve(path, follow);
  if (!resolved) return resolved.error();
  if (!resolved->outside.empty()) return Fail(EREMOTE, path);
  const std::string& key = resolved->path;
  auto known = Lookup(key, true);
  if (!known) return known.error().code == ENOENT ? WhyMissing(key) : known.error();
  return ChangeKey(key, *known, change);
}

Status FileSystem::Change(const std::shared_ptr<ObjectFile>& file, const Changer& change) {
  auto writable = Writable(file->key());
  if (!writable) return writable;
  if (!file->unlinked()) {
    // Not by its key, under which another file may be open by now.
    bool pending = file->changed();
    auto wanted = file->attributes();
    wanted.ctime_ns = NowNs();
    auto allowed = change(wanted);
    if (!allowed) return allowed;
    if (options_.plain) return KeptByPlainObject(file->attributes(), wanted);
    file->SetAttributes(wanted);
    Forget(file->key());
    if (pending) return Ok{};
    auto sent = file->Flush();
    Forget(file->key());
    return sent;
  }
  auto wanted = file->attributes();
  wanted.ctime_ns = NowNs();
  auto allowed = change(wanted);
  if (allowed) file->SetAttributes(wanted);
  return allowed;
}

// What a listing cannot tell would be gone at the next look.
Status FileSystem::KeptByPlainObject(const Attributes& before, const Attributes& wanted) const {
  bool kept = before.mode == wanted.mode && before.uid == wanted.uid && before.gid == wanted.gid &&
              before.mtime_ns == wanted.mtime_ns && before.atime_ns == wanted.atime_ns &&
              before.other == wanted.other;
  if (!kept) return Fail(EPERM, "");
  return Ok{};
}

Status FileSystem::ChangeKey(const std::string& key, const Attributes& known, const Changer& change) {
  if (auto open = FindOpen(key)) return Change(open, change);
  Attributes wanted = known;
  wanted.ctime_ns = NowNs();
  auto allowed = change(wanted);
  if (!allowed) return allowed;
  if (options_.plain && !known.is_directory()) return KeptByPlainObject(known, wanted);
  Forget(key);
  if (known.is_directory()) {
    auto put = PutDirectory(key, wanted, false);
    Forget(key);
    return put;
  }
  if (known.size > kLargestCopy) {
    auto file = ObjectFile::Existing(context_, key, known, std::nullopt);
    if (!file) return file.error();
    (*file)->SetAttributes(wanted);
    return (*file)->Flush();
  }
  auto copied = Store().Copy(
      key, key,
      {.if_match = known.etag, .metadata = MetadataOf(wanted), .content_type = ContentTypeOf(wanted)});
  Forget(key);
  if (!copied) return copied.error();
  return Ok{};
}

FileSystem::Changer FileSystem::ModeChange(mode_t mode) const {
  return [this, mode](Attributes& wanted) -> Status {
    const Caller& who = Who();
    if (!who.is_root() && wanted.uid != who.uid) return Fail(EPERM, "");
    wanted.mode = (wanted.mode & S_IFMT) | (mode & 07777);
    if (!who.is_root() && !who.in_group(wanted.gid)) wanted.mode &= ~mode_t{S_ISGID};
    return Ok{};
  };
}

FileSystem::Changer FileSystem::OwnerChange(uid_t uid, gid_t gid) const {
  return [this, uid, gid](Attributes& wanted) -> Status {
    const Caller& who = Who();
    bool same_owner = uid == uid_t(-1) || (uid == wanted.uid && who.uid == wanted.uid);
    bool own_group = gid == gid_t(-1) || (who.uid == wanted.uid && (gid == wanted.gid || who.in_group(gid)));
    if (!who.is_root() && (!same_owner || !own_group)) return Fail(EPERM, "");
    if (uid != uid_t(-1)) wanted.uid = uid;
    if (gid != gid_t(-1)) wanted.gid = gid;
    if (!wanted.is_directory()) wanted.mode &= ~mode_t(wanted.mode & 010 ? 06000 : 04000);
    return Ok{};
  };
}

FileSystem::Changer FileSystem::TimesChange(const Times& times) const {
  return [this, times](Attributes& wanted) -> Status {
    const Caller& who = Who();
    if (!who.is_root() && wanted.uid != who.uid) {
      if (!times.touch) return Fail(EPERM, "");
      if (!Allowed(wanted, W_OK)) return Fail(EACCES, "");
    }
    if (times.atime_ns) wanted.atime_ns = *times.atime_ns;
    if (times.mtime_ns) wanted.mtime_ns = *times.mtime_ns;
    return Ok{};
  };
}

FileSystem::Changer FileSystem::XattrChange(const std::string& name, const std::string& value,
                                            int flags) const {
  return [this, name, value, flags](Attributes& wanted) -> Status {
    if (!Allowed(wanted, W_OK)) return Fail(EACCES, "");
    return SetExtendedAttribute(&wanted, name, value, flags);
  };
}

FileSystem::Changer FileSystem::XattrRemoval(const std::string& name) const {
  return [this, name](Attributes& wanted) -> Status {
    if (!Allowed(wanted, W_OK)) return Fail(EACCES, "");
    return RemoveExtendedAttribute(&wanted, name);
  };
}

Status FileSystem::SetMode(const std::string& path, mode_t mode, bool follow) {
  return Change(path, follow, ModeChange(mode));
}
Status FileSystem::SetMode(const std::shared_ptr<ObjectFile>& file, mode_t mode) {
  return Change(file, ModeChange(mode));
}

Status FileSystem::SetOwner(const std::string& path, uid_t uid, gid_t gid, bool follow) {
  return Change(path, follow, OwnerChange(uid, gid));
}
Status FileSystem::SetOwner(const std::shared_ptr<ObjectFile>& file, uid_t uid, gid_t gid) {
  return Change(file, OwnerChange(uid, gid));
}

Status FileSystem::SetTimes(const std::string& path, const Times& times, bool follow) {
  return Change(path, follow, TimesChange(times));
}
Status FileSystem::SetTimes(const std::shared_ptr<ObjectFile>& file, const Times& times) {
  return Change(file, TimesChange(times));
}

Status FileSystem::SetXattr(const std::string& path, const std::string& name, const std::string& value,
                            int flags, bool follow) {
  return Change(path, follow, XattrChange(name, value, flags));
}
Status FileSystem::SetXattr(const std::shared_ptr<ObjectFile>& file, const std::string& name,
                            const std::string& value, int flags) {
  return Change(file, XattrChange(name, value, flags));
}

Status FileSystem::RemoveXattr(const std::string& path, const std::string& name, bool follow) {
  return Change(path, follow, XattrRemoval(name));
}
Status FileSystem::RemoveXattr(const std::shared_ptr<ObjectFile>& file, const std::string& name) {
  return Change(file, XattrRemoval(name));
}

Result<std::string> FileSystem::GetXattr(const std::string& path, const std::string& name, bool follow) {
  auto attributes = Stat(path, follow);
  if (!attributes) return attributes.error();
  auto good = CheckAttributeName(name);
  if (!good) return good.error();
  if (!Allowed(*attributes, R_OK)) return Fail(EACCES, path);
  return GetExtendedAttribute(*attributes, name);
}

Result<std::string> FileSystem::GetXattr(const std::shared_ptr<ObjectFile>& file, const std::string& name) {
  return GetExtendedAttribute(file->attributes(), name);
}

Result<std::string> FileSystem::ListXattr(const std::string& path, bool follow) {
  auto attributes = Stat(path, follow);
  if (!attributes) return attributes.error();
  return ExtendedAttributeNames(*attributes);
}

struct statvfs FileSystem::StatFs() const {
  struct statvfs status {};
  status.f_bsize = status.f_frsize = kBlock;
  status.f_blocks = status.f_bfree = status.f_bavail = kRoom;
  status.f_files = status.f_ffree = status.f_favail = kRoom;
  status.f_fsid = InodeOf("", {});
  status.f_flag = ST_NODEV;
  if (options_.read_only) status.f_flag |= ST_RDONLY;
  status.f_namemax = 255;
  return status;
}

Status FileSystem::Truncate(const std::string& path, uint64_t size) {
  auto file = Open(path, O_WRONLY, 0);
  if (!file) {
    auto attributes = Stat(path);
    return attributes && attributes->is_special() && Allowed(*attributes, W_OK) ? Fail(EINVAL, path)
                                                                                : file.error();
  }
  auto cut = (*file)->Truncate(size);
  if (!cut) return cut;
  return (*file)->Flush();
}

}  // namespace elsewhere::file
