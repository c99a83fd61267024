// Changing.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "shim/file/caller.h"
#include "shim/file/object_file.h"
#include "shim/file/object_stream.h"

namespace elsewhere::file {

Status ObjectFile::MakeWritable() {
  std::unique_lock lock(mutex_);
  if (writable_) return Ok{};
  // A fetch in progress writes into the file that is there now.
  arrived_.wait(lock, [this] { return fetching_.empty(); });
  if (!context_->cache->TakeOut(local_)) {
    // Other processes use it: a copy. Those who read here keep the old file's descriptor, which nobody will
    // fetch into any more.
    const uint64_t size = attributes_.size;
    lock.unlock();
    auto fetched = FetchRange(0, size);
    if (!fetched) return fetched;
    lock.lock();
    if (writable_) return Ok{};
    arrived_.wait(lock, [this] { return fetching_.empty(); });
    auto fresh = context_->cache->NewPrivate();
    if (!fresh) return fresh.error();
    if (ftruncate(fresh->get(), off_t(attributes_.size)) != 0) return Error{errno, strerror(errno)};
    for (auto [from, to] : valid_.All()) {
      auto in = off64_t(from), out = off64_t(from);
      for (to = std::min(to, attributes_.size); uint64_t(in) < to;)
        if (copy_file_range(fd(), &in, fresh->get(), &out, to - uint64_t(in), 0) <= 0)
          return Error{errno ? errno : EIO, "the file cache cannot copy a file"};
    }
    // The number stays the same for those who know it.
    if (dup3(fresh->get(), fd(), O_CLOEXEC) < 0) return Error{errno, strerror(errno)};
  }
  local_.name.clear();
  writable_ = true;
  return Ok{};
}

void ObjectFile::MarkWritten(uint64_t offset, uint64_t length, bool appended) {
  valid_.Add(offset, offset + length);
  changed_.Add(offset, offset + length);
  appended_only_ = appended_only_ && appended;
  attributes_.size = std::max(attributes_.size, offset + length);
  attributes_.mtime_ns = attributes_.ctime_ns = NowNs();
  DropPrivileges();
}

// Who is not root takes the set-ID bits away by changing the content.
void ObjectFile::DropPrivileges() {
  const Caller* who = ActingAs::Current();
  mode_t dropped = attributes_.mode & 010 ? 06000 : 04000;
  bool ordinary = who ? !who->is_root() : ordinary_writer_;
  if (!(attributes_.mode & dropped) || !ordinary) return;
  attributes_.mode &= ~dropped;
  attributes_changed_ = true;
}

void ObjectFile::NoteOrdinaryWriter() {
  std::lock_guard lock(mutex_);
  ordinary_writer_ = true;
}

Result<size_t> ObjectFile::Write(std::string_view data, uint64_t offset) {
  std::unique_lock lock(mutex_);
  if (!PwriteFully(fd(), data.data(), data.size(), offset)) return Error{errno, strerror(errno)};
  if (data.empty()) return size_t{0};
  MarkWritten(offset, data.size(), false);
  StreamWritten(lock, offset, data.size());
  return data.size();
}

Result<uint64_t> ObjectFile::Append(std::string_view data) {
  std::unique_lock lock(mutex_);
  uint64_t offset = attributes_.size;
  if (!PwriteFully(fd(), data.data(), data.size(), offset)) return Error{errno, strerror(errno)};
  if (data.empty()) return offset;
  MarkWritten(offset, data.size(), true);
  StreamWritten(lock, offset, data.size());
  return offset;
}

Status ObjectFile::NoteWritten(uint64_t offset, uint64_t length) {
  std::unique_lock lock(mutex_);
  if (length == 0) return Ok{};
  MarkWritten(offset, length, false);
  StreamWritten(lock, offset, length);
  return Ok{};
}

void ObjectFile::NoteGrowth(bool appended) {
  std::unique_lock lock(mutex_);
  struct stat status;
  if (fstat(fd(), &status) != 0 || uint64_t(status.st_size) <= attributes_.size) return;
  uint64_t from = attributes_.size, length = uint64_t(status.st_size) - from;
  MarkWritten(from, length, appended);
  StreamWritten(lock, from, length);
}

bool ObjectFile::IsWhole() const {
  std::lock_guard lock(mutex_);
  return valid_.Contains(0, attributes_.size);
}

Status ObjectFile::Truncate(uint64_t size) {
  if (size == 0) AbandonStream();
  std::unique_lock lock(mutex_);
  if (ftruncate(fd(), off_t(size)) != 0) return Error{errno, strerror(errno)};
  uint64_t before = attributes_.size;
  attributes_.size = size;
  attributes_.mtime_ns = attributes_.ctime_ns = NowNs();
  attributes_changed_ = attributes_changed_ || size == before;
  DropPrivileges();
  if (size < before) {
    truncated_ = true;
    base_limit_ = std::min(base_limit_, size);
    truncated_while_flushing_ = std::min(truncated_while_flushing_, size);
    changed_.Remove(size, UINT64_MAX);
    valid_.Add(size, UINT64_MAX);
    if (stream_) stream_->Invalidate(size, before);
  } else if (size > before) {
    changed_.Add(before, size);
    appended_only_ = false;
  }
  if (size == 0) truncated_ = true;
  return Ok{};
}

Status ObjectFile::Allocate(int mode, uint64_t offset, uint64_t length) {
  if (length == 0 || offset > INT64_MAX || length > INT64_MAX) return Error{EINVAL, "fallocate: bad range"};
  if (offset + length > INT64_MAX) return Error{EFBIG, "fallocate: too large"};
  bool keep_size = mode & FALLOC_FL_KEEP_SIZE, punch = mode & FALLOC_FL_PUNCH_HOLE,
       zero = mode & FALLOC_FL_ZERO_RANGE;
  bool known = (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) == 0;
  if (!known || (punch && (zero || !keep_size)))
    return Error{EOPNOTSUPP, "fallocate: this mode is not offered"};
  uint64_t end = offset + length, before = attributes().size;
  if (!punch && !keep_size && end > before) {
    auto grown = Truncate(end);
    if (!grown) return grown;
  }
  if (!punch && !zero) {
    // Room on the disk of the cache is all that can be promised.
    if (fallocate(fd(), FALLOC_FL_KEEP_SIZE, off_t(offset), off_t(length)) != 0 && errno == ENOSPC)
      return Error{ENOSPC, "the file cache: no space left"};
    return Ok{};
  }
  std::unique_lock lock(mutex_);
  end = std::min(end, attributes_.size);
  if (offset >= end) return Ok{};
  // A fetch under way must not bring back what is zeroed here.
  arrived_.wait(lock, [this] { return fetching_.empty(); });
  if (fallocate(fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off_t(offset), off_t(end - offset)) != 0)
    return Error{errno, std::string("the file cache: ") + strerror(errno)};
  MarkWritten(offset, end - offset, false);
  StreamWritten(lock, offset, end - offset);
  return Ok{};
}

void ObjectFile::SetAttributes(const Attributes& wanted) {
  std::lock_guard lock(mutex_);
  attributes_.mode = wanted.mode;
  attributes_.uid = wanted.uid;
  attributes_.gid = wanted.gid;
  attributes_.mtime_ns = wanted.mtime_ns;
  attributes_.atime_ns = wanted.atime_ns;
  attributes_.ctime_ns = wanted.ctime_ns;
  attributes_.other = wanted.other;
  attributes_changed_ = true;
}

void ObjectFile::Renamed(std::string key, const std::string& etag, const Attributes& now) {
  AbandonStream();
  std::lock_guard flush_lock(flush_mutex_);
  std::lock_guard lock(mutex_);
  key_ = std::move(key);
  if (!etag.empty() && !base_etag_.empty()) base_etag_ = etag;
  attributes_.inode = now.inode;
  attributes_.inode_key = now.inode_key;
  attributes_.ctime_ns = now.ctime_ns;
}

Status ObjectFile::FetchAll() {
  uint64_t limit;
  {
    std::lock_guard lock(mutex_);
    limit = std::min(base_limit_, attributes_.size);
  }
  return limit > 0 ? FetchRange(0, limit) : Status(Ok{});
}

Status ObjectFile::Unlink() {
  auto fetched = FetchAll();
  AbandonStream();
  std::lock_guard flush_lock(flush_mutex_);
  std::lock_guard lock(mutex_);
  unlinked_ = true;
  return fetched;
}

void ObjectFile::KeepsName() {
  std::lock_guard lock(mutex_);
  unlinked_ = false;
}

// What a Flush replaces while it is fetched is fetched again: afterwards there is one version only.
Status ObjectFile::Leaves() {
  auto flush_lock = LockFlush();
  auto fetched = FetchAll();
  std::lock_guard lock(mutex_);
  ++leaving_;
  return fetched;
}

void ObjectFile::Settled() {
  std::lock_guard lock(mutex_);
  --leaving_;
  arrived_.notify_all();
}

// Not held while the name is about to change, for who settles it needs it.
std::unique_lock<std::mutex> ObjectFile::LockFlush() {
  while (true) {
    std::unique_lock flush_lock(flush_mutex_);
    std::unique_lock lock(mutex_);
    if (leaving_ == 0) return flush_lock;
    flush_lock.unlock();
    arrived_.wait(lock, [this] { return leaving_ == 0; });
  }
}

void ObjectFile::RemovedElsewhere() {
  std::lock_guard lock(mutex_);
  unlinked_ = true;
}

Status ObjectFile::GiveName(std::string key) {
  std::lock_guard flush_lock(flush_mutex_);
  {
    std::lock_guard lock(mutex_);
    if (!unlinked_) return Error{EPERM, key_ + ": there are no hard links"};
    if (!may_be_linked_) return Error{ENOENT, "a file without a name is not to get one"};
    key_ = std::move(key);
    attributes_.inode_key = KeyHash(key_);
    unlinked_ = false;
  }
  auto sent = FlushOnce();
  std::lock_guard lock(mutex_);
  may_be_linked_ = !sent;
  if (sent) return sent;
  unlinked_ = true;
  key_.clear();
  return sent.error().code == ESTALE ? Error{EEXIST, sent.error().message} : sent.error();
}

}  // namespace elsewhere::file
