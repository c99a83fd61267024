#include "shim/store/directory_store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "shim/store/directory_layout.h"
#include "shim/store/directory_new_file.h"

namespace elsewhere::store {
namespace {

constexpr int kPublishAttempts = 1000;

uint64_t FileSizeFor(uint64_t content_size, const PutOptions& options) {
  uint64_t size = content_size + sizeof(Footer);
  for (auto& [name, value] : options.metadata) size += name.size() + value.size() + 2;
  return size + (options.content_type.empty() ? 0 : options.content_type.size() + 2);
}

uint64_t BytesBelow(const std::string& path) {
  uint64_t bytes = 0;
  std::error_code error;
  for (auto& entry : std::filesystem::recursive_directory_iterator(path, error)) {
    struct stat status;
    if (lstat(entry.path().c_str(), &status) == 0 && S_ISREG(status.st_mode))
      bytes += uint64_t(status.st_size);
  }
  return bytes;
}

bool RenameUnsupported() {
  return errno == EINVAL || errno == ENOSYS;
}

}  // namespace

DirectoryStore::DirectoryStore(std::string path, const StoreOptions& options)
    : path_(std::move(path)), url_("dir:" + path_), options_(options) {}

DirectoryStore::~DirectoryStore() {
  if (usage_) munmap(usage_, sizeof *usage_);
}

Result<std::shared_ptr<DirectoryStore>> DirectoryStore::Open(const std::string& path,
                                                             const StoreOptions& options) {
  std::shared_ptr<DirectoryStore> store(new DirectoryStore(path, options));
  auto status = store->Prepare();
  if (!status) return status.error();
  return store;
}

Error DirectoryStore::Fail(int code, std::string_view what, std::string_view key) const {
  std::string message = url_ + ": " + std::string(what);
  if (!key.empty()) message += " " + std::string(key);
  return Error{code, message + ": " + strerror(code)};
}

Error DirectoryStore::Fail(const Error& error, std::string_view what, std::string_view key) const {
  return Error{error.code, url_ + ": " + std::string(what) + " " + std::string(key) + ": " + error.message};
}

Status DirectoryStore::Prepare() {
  if (mkdir(path_.c_str(), 0700) != 0 && errno != EEXIST) return Fail(errno, "cannot make the directory", "");
  root_.Reset(open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!root_) return Fail(errno, "cannot open the directory", "");
  struct stat status;
  if (fstat(root_.get(), &status) != 0) return Fail(errno, "cannot stat the directory", "");
  if (status.st_uid != geteuid() || (status.st_mode & 022) != 0)
    return Error{EACCES, url_ + ": the directory must belong to you and be writable by nobody else"};
  for (const char* name : {"objects", "new", "uploads"})
    if (mkdirat(root_.get(), name, 0700) != 0 && errno != EEXIST)
      return Fail(errno, "cannot write to the directory", "");

  usage_file_.Reset(openat(root_.get(), "usage", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!usage_file_) return Fail(errno, "cannot open", "usage");
  bool alone = flock(usage_file_.get(), LOCK_EX | LOCK_NB) == 0;
  if (alone && ftruncate(usage_file_.get(), sizeof(Usage)) != 0) return Fail(errno, "cannot write", "usage");
  // When not alone, this waits for somebody else's recovery to end.
  if (!alone && flock(usage_file_.get(), LOCK_SH) != 0) return Fail(errno, "cannot lock", "usage");
  void* mapped = mmap(nullptr, sizeof(Usage), PROT_READ | PROT_WRITE, MAP_SHARED, usage_file_.get(), 0);
  if (mapped == MAP_FAILED) return Fail(errno, "cannot map", "usage");
  usage_ = static_cast<Usage*>(mapped);
  if (alone) Recover();
  if (usage_->magic != Usage::kMagic)
    return Error{EBADMSG, url_ + ": usage is damaged; remove the directory"};

  uint64_t random = 0;
  if (getrandom(&random, sizeof random, 0) != ssize_t{sizeof random}) return Fail(EIO, "no random bytes", "");
  name_prefix_ = std::to_string(random) + ".";
  return Ok{};
}

void DirectoryStore::Recover() {
  std::error_code ignored;
  for (auto& entry : std::filesystem::directory_iterator(path_ + "/new", ignored))
    std::filesystem::remove_all(entry.path(), ignored);
  usage_->bytes = BytesBelow(path_ + "/objects") + BytesBelow(path_ + "/uploads");
  usage_->magic = Usage::kMagic;
  flock(usage_file_.get(), LOCK_SH);
}

std::string DirectoryStore::NewName() {
  return name_prefix_ + std::to_string(next_name_++);
}

Status DirectoryStore::Reserve(uint64_t bytes) {
  std::atomic_ref used(usage_->bytes);
  uint64_t before = used.load();
  do {
    if (before > options_.quota_bytes || bytes > options_.quota_bytes - before)
      return Error{ENOSPC, url_ + ": the quota of " + std::to_string(options_.quota_bytes) +
                               " bytes is used up (" + std::to_string(before) + " in use, " +
                               std::to_string(bytes) + " wanted)"};
  } while (!used.compare_exchange_weak(before, before + bytes));
  return Ok{};
}

void DirectoryStore::GiveBack(uint64_t bytes) {
  std::atomic_ref(usage_->bytes).fetch_sub(bytes);
}

uint64_t DirectoryStore::used_bytes() const {
  return std::atomic_ref(usage_->bytes).load();
}

// Each holder needs an open file description of its own, or threads of one process would share the lock.
Result<UniqueFd> DirectoryStore::Lock(bool exclusive) {
  UniqueFd lock(openat(root_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!lock) return Fail(errno, "cannot open", "the directory");
  while (flock(lock.get(), exclusive ? LOCK_EX : LOCK_SH) != 0)
    if (errno != EINTR) return Fail(errno, "cannot lock", "the directory");
  return lock;
}

Result<DirectoryStore::OpenObject> DirectoryStore::OpenForRead(std::string_view key,
                                                               const GetOptions& options) {
  auto path = PathOfKey(key);
  if (!path) return Fail(path.error(), "get", key);
  UniqueFd fd(openat(root_.get(), ("objects/" + *path).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd && errno == ENOENT) return Error{ENOENT, url_ + ": no object " + std::string(key)};
  if (!fd) return Fail(errno, "get", key);
  auto info = ReadObjectInfo(fd.get());
  if (!info) return Fail(info.error(), "get", key);
  if (!options.if_match.empty() && options.if_match != info->etag)
    return Error{ESTALE, url_ + ": " + std::string(key) + " has another version than expected"};
  return OpenObject{std::move(fd), std::move(*info)};
}

Result<Object> DirectoryStore::Get(std::string_view key, const GetOptions& options) {
  auto open = OpenForRead(key, options);
  if (!open) return open.error();
  Object object;
  if (!options.if_none_match.empty() && options.if_none_match == open->info.etag) {
    object.not_modified = true;
    return object;
  }
  uint64_t from = std::min(options.range.offset, open->info.size);
  object.body.resize(std::min(options.range.length, open->info.size - from));
  if (!ReadFully(open->fd.get(), object.body.data(), object.body.size(), from))
    return Fail(errno, "read", key);
  object.info = std::move(open->info);
  if (options.range.whole()) {
    uint8_t etag[16];
    std::string_view body = object.body;
    HashContent(std::span(&body, 1), etag);
    if (EtagText(etag) != object.info.etag)
      return Error{EBADMSG, url_ + ": the content of " + std::string(key) + " is damaged"};
  }
  return object;
}

Result<uint64_t> DirectoryStore::GetInto(std::string_view key, std::span<char> into,
                                         const GetOptions& options) {
  auto open = OpenForRead(key, options);
  if (!open) return open.error();
  uint64_t from = std::min(options.range.offset, open->info.size);
  uint64_t length = std::min({options.range.length, open->info.size - from, uint64_t{into.size()}});
  if (!ReadFully(open->fd.get(), into.data(), length, from)) return Fail(errno, "read", key);
  return length;
}

Result<ObjectInfo> DirectoryStore::Head(std::string_view key) {
  auto open = OpenForRead(key, {});
  if (!open) return open.error();
  return std::move(open->info);
}

Result<LocalObject> DirectoryStore::OpenLocal(std::string_view key) {
  auto open = OpenForRead(key, {});
  if (!open) return open.error();
  return LocalObject{std::move(open->fd), 0, open->info.size};
}

Result<DirectoryStore::NewFile> DirectoryStore::Create(uint64_t content_size, const PutOptions& options) {
  uint64_t bytes = FileSizeFor(content_size, options);
  auto reserved = Reserve(bytes);
  if (!reserved) return reserved.error();
  std::string name = "new/" + NewName();
  UniqueFd fd(openat(root_.get(), name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!fd) {
    int code = errno == ENOENT ? EIO : errno;
    GiveBack(bytes);
    return Fail(code, "cannot make a file", "");
  }
  return NewFile(this, std::move(fd), std::move(name), bytes);
}

Result<ObjectInfo> DirectoryStore::PutPieces(std::string_view key, std::span<const std::string_view> pieces,
                                             const PutOptions& options) {
  uint64_t size = 0;
  for (auto piece : pieces) size += piece.size();
  auto file = Create(size, options);
  if (!file) return Fail(file.error(), "put", key);
  if (!WriteFully(file->fd.get(), pieces)) return Fail(errno, "put", key);
  uint8_t etag[16];
  HashContent(pieces, etag);
  auto info = FinishObjectFile(file->fd.get(), size, options, etag);
  if (!info) return Fail(info.error(), "put", key);
  auto published = Publish(*file, key, options);
  if (!published) return published.error();
  return info;
}

Result<ObjectInfo> DirectoryStore::Copy(std::string_view from, std::string_view to,
                                        const CopyOptions& options) {
  auto source = OpenForRead(from, {.range = {}, .if_match = options.if_match, .if_none_match = {}});
  if (!source) return source.error();
  PutOptions put;
  // Otherwise what somebody else has stored meanwhile would be gone.
  if (from == to) put.if_match = options.if_match;
  put.metadata = options.metadata ? *options.metadata : source->info.metadata;
  put.content_type = options.metadata ? options.content_type : source->info.content_type;
  auto file = Create(source->info.size, put);
  if (!file) return Fail(file.error(), "copy to", to);
  if (!CopyFully(source->fd.get(), 0, source->info.size, file->fd.get())) return Fail(errno, "copy to", to);
  uint8_t etag[16];
  auto hashed = HashFile(file->fd.get(), source->info.size, etag);
  if (!hashed) return Fail(hashed.error(), "copy to", to);
  auto info = FinishObjectFile(file->fd.get(), source->info.size, put, etag);
  if (!info) return Fail(info.error(), "copy to", to);
  auto published = Publish(*file, to, put);
  if (!published) return published.error();
  return info;
}

Status DirectoryStore::Publish(NewFile& file, std::string_view key, const PutOptions& options) {
  auto path = PathOfKey(key);
  if (!path) return Fail(path.error(), "put", key);
  std::string target = "objects/" + *path;
  if (options_.durable && fdatasync(file.fd.get()) != 0) return Fail(errno, "sync", key);
  auto lock = Lock(!options.if_match.empty());
  if (!lock) return lock.error();
  if (!options.if_match.empty()) {
    auto current = Head(key);
    if (!current && current.error().code != ENOENT) return current.error();
    if (!current || current->etag != options.if_match)
      return Error{ESTALE, url_ + ": " + std::string(key) + " has another version than expected"};
  }
  for (int attempt = 0; attempt < kPublishAttempts; ++attempt) {
    int done = renameat2(root_.get(), file.name.c_str(), root_.get(), target.c_str(), RENAME_NOREPLACE);
    if (done != 0 && RenameUnsupported()) {
      done = linkat(root_.get(), file.name.c_str(), root_.get(), target.c_str(), 0);
      if (done == 0) unlinkat(root_.get(), file.name.c_str(), 0);
    }
    if (done == 0) {
      file.Published();
      return Ok{};
    }
    if (errno == ENOENT) {
      MakeParents(target);
    } else if (errno != EEXIST) {
      return Fail(errno, "put", key);
    } else if (options.if_absent) {
      return Error{EEXIST, url_ + ": " + std::string(key) + " exists already"};
    } else {
      auto replaced = PublishOver(file, target);
      if (replaced || replaced.error().code != ENOENT) return replaced;
    }
  }
  return Error{EIO,
               url_ + ": put " + std::string(key) + ": the store's directory is gone or changes without end"};
}

// ENOENT: the old object was deleted meanwhile.
Status DirectoryStore::PublishOver(NewFile& file, const std::string& target) {
  struct stat old;
  if (renameat2(root_.get(), file.name.c_str(), root_.get(), target.c_str(), RENAME_EXCHANGE) == 0) {
    file.Published();
    if (fstatat(root_.get(), file.name.c_str(), &old, AT_SYMLINK_NOFOLLOW) == 0)
      GiveBack(uint64_t(old.st_size));
    unlinkat(root_.get(), file.name.c_str(), 0);
    return Ok{};
  }
  if (!RenameUnsupported()) return Fail(errno, "replace", target);
  // A file system without swapping: two racing writers may count the same old file, which the next recovery
  // corrects.
  if (fstatat(root_.get(), target.c_str(), &old, AT_SYMLINK_NOFOLLOW) != 0 ||
      renameat(root_.get(), file.name.c_str(), root_.get(), target.c_str()) != 0)
    return Fail(errno, "replace", target);
  file.Published();
  GiveBack(uint64_t(old.st_size));
  return Ok{};
}

void DirectoryStore::MakeParents(const std::string& target) {
  for (size_t slash = target.find('/'); slash != target.npos; slash = target.find('/', slash + 1))
    mkdirat(root_.get(), target.substr(0, slash).c_str(), 0700);
}

void DirectoryStore::RemoveEmptyParents(std::string target) {
  for (size_t slash = target.rfind('/'); slash != target.npos && slash > strlen("objects");
       slash = target.rfind('/')) {
    target.resize(slash);
    if (unlinkat(root_.get(), target.c_str(), AT_REMOVEDIR) != 0) return;
  }
}

Result<bool> DirectoryStore::Unlink(std::string_view key) {
  auto path = PathOfKey(key);
  if (!path) return Fail(path.error(), "delete", key);
  std::string target = "objects/" + *path, aside = "new/" + NewName();
  auto lock = Lock(false);
  if (!lock) return lock.error();
  if (renameat(root_.get(), target.c_str(), root_.get(), aside.c_str()) != 0) {
    if (errno == ENOENT) return false;
    return Fail(errno, "delete", key);
  }
  struct stat status;
  if (fstatat(root_.get(), aside.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0)
    GiveBack(uint64_t(status.st_size));
  unlinkat(root_.get(), aside.c_str(), 0);
  RemoveEmptyParents(std::move(target));
  return true;
}

Status DirectoryStore::Delete(std::string_view key) {
  auto gone = Unlink(key);
  if (!gone) return gone.error();
  return Ok{};
}

Result<uint64_t> DirectoryStore::DeleteMany(std::span<const std::string> keys) {
  uint64_t deleted = 0;
  std::optional<Error> first;
  for (auto& key : keys) {
    auto gone = Unlink(key);
    if (gone) deleted += *gone;
    if (!gone && !first) first = gone.error();
  }
  if (first) return *first;
  return deleted;
}

Status DirectoryStore::Remove() {
  if (flock(usage_file_.get(), LOCK_EX | LOCK_NB) != 0) {
    int code = errno == EWOULDBLOCK ? EBUSY : errno;
    flock(usage_file_.get(), LOCK_SH);
    return Fail(code, "cannot remove the store", "");
  }
  std::error_code error;
  for (const char* name : {"/objects", "/new", "/uploads", "/usage"}) {
    std::filesystem::remove_all(path_ + name, error);
    if (error) return Fail(error.value(), "remove", name + 1);
  }
  if (rmdir(path_.c_str()) != 0 && errno != ENOTEMPTY && errno != EEXIST && errno != ENOENT)
    return Fail(errno, "cannot remove the directory", "");
  return Ok{};
}

}  // namespace elsewhere::store
