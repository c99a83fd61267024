// Memory of a file that programs have mapped writable, or that stdio changes in place: nobody tells of the
// stores.
//
// The rule is that of multiple-writer shared memory (TreadMarks, USENIX 1994). A twin holds the bytes of the
// version that this file started from. Where the local file differs from it, the change is ours; where
// another host's version differs from it, theirs. So neither is lost, byte by byte, also where a store comes
// while a version is sent or taken over: no byte of the local file is touched but those that another host has
// changed and nobody here.
//
// What is sent is a copy, for the memory goes on changing: when it has arrived, the twin becomes what the
// object is.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "shim/file/object_file.h"

namespace elsewhere::file {
namespace {

constexpr uint64_t kMarked = 64 << 10;   // what is noted as changed is rounded to this: only the bytes matter
constexpr uint64_t kCompared = 1 << 20;  // bytes at a time
constexpr uint64_t kFetched = 4 << 20;

Error OfTheCache() {
  return Error{errno, std::string("the file cache: ") + strerror(errno)};
}

// Behind the end are zeros.
Status ReadFully(int fd, char* to, uint64_t size, uint64_t offset) {
  while (size > 0) {
    const ssize_t got = pread(fd, to, size, off_t(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return OfTheCache();
    if (got == 0) {
      memset(to, 0, size);
      break;
    }
    to += got;
    size -= uint64_t(got);
    offset += uint64_t(got);
  }
  return Ok{};
}

// Holes stay holes.
Status CopyData(int from, int to, Extent range) {
  for (uint64_t at = range.from; at < range.to;) {
    const off_t data = lseek(from, off_t(at), SEEK_DATA);
    if (data < 0 || uint64_t(data) >= range.to) return Ok{};
    const off_t hole = lseek(from, data, SEEK_HOLE);
    const uint64_t end = hole < 0 ? range.to : std::min(uint64_t(hole), range.to);
    off64_t in = data, out = data;
    while (uint64_t(in) < end) {
      const ssize_t copied = copy_file_range(from, &in, to, &out, end - uint64_t(in), 0);
      if (copied < 0 && errno == EINTR) continue;
      if (copied < 0) return OfTheCache();
      if (copied == 0) return Ok{};  // cut meanwhile
    }
    at = end;
  }
  return Ok{};
}

// Zeros where `from` has none, too.
Status ReplaceData(int from, int to, Extent range) {
  std::string data;
  for (uint64_t at = range.from; at < range.to; at += kCompared) {
    data.resize(std::min(kCompared, range.to - at));
    if (auto read = ReadFully(from, data.data(), data.size(), at); !read) return read;
    if (!PwriteFully(to, data.data(), data.size(), at)) return OfTheCache();
  }
  return Ok{};
}

}  // namespace

Status ObjectFile::KeepTwin() {
  auto flush_lock = LockFlush();
  {
    std::lock_guard lock(mutex_);
    if (twin_) return Ok{};
  }
  AbandonStream();
  std::unique_lock lock(mutex_);
  // Of what was written over here nobody knows any more what it was.
  while (base_limit_ > 0 && !changed_.empty() && !unlinked_) {
    lock.unlock();
    flush_lock.unlock();
    if (auto sent = Flush(); !sent) return sent;
    flush_lock = LockFlush();
    lock.lock();
  }
  auto twin = context_->cache->NewPrivate();
  if (!twin) return twin.error();
  const uint64_t size = base_limit_;
  if (ftruncate(twin->get(), off_t(size)) != 0) return OfTheCache();
  if (auto copied = CopyData(fd(), twin->get(), {0, size}); !copied) return copied;
  twin_ = std::move(*twin);
  return Ok{};
}

Status ObjectFile::NoteMemory() {
  auto flush_lock = LockFlush();
  uint64_t size;
  {
    std::lock_guard lock(mutex_);
    if (!twin_) return Ok{};
    size = attributes_.size;
  }
  std::string ours, base;
  Extents different;
  for (uint64_t at = 0; at < size; at += kCompared) {
    ours.resize(std::min(kCompared, size - at));
    base.resize(ours.size());
    if (auto read = ReadFully(fd(), ours.data(), ours.size(), at); !read) return read;
    if (auto read = ReadFully(twin_.get(), base.data(), base.size(), at); !read) return read;
    for (uint64_t block = 0; block < ours.size(); block += kMarked) {
      const uint64_t length = std::min(kMarked, ours.size() - block);
      if (memcmp(ours.data() + block, base.data() + block, length) != 0)
        different.Add(at + block, at + block + length);
    }
  }
  std::lock_guard lock(mutex_);
  for (auto [from, to] : different.All()) {
    to = std::min(to, attributes_.size);
    if (from < to && !changed_.Contains(from, to)) MarkWritten(from, to - from, false);
  }
  return Ok{};
}

// Also makes room for it in the twin, so that nothing can fail when it has been sent.
Status ObjectFile::TakeCopy(const Extents& changed, uint64_t size) {
  auto copy = context_->cache->NewPrivate();
  if (!copy) return copy.error();
  if (ftruncate(copy->get(), off_t(size)) != 0) return OfTheCache();
  for (const Extent& range : changed.All()) {
    if (auto copied = CopyData(fd(), copy->get(), range); !copied) return copied;
    const auto length = off_t(range.length());
    if (fallocate(twin_.get(), FALLOC_FL_KEEP_SIZE, off_t(range.from), length) != 0 && errno == ENOSPC)
      return OfTheCache();
  }
  copy_ = std::move(*copy);
  copied_ = changed;
  return Ok{};
}

Status ObjectFile::ReadCopy(char* to, uint64_t length, uint64_t offset) const {
  if (auto read = ReadFully(twin_.get(), to, length, offset); !read) return read;
  for (auto [from, end] : copied_.All()) {
    from = std::max(from, offset);
    end = std::min(end, offset + length);
    if (from >= end) continue;
    if (auto read = ReadFully(copy_.get(), to + (from - offset), end - from, from); !read) return read;
  }
  return Ok{};
}

// What was sent is the version that this file starts from now.
Status ObjectFile::CopyArrived(uint64_t size) {
  Status moved = Ok{};
  for (const Extent& range : copied_.All())
    if (moved) moved = ReplaceData(copy_.get(), twin_.get(), range);
  if (moved && ftruncate(twin_.get(), off_t(size)) != 0) moved = OfTheCache();
  return moved;
}

void ObjectFile::DropCopy() {
  copy_.Reset();
  copied_.Clear();
}

// As Rebase, for which it stands where there is a twin. Where versions follow one another while this one is
// fetched, it is the last that counts: the twin must be one version when this ends.
Result<std::string> ObjectFile::RebaseMemory(store::ObjectInfo now, std::string content) {
  const std::string key = this->key();
  for (uint64_t at = 0; at < now.size;) {
    const uint64_t length = std::min(kFetched, now.size - at);
    std::string theirs;
    if (at == 0 && content.size() == now.size) {
      theirs = std::move(content);
    } else {
      theirs.resize(length);
      auto got = context_->store->GetInto(key, theirs, {.range = {at, length}, .if_match = now.etag});
      if (!got && got.error().code == ESTALE) {
        auto newer = context_->store->Head(key);
        if (!newer) return Failed(newer.error());
        now = *newer;
        at = 0;
        continue;
      }
      if (!got) return Failed(got.error());
      if (*got != length) return Error{EIO, key + ": the object ends earlier than its size says"};
    }
    if (auto taken = TakeTheirs(theirs, at); !taken) return taken.error();
    at += theirs.size();
  }
  std::lock_guard lock(mutex_);
  if (ftruncate(twin_.get(), off_t(now.size)) != 0) return OfTheCache();
  const uint64_t size = std::max(now.size, changed_.end());
  if (size < attributes_.size && ftruncate(fd(), off_t(size)) != 0) return OfTheCache();
  attributes_.size = size;
  valid_.Add(0, UINT64_MAX);
  base_etag_ = now.etag;
  base_size_ = base_limit_ = now.size;
  doubted_.Clear();
  return now.etag;
}

// Bytes at `offset` of the version that another host has made.
Status ObjectFile::TakeTheirs(std::string_view theirs, uint64_t offset) {
  std::string base(theirs.size(), '\0'), ours(theirs.size(), '\0');
  if (auto read = ReadFully(twin_.get(), base.data(), base.size(), offset); !read) return read;
  {
    std::lock_guard lock(mutex_);
    struct stat status;
    if (fstat(fd(), &status) != 0) return OfTheCache();
    const uint64_t end = offset + theirs.size();
    if (uint64_t(status.st_size) < end && ftruncate(fd(), off_t(end)) != 0) return OfTheCache();
    if (uint64_t(status.st_size) <= attributes_.size) attributes_.size = std::max(attributes_.size, end);
  }
  if (base == theirs) return Ok{};
  if (auto read = ReadFully(fd(), ours.data(), ours.size(), offset); !read) return read;
  const auto is_theirs = [&](size_t i) { return theirs[i] != base[i] && ours[i] == base[i]; };
  for (size_t i = 0; i < theirs.size();) {
    if (!is_theirs(i)) {
      ++i;
      continue;
    }
    size_t end = i + 1;
    while (end < theirs.size() && is_theirs(end)) ++end;
    if (!PwriteFully(fd(), theirs.data() + i, end - i, offset + i)) return OfTheCache();
    i = end;
  }
  return PwriteFully(twin_.get(), theirs.data(), theirs.size(), offset) ? Status(Ok{}) : OfTheCache();
}

}  // namespace elsewhere::file
