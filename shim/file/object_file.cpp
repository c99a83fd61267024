// Opening and reading. Changes are in object_change.cpp, sending in object_flush.cpp.
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

// To a reader a full disk is not his doing, and no error that read(2) knows.
Error NotCached(const Error& error) {
  bool full = error.code == ENOSPC || error.code == EDQUOT;
  return full ? Error{EIO, error.message + "; reading needs room there"} : error;
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
  file->valid_.Add(size, UINT64_MAX);
  auto& cache = *file->context_->cache;
  if (content && content->size() == size) {
    // What comes with every open is not worth a place in the cache.
    auto fd = cache.NewPrivate(*content);
    if (!fd) return NotCached(fd.error());
    file->local_ = {std::move(*fd), "", {}};
    file->valid_.Add(0, size);
    return file;
  }
  auto local = cache.OpenVersion(file->Identity(), size);
  if (!local) return local.error();
  file->local_ = std::move(*local);
  file->valid_.Add(file->local_.valid);
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

Result<std::shared_ptr<ObjectFile>> ObjectFile::Anonymous(std::shared_ptr<FileContext> context,
                                                          Attributes attributes, bool may_be_linked) {
  auto file = Created(std::move(context), "", std::move(attributes));
  if (!file) return file;
  (*file)->unlinked_ = true;
  (*file)->may_be_linked_ = may_be_linked;
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
  complete = complete && attributes_.size == base_size_;
  if (writable_ && complete && base_size_ > kSmallFile) {
    context_->cache->Adopt(fd(), Identity());
  } else if (local_.name.empty()) {
    context_->cache->Recycle(std::move(local_.fd), complete ? Identity() : "");
  }
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

bool ObjectFile::ahead_of_store() const {
  std::lock_guard lock(mutex_);
  return !NothingToSend() || (flushing_ && !unlinked_);
}

uint64_t ObjectFile::unsent_bytes() const {
  std::lock_guard lock(mutex_);
  uint64_t bytes = 0;
  for (auto range : changed_.All()) bytes += range.length();
  return bytes;
}

uint64_t ObjectFile::times_sent() const {
  std::lock_guard lock(mutex_);
  return times_sent_;
}

bool ObjectFile::writable() const {
  std::lock_guard lock(mutex_);
  return writable_;
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
    Buffer data(part.length());
    auto got =
        context_->store->GetInto(key, data.room(), {.range = {part.from, part.length()}, .if_match = etag});
    lock.lock();
    fetching_.Remove(part.from, part.to);
    arrived_.notify_all();
    if (etag != base_etag_) continue;  // another version is the base by now
    if (!got) return Failed(got.error());
    if (*got != part.length()) return Error{EIO, key + ": the object ends earlier than its size says"};
    auto filled = FillMissing({data.data(), data.size()}, part.from);
    if (!filled) return NotCached(filled.error());
  }
}

// What was written meanwhile stays.
Status ObjectFile::FillMissing(std::string_view data, uint64_t offset) {
  for (auto [begin, end] : valid_.Missing(offset, offset + data.size())) {
    auto filled = context_->cache->Fill(fd(), data.substr(begin - offset, end - begin), begin);
    if (!filled) return filled;
    valid_.Add(begin, end);
  }
  return Ok{};
}

// What is not there yet is data as well, so the only hole that all can agree on is the one at the end.
Result<uint64_t> ObjectFile::SeekData(uint64_t offset) const {
  if (offset >= attributes().size) return Error{ENXIO, "there is no data behind this offset"};
  return offset;
}

Result<uint64_t> ObjectFile::SeekHole(uint64_t offset) const {
  uint64_t size = attributes().size;
  if (offset >= size) return Error{ENXIO, "this offset is behind the end"};
  return size;
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

}  // namespace elsewhere::file
