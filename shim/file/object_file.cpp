// Reading and changing. Sending is in object_flush.cpp.
#include "shim/file/object_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "shim/file/object_stream.h"

namespace elsewhere::file {
namespace {

constexpr uint64_t kBlock = 128 << 10;     // what a single read fetches at least
constexpr uint64_t kPiece = 4 << 20;       // one request of many
constexpr uint64_t kFirstAhead = 1 << 20;  // read-ahead doubles with every sequential read
constexpr uint64_t kLongestAhead = 64 << 20;

uint64_t Down(uint64_t value, uint64_t unit) {
  return value / unit * unit;
}
uint64_t Up(uint64_t value, uint64_t unit) {
  return value > UINT64_MAX - unit ? value : Down(value + unit - 1, unit);
}

bool PwriteFully(int fd, const char* data, uint64_t size, uint64_t offset) {
  while (size > 0) {
    ssize_t done = pwrite(fd, data, size, off_t(offset));
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) return false;
    data += done;
    offset += uint64_t(done);
    size -= uint64_t(done);
  }
  return true;
}

}  // namespace

ObjectFile::ObjectFile(std::shared_ptr<FileContext> context, std::string key, Attributes attributes)
    : context_(std::move(context)), key_(std::move(key)), attributes_(std::move(attributes)) {}

Result<std::shared_ptr<ObjectFile>> ObjectFile::Existing(std::shared_ptr<FileContext> context,
                                                         std::string key, Attributes attributes,
                                                         std::optional<std::string_view> content) {
  std::shared_ptr<ObjectFile> file(new ObjectFile(std::move(context), std::move(key), std::move(attributes)));
  uint64_t size = file->attributes_.size;
  file->base_etag_ = file->attributes_.etag;
  file->base_size_ = file->base_limit_ = size;
  auto local = file->context_->cache->OpenVersion(file->Identity(), size);
  if (!local) return local.error();
  file->local_ = std::move(*local);
  file->valid_ = std::move(file->local_.valid);
  file->valid_.Add(size, UINT64_MAX);
  if (content && content->size() == size && !file->valid_.Contains(0, size)) {
    if (!PwriteFully(file->fd(), content->data(), size, 0)) return file->Failed({errno, strerror(errno)});
    file->valid_.Add(0, size);
  }
  return file;
}

Result<std::shared_ptr<ObjectFile>> ObjectFile::Created(std::shared_ptr<FileContext> context, std::string key,
                                                        Attributes attributes) {
  std::shared_ptr<ObjectFile> file(new ObjectFile(std::move(context), std::move(key), std::move(attributes)));
  auto fd = file->context_->cache->NewPrivate();
  if (!fd) return fd.error();
  file->local_ = {std::move(*fd), "", {}};
  file->attributes_.size = 0;
  file->valid_.Add(0, UINT64_MAX);
  file->writable_ = true;
  return file;
}

ObjectFile::~ObjectFile() {
  {
    std::unique_lock lock(mutex_);
    arrived_.wait(lock, [this] { return background_ == 0; });
  }
  AbandonStream();
  bool complete = changed_.empty() && !truncated_ && !base_etag_.empty() && !unlinked_ &&
                  valid_.Contains(0, attributes_.size);
  if (writable_ && complete && attributes_.size == base_size_) context_->cache->Adopt(fd(), Identity());
}

std::string ObjectFile::Identity() const {
  std::string identity = context_->store->url();
  identity.push_back('\0');
  identity += key_;
  identity.push_back('\0');
  return identity + base_etag_;
}

std::string ObjectFile::key() const {
  std::lock_guard lock(mutex_);
  return key_;
}

Attributes ObjectFile::attributes() const {
  std::lock_guard lock(mutex_);
  return attributes_;
}

bool ObjectFile::changed() const {
  std::lock_guard lock(mutex_);
  return !NothingToSend();
}

bool ObjectFile::unlinked() const {
  std::lock_guard lock(mutex_);
  return unlinked_;
}

Error ObjectFile::Failed(const Error& error) const {
  if (error.code == ENOENT) return Error{ESTALE, error.message + " (it was removed by somebody else)"};
  return error;
}

Status ObjectFile::Prepare(uint64_t offset, uint64_t length) {
  uint64_t from, to;
  {
    std::unique_lock lock(mutex_);
    uint64_t end = std::min(attributes_.size, length > UINT64_MAX - offset ? UINT64_MAX : offset + length);
    bool sequential = offset == next_expected_;
    next_expected_ = std::max(offset, end);
    if (offset >= end) return Ok{};
    ahead_ = sequential ? std::min(kLongestAhead, std::max(kFirstAhead, ahead_ * 2)) : 0;
    // What is read in sequence is fetched in requests that are worth their round trip.
    uint64_t unit = ahead_ >= kPiece ? kPiece : kBlock;
    from = Down(offset, unit);
    to = std::min(Up(end, unit), attributes_.size);
    if (ahead_ > 0) ReadAhead(lock, to, std::min(attributes_.size, to + ahead_));
    if (valid_.Contains(offset, end)) return Ok{};
  }
  return FetchRange(from, to);
}

void ObjectFile::ReadAhead(std::unique_lock<std::mutex>&, uint64_t from, uint64_t to) {
  for (uint64_t at = from; at < to; at = std::min(Down(at, kPiece) + kPiece, to)) {
    uint64_t end = std::min(Down(at, kPiece) + kPiece, to);
    if (valid_.Contains(at, end) || fetching_.EndOfRunAt(at) > at || background_ >= 12) continue;
    ++background_;
    // An error shows again, and is reported, when somebody reads there.
    context_->workers->Start([this, at, end] {
      (void)FetchPiece(at, end);
      std::lock_guard lock(mutex_);
      --background_;
      arrived_.notify_all();
    });
  }
}

Status ObjectFile::FetchRange(uint64_t from, uint64_t to) {
  if (to - from <= kPiece) return FetchPiece(from, to);
  size_t pieces = size_t((to - from + kPiece - 1) / kPiece);
  return context_->workers->ForEach(pieces, [&](size_t i) {
    uint64_t begin = from + i * kPiece;
    return FetchPiece(begin, std::min(begin + kPiece, to));
  });
}

// Fetches what of the range is missing and nobody else is fetching; waits for what others are.
Status ObjectFile::FetchPiece(uint64_t from, uint64_t to) {
  std::unique_lock lock(mutex_);
  for (;;) {
    auto missing = valid_.Missing(from, to);
    if (missing.empty()) return Ok{};
    Extents free;
    free.Add(missing[0].from, missing[0].to);
    for (auto [busy_from, busy_to] : fetching_.All()) free.Remove(busy_from, busy_to);
    if (free.empty()) {
      arrived_.wait(lock);
      continue;
    }
    Extent part = free.All()[0];
    std::string key = key_, etag = base_etag_;
    fetching_.Add(part.from, part.to);
    lock.unlock();
    std::string data(part.length(), '\0');
    auto got = context_->store->GetInto(key, data, {.range = {part.from, part.length()}, .if_match = etag});
    lock.lock();
    fetching_.Remove(part.from, part.to);
    arrived_.notify_all();
    if (etag != base_etag_) continue;  // another version is the base by now
    if (!got) return Failed(got.error());
    if (*got != part.length()) return Error{EIO, key + ": the object ends earlier than its size says"};
    for (auto [begin, end] : valid_.Missing(part.from, part.to)) {
      if (!PwriteFully(fd(), data.data() + (begin - part.from), end - begin, begin))
        return Error{errno, key + ": the file cache: " + strerror(errno)};
      valid_.Add(begin, end);
    }
  }
}

Result<size_t> ObjectFile::Read(std::span<char> into, uint64_t offset) {
  auto prepared = Prepare(offset, into.size());
  if (!prepared) return prepared.error();
  uint64_t size = attributes().size;
  size_t done = 0, wanted = offset >= size ? 0 : size_t(std::min<uint64_t>(into.size(), size - offset));
  while (done < wanted) {
    ssize_t got = pread(fd(), into.data() + done, wanted - done, off_t(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Error{errno, strerror(errno)};
    if (got == 0) break;  // cut by somebody meanwhile
    done += size_t(got);
  }
  return done;
}

Status ObjectFile::MakeWritable() {
  std::unique_lock lock(mutex_);
  if (writable_) return Ok{};
  // A fetch in progress writes into the file that is there now.
  arrived_.wait(lock, [this] { return fetching_.empty(); });
  if (!context_->cache->TakeOut(local_)) {
    // Other processes use it: a copy of what is valid. Those who read here keep the old file's descriptor.
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

Status ObjectFile::Truncate(uint64_t size) {
  if (size == 0) AbandonStream();
  std::unique_lock lock(mutex_);
  if (ftruncate(fd(), off_t(size)) != 0) return Error{errno, strerror(errno)};
  uint64_t before = attributes_.size;
  attributes_.size = size;
  attributes_.mtime_ns = attributes_.ctime_ns = NowNs();
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

void ObjectFile::Renamed(std::string key, const std::string& etag) {
  AbandonStream();
  std::lock_guard flush_lock(flush_mutex_);
  std::lock_guard lock(mutex_);
  key_ = std::move(key);
  if (!etag.empty() && !base_etag_.empty()) base_etag_ = etag;
}

Status ObjectFile::Unlink() {
  uint64_t limit;
  {
    std::lock_guard lock(mutex_);
    limit = std::min(base_limit_, attributes_.size);
  }
  auto fetched = limit > 0 ? FetchRange(0, limit) : Status(Ok{});
  AbandonStream();
  std::lock_guard flush_lock(flush_mutex_);
  std::lock_guard lock(mutex_);
  unlinked_ = true;
  return fetched;
}

}  // namespace elsewhere::file
