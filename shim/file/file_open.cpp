// FileSystem: opening files.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "shim/file/file_system.h"

namespace elsewhere::file {
namespace {

// An open for reading fetches the beginning together with the attributes: a small file costs one request.
constexpr uint64_t kFetchedAtOpen = kSmallFile;

bool Writes(int flags) {
  return (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC);
}

int WantedBy(int flags) {
  int wanted = (flags & O_ACCMODE) != O_WRONLY ? R_OK : 0;
  return wanted | (Writes(flags) ? W_OK : 0);
}

}  // namespace

bool IsPlainPath(const std::string& path) {
  for (size_t at = 0, end; at <= path.size(); at = end + 1) {
    end = std::min(path.find('/', at), path.size());
    std::string_view name = std::string_view(path).substr(at, end - at);
    if (name.empty() || name == "." || name == ".." || name.size() > 255) return false;
  }
  return path.size() <= 1024;
}

Status FileSystem::Writable(const std::string& path) const {
  if (options_.read_only) return Fail(EROFS, path);
  return Ok{};
}

Result<std::shared_ptr<ObjectFile>> FileSystem::Open(const std::string& path, int flags, mode_t mode) {
  if ((flags & O_TMPFILE) == O_TMPFILE) return OpenAnonymous(path, flags, mode);
  bool exclusive = (flags & O_CREAT) && (flags & O_EXCL);
  // The usual case in one request: a file that is there, by its own name. All else takes the long way.
  if (!Writes(flags) && !(flags & O_CREAT) && IsPlainPath(path) && Store().CheckKey(path) &&
      !IsRemembered(path)) {
    auto searchable = Searchable(ParentOf(path));
    if (!searchable) return searchable.error();
    auto file = OpenExisting(path, flags, nullptr);
    if (file || file.error().code != ENOENT) return file;
  }
  auto resolved = Resolve(path, !exclusive && !(flags & O_NOFOLLOW));
  if (!resolved) return resolved.error();
  if (!resolved->outside.empty()) return Fail(EREMOTE, path);
  const std::string& key = resolved->path;
  auto known = Lookup(key);
  if (!known && known.error().code != ENOENT) return known.error();
  if (known && exclusive) return Fail(EEXIST, path);
  if (known && known->is_link()) return Fail(ELOOP, path);
  if (known && known->is_directory()) return Fail(EISDIR, path);
  if (known && known->is_special())
    return Fail(Allowed(*known, WantedBy(flags)) && !known->is_device() ? ENXIO : EACCES, path);
  if (Writes(flags) && options_.read_only && (known || (flags & O_CREAT))) return Fail(EROFS, path);
  if (known) {
    // A listing does not tell all that a writer has to keep.
    auto file = OpenExisting(key, flags, options_.plain ? nullptr : &*known);
    if (file || file.error().code != ENOENT) return file;
    NoteName(key, std::nullopt);  // somebody else removed it
  }
  if (!(flags & O_CREAT)) return WhyMissing(key);
  if (path.ends_with('/')) return Fail(EISDIR, path);
  return Create(key, flags, mode);
}

bool FileSystem::IsRemembered(const std::string& key) {
  std::lock_guard lock(mutex_);
  return Known(key, NowNs()).has_value();
}

// `known`: what a lookup said, perhaps a moment ago. That suffices for writers, who replace one version and
// notice when it is another by then; readers ask for the present one.
Result<std::shared_ptr<ObjectFile>> FileSystem::OpenExisting(const std::string& key, int flags,
                                                             const Attributes* known) {
  if (removals_.IsGone(key)) return Fail(ENOENT, key);
  auto open = FindOpen(key);
  std::shared_ptr<ObjectFile> file;
  if (open && open->ahead_of_store()) {
    file = open;  // what is not yet sent is newer than the store's version, for everybody on this host
  } else {
    std::string etag = open ? open->attributes().etag : "";
    bool reads = (flags & O_ACCMODE) != O_WRONLY && !(flags & O_TRUNC);
    Attributes attributes = known ? *known : Attributes{};
    store::Object got;
    if (reads || !known) {
      auto answer = Store().Get(key, {.range = {0, kFetchedAtOpen}, .if_none_match = etag});
      if (!answer) return answer.error();
      got = std::move(*answer);
      if (!got.not_modified) attributes = AttributesOfObject(key, got.info);
    }
    if (got.not_modified || (open && attributes.etag == etag)) {
      file = open;
    } else if (open && open->writable() && !attributes.is_link() && !attributes.is_special()) {
      // What is written through it and what is locked in it is one for all of this host.
      if (auto refreshed = open->Refresh(); !refreshed) return refreshed.error();
      file = open;
    } else {
      // Opened by the name that it leads to, or not at all.
      if (attributes.is_link() || attributes.is_special()) return Fail(ENOENT, key);
      std::optional<std::string_view> content;
      if (got.body.size() == attributes.size) content = got.body;
      auto made = ObjectFile::Existing(context_, key, attributes, content);
      if (!made) return made.error();
      // Before others find it: whoever writes, too, does not open another one beside it.
      auto own = Writes(flags) ? (*made)->MakeWritable() : Status(Ok{});
      if (!own) return own.error();
      file = ShareOpen(key, *made, open);
    }
  }
  if (!Allowed(file->attributes(), WantedBy(flags))) return Fail(EACCES, key);
  if (Writes(flags)) {
    Forget(key);  // while it is open the file itself is asked, and afterwards the store
    auto writable = file->MakeWritable();
    if (!writable) return writable.error();
    if (!Who().is_root()) file->NoteOrdinaryWriter();
    if (flags & O_TRUNC) {
      auto cut = file->Truncate(0);
      if (!cut) return cut.error();
    }
  }
  return file;
}

Result<std::shared_ptr<ObjectFile>> FileSystem::Create(const std::string& key, int flags, mode_t mode) {
  auto writable = Writable(key);
  if (!writable) return writable.error();
  auto allowed = AllowedIn(ParentOf(key), W_OK | X_OK);
  if (!allowed) return allowed.error();
  if (auto settled = removals_.Settle(key); !settled) return settled.error();
  Attributes attributes = NewAttributes(key, S_IFREG | (mode & 07777));
  Result<std::shared_ptr<ObjectFile>> file = Error{};
  if (flags & O_EXCL) {
    // The one request that decides between all hosts who was first.
    auto put = Store().Put(
        key, "",
        {.if_absent = true, .content_type = ContentTypeOf(attributes), .metadata = MetadataOf(attributes)});
    if (!put) return SaysItExists(put.error()) ? Fail(EEXIST, key) : put.error();
    attributes.etag = put->etag;
    file = ObjectFile::Existing(context_, key, attributes, "");
    if (!file) return file.error();
    auto own = (*file)->MakeWritable();
    if (!own) return own.error();
  } else {
    file = ObjectFile::Created(context_, key, attributes);
    if (!file) return file.error();
    file = ShareOpen(key, *file, nullptr);
    auto own = (*file)->MakeWritable();
    if (!own) return own.error();
    if (flags & O_TRUNC) {
      auto cut = (*file)->Truncate(0);
      if (!cut) return cut.error();
    }
  }
  if (flags & O_EXCL) PutOpen(key, *file);
  NoteName(key, false);
  return file;
}

}  // namespace elsewhere::file
