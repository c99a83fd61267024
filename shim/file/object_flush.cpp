// Sending an ObjectFile: Flush, what it does when another host was faster, and the upload while writing.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "shim/file/object_file.h"
#include "shim/file/object_stream.h"

namespace elsewhere::file {
namespace {

constexpr uint64_t kWhole = 8 << 20;           // up to this size in one request
constexpr uint64_t kLargestCopy = 5ull << 30;  // of one request, by S3's rules
constexpr unsigned kStreamPartsAtOnce = 8;
// So many more may be written before the writer waits: there is something to send also while he, who is
// slower than the link for a moment, writes the next.
constexpr unsigned kStreamPartsReady = 8;
constexpr int kReplacementsBorne = 16;  // by who reads
constexpr int kRefusalsBorne = 16;
constexpr uint64_t kCompared = 4 << 20;  // bytes of one request

// Who loses to other writers goes on however often: each time one of them got on, and giving up would lose
// what was written. Only a server that refuses a version which nobody has replaced is left in the end.
class Refusals {
 public:
  bool TooMany(std::string_view version) {
    count_ = version == last_ ? count_ + 1 : 0;
    last_ = version;
    return count_ > kRefusalsBorne;
  }

 private:
  std::string last_;
  int count_ = 0;
};

bool IsConflict(const Error& error) {
  return error.code == ESTALE || error.code == EEXIST || error.code == EALREADY;
}

// Whether what was sent is perhaps in the store, although the sending failed.
bool PerhapsDone(const Error& error) {
  switch (error.code) {
    case ESTALE:
    case EEXIST:
    case ENOENT:
    case EACCES:
    case ENOSPC:
    case EINVAL:
      return false;
    default:
      return true;
  }
}

}  // namespace

// What one attempt to flush sends. Changes made meanwhile belong to the next.
struct ObjectFile::Snapshot {
  std::string key;
  Attributes attributes;
  uint64_t base_limit = 0, base_size = 0;
  std::string base_etag;
  Extents changed;
  bool truncated = false, attributes_changed = false, appended_only = false;
  std::shared_ptr<Stream> stream;

  uint64_t size() const { return attributes.size; }
  store::PutOptions Options() const {
    return {.if_absent = base_etag.empty(),
            .if_match = base_etag,
            .content_type = ContentTypeOf(attributes),
            .metadata = MetadataOf(attributes)};
  }
};

bool ObjectFile::NothingToSend() const {
  return unlinked_ || (changed_.empty() && !truncated_ && !attributes_changed_ && !base_etag_.empty());
}

Status ObjectFile::Flush() {
  auto flush_lock = LockFlush();
  for (Refusals refusals;;) {
    auto status = FlushOnce();
    if (status) return status;
    AbandonStream();
    if (!IsConflict(status.error())) return status;
    auto version = Rebase();
    if (!version) return version.error();
    if (refusals.TooMany(*version))
      return status.error().code == EALREADY ? Error{EIO, status.error().message} : status.error();
  }
}

Status ObjectFile::Refresh() {
  bool whole = false;
  for (int attempt = 0;; ++attempt) {
    {
      std::lock_guard flush_lock(flush_mutex_);
      {
        std::lock_guard lock(mutex_);
        // A version in the cache stays what it is for all who read it.
        if (!writable_ || !changed_.empty() || truncated_ || unlinked_ || stream_) return Ok{};
        // Somebody is writing here, which shows by the size before it is said.
        struct stat status;
        if (fstat(fd(), &status) != 0 || uint64_t(status.st_size) != attributes_.size) return Ok{};
        whole = whole || valid_.Contains(0, attributes_.size);
      }
      if (auto rebased = Rebase(); !rebased) return rebased.error();
      std::lock_guard lock(mutex_);
      attributes_.etag = base_etag_;
    }
    // Who has it mapped reads without asking.
    auto fetched = whole ? Prepare(0, UINT64_MAX) : Status(Ok{});
    // It may be replaced once more before all of it is here.
    if (fetched || fetched.error().code != ESTALE || attempt >= kReplacementsBorne) return fetched;
  }
}

ObjectFile::Snapshot ObjectFile::Begin() {
  Snapshot snapshot{key_,     attributes_, base_limit_,         base_size_,     base_etag_,
                    changed_, truncated_,  attributes_changed_, appended_only_, stream_};
  changed_.Clear();
  truncated_ = attributes_changed_ = false;
  appended_only_ = true;
  flushing_ = true;
  truncated_while_flushing_ = UINT64_MAX;
  return snapshot;
}

void ObjectFile::End(const Snapshot& snapshot, const Result<store::ObjectInfo>& sent) {
  flushing_ = false;
  if (sent) {
    ++times_sent_;
    base_etag_ = attributes_.etag = sent->etag;
    base_size_ = snapshot.size();
    base_limit_ = std::min(base_size_, truncated_while_flushing_);
    stream_.reset();
    doubted_.Clear();
    return;
  }
  // The first of several is kept: had a later one been carried out, its bytes would be there as well.
  if (doubted_.empty() && snapshot.appended_only && !snapshot.truncated && PerhapsDone(sent.error()))
    doubted_ = snapshot.changed;
  Extents unsent = snapshot.changed;
  unsent.Remove(truncated_while_flushing_, UINT64_MAX);
  changed_.Add(unsent);
  truncated_ = truncated_ || snapshot.truncated;
  attributes_changed_ = attributes_changed_ || snapshot.attributes_changed;
  appended_only_ = appended_only_ && snapshot.appended_only;
}

Status ObjectFile::FlushOnce() {
  std::unique_lock lock(mutex_);
  if (NothingToSend()) return Ok{};
  // What is written is sent without a pause; parts under way belong to this attempt, and none is begun while
  // it lasts.
  if (const auto stream = stream_) {
    const unsigned written = stream->WrittenUpTo(*this);
    Stream::BeginParts(this, stream);
    arrived_.wait(lock, [&] { return !stream->HasPartFor(*this) || stream->next >= written; });
  }
  flushing_ = true;
  arrived_.wait(lock, [this] { return !stream_ || stream_->sending == 0; });
  Snapshot snapshot = Begin();
  const bool is_memory = bool(twin_);
  lock.unlock();
  Status copied = is_memory ? TakeCopy(snapshot.changed, snapshot.size()) : Status(Ok{});
  auto sent = copied ? Send(snapshot) : Result<store::ObjectInfo>(copied.error());
  context_->changes->Note(snapshot.key);
  if (sent && is_memory) copied = CopyArrived(snapshot.size());
  DropCopy();
  lock.lock();
  End(snapshot, sent);
  if (!sent) return sent.error();
  return copied;
}

Result<store::ObjectInfo> ObjectFile::Send(const Snapshot& snapshot) {
  bool content_same = snapshot.changed.empty() && !snapshot.truncated && !snapshot.base_etag.empty();
  if (content_same && snapshot.size() <= kLargestCopy) return SendAttributes(snapshot);
  bool streamed = snapshot.stream && snapshot.base_limit == 0 && !snapshot.stream->upload_id.empty() &&
                  !snapshot.stream->failed;
  if (!streamed && snapshot.size() <= kWhole) return SendWhole(snapshot);
  if (!streamed) return SendParts(snapshot);
  auto sent = SendStream(snapshot);
  if (!sent || !snapshot.attributes_changed || snapshot.size() > kLargestCopy) return sent;
  // They were changed after the upload had begun with the old ones.
  Snapshot after = snapshot;
  after.base_etag = sent->etag;
  auto set = SendAttributes(after);
  if (!set && IsConflict(set.error())) return Error{EALREADY, set.error().message};  // the content was sent
  return set;
}

Result<store::ObjectInfo> ObjectFile::SendAttributes(const Snapshot& snapshot) {
  return context_->store->Copy(snapshot.key, snapshot.key,
                               {.if_match = snapshot.base_etag,
                                .metadata = MetadataOf(snapshot.attributes),
                                .content_type = ContentTypeOf(snapshot.attributes)});
}

Result<Buffer> ObjectFile::Content(uint64_t offset, uint64_t length) {
  Buffer content(length);
  if (copy_) {
    if (auto read = ReadCopy(content.data(), length, offset); !read) return read.error();
    return content;
  }
  auto fetched = length > 0 ? FetchRange(offset, offset + length) : Status(Ok{});
  if (!fetched) return fetched.error();
  for (uint64_t at = 0; at < length;) {
    ssize_t got = pread(fd(), content.data() + at, length - at, off_t(offset + at));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Error{errno, std::string("the file cache: ") + strerror(errno)};
    if (got == 0) {  // cut meanwhile; the next flush sends it so
      memset(content.data() + at, 0, length - at);
      break;
    }
    at += uint64_t(got);
  }
  return content;
}

Result<store::ObjectInfo> ObjectFile::SendWhole(const Snapshot& snapshot) {
  auto content = Content(0, snapshot.size());
  if (!content) return content.error();
  return context_->store->Put(snapshot.key, content->view(), snapshot.Options());
}

// Servers differ in whether they heed conditions here, so the version is looked at first in any case.
Status ObjectFile::CheckVersion(const Snapshot& snapshot) {
  auto now = context_->store->Head(snapshot.key);
  if (!now && now.error().code == ENOENT && snapshot.base_etag.empty()) return Ok{};
  if (!now) return now.error().code == ENOENT ? Error{ESTALE, now.error().message} : now.error();
  if (snapshot.base_etag.empty()) return Error{EEXIST, snapshot.key + " exists already"};
  if (now->etag != snapshot.base_etag)
    return Error{ESTALE, snapshot.key + " has another version than expected"};
  return Ok{};
}

Result<store::ObjectInfo> ObjectFile::SendParts(const Snapshot& snapshot) {
  auto& store = *context_->store;
  auto plan = PlanUpload(snapshot.size(), snapshot.base_limit, snapshot.changed);
  auto id = store.BeginUpload(snapshot.key, snapshot.Options());
  if (!id) return id.error();
  std::vector<store::UploadPart> parts(plan.size());
  Status sent = context_->workers->ForEach(plan.size(), [&](size_t i) -> Status {
    auto [offset, length, copy] = plan[i];
    Result<store::UploadPart> part = Error{};
    if (copy) {
      part = store.CopyPart(snapshot.key, *id, unsigned(i + 1), snapshot.key, {offset, length},
                            snapshot.base_etag);
      if (!part) return Failed(part.error());
    } else {
      auto content = Content(offset, length);
      if (!content) return content.error();
      part = store.PutPart(snapshot.key, *id, unsigned(i + 1), content->view());
      if (!part) return part.error();
    }
    parts[i] = *part;
    return Ok{};
  });
  if (sent) sent = CheckVersion(snapshot);
  Result<store::ObjectInfo> done = sent ? store.CompleteUpload(snapshot.key, *id, parts, snapshot.Options())
                                        : Result<store::ObjectInfo>(sent.error());
  if (!done) (void)store.AbortUpload(snapshot.key, *id);
  return done;
}

Result<store::ObjectInfo> ObjectFile::SendStream(const Snapshot& snapshot) {
  auto& store = *context_->store;
  Stream& stream = *snapshot.stream;
  size_t count = size_t((snapshot.size() + kStreamPart - 1) / kStreamPart);
  std::vector<store::UploadPart> parts(count);
  Status sent = context_->workers->ForEach(count, [&](size_t i) -> Status {
    uint64_t offset = i * kStreamPart, length = std::min(kStreamPart, snapshot.size() - offset);
    auto known = stream.parts.find(unsigned(i));
    if (known != stream.parts.end() && known->second.sent_version == known->second.version &&
        known->second.length == length) {
      parts[i] = {unsigned(i + 1), known->second.etag};
      return Ok{};
    }
    auto content = Content(offset, length);
    if (!content) return content.error();
    auto part = store.PutPart(stream.key, stream.upload_id, unsigned(i + 1), content->view());
    if (!part) return part.error();
    parts[i] = *part;
    return Ok{};
  });
  if (sent) sent = CheckVersion(snapshot);
  if (!sent) return sent.error();
  return store.CompleteUpload(stream.key, stream.upload_id, parts, snapshot.Options());
}

// What is in our version's place. A small object comes with its content, which is needed to send ours:
// whoever asked for it in a second request would lose to all who need but one.
Result<store::Object> ObjectFile::LookThere() {
  std::unique_lock lock(mutex_);
  const bool content_too = base_size_ <= kSmallFile && !changed_.empty() && !truncated_;
  const std::string key = key_, etag = base_etag_;
  lock.unlock();
  if (content_too) return context_->store->Get(key, {.range = {0, kSmallFile}, .if_none_match = etag});
  auto info = context_->store->Head(key);
  if (!info) return info.error();
  return store::Object{.info = *info, .body = {}, .not_modified = info->etag == etag};
}

// Takes over the version that another host has put there, and lays our changes over it. Answers which
// version is there, empty if none.
Result<std::string> ObjectFile::Rebase() {
  auto there_now = LookThere();
  std::unique_lock lock(mutex_);
  if (!there_now && there_now.error().code == ENOENT && base_etag_.empty()) return std::string();
  if (!there_now) return Failed(there_now.error());
  const auto& [now, content, same] = *there_now;
  if (same || now.etag == base_etag_) return base_etag_;
  lock.unlock();
  auto there = DoubtedIsThere(now);
  if (!there && there.error().code == ESTALE) return now.etag;  // replaced once more
  if (!there) return there.error();
  lock.lock();
  arrived_.wait(lock, [this] { return fetching_.empty(); });
  if (*there && appended_only_)
    return Error{EIO, key_ +
                          ": an answer was lost and the object replaced by somebody else; the appended bytes "
                          "are in it, most likely by us"};
  uint64_t old_base = base_size_;
  if (truncated_) {
    if (!valid_.Missing(0, attributes_.size).empty())
      return Error{ESTALE, key_ + ": replaced by somebody else before all of its old content was fetched"};
    changed_.Add(0, attributes_.size);
    base_limit_ = 0;
  } else {
    if (appended_only_ && !changed_.empty() && now.size != old_base) {
      auto moved = MoveAppended(now.size - old_base);
      if (!moved) return moved.error();
    }
    if (twin_) {
      lock.unlock();
      return RebaseMemory(now, content);
    }
    uint64_t size = std::max(now.size, changed_.end());
    // What is not valid is fetched before it is read. This is for those who do not ask, and for room: where
    // it fails, nothing is wrong, and what was moved must not be moved again.
    for (auto [from, to] : changed_.Missing(0, std::max(size, attributes_.size)))
      (void)fallocate(fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off_t(from), off_t(to - from));
    if (ftruncate(fd(), off_t(size)) != 0)
      return Error{errno, std::string("the file cache: ") + strerror(errno)};
    valid_ = changed_;
    valid_.Add(now.size, UINT64_MAX);
    attributes_.size = size;
    base_limit_ = now.size;
  }
  base_etag_ = now.etag;
  base_size_ = now.size;
  doubted_.Clear();
  (void)FillMissing(content, 0);  // what has no room is fetched, and reported, when it is needed
  return now.etag;
}

// Whether version `now` holds, where a sending of unknown outcome would have put them, the bytes that were
// appended. Writers on other hosts only add behind them, so where they are missing nothing was carried out.
Result<bool> ObjectFile::DoubtedIsThere(const store::ObjectInfo& now) {
  std::unique_lock lock(mutex_);
  auto doubted = doubted_.All();
  std::string key = key_;
  lock.unlock();
  for (auto [from, to] : doubted) {
    if (to > now.size) return false;
    for (uint64_t at = from; at < to; at += kCompared) {
      uint64_t length = std::min(kCompared, to - at);
      std::string theirs(length, '\0'), ours(length, '\0');
      auto got = context_->store->GetInto(key, theirs, {.range = {at, length}, .if_match = now.etag});
      if (!got) return Failed(got.error());
      if (pread(fd(), ours.data(), length, off_t(at)) != ssize_t(length))
        return Error{EIO, "the file cache has lost appended bytes"};
      if (*got != length || theirs != ours) return false;
    }
  }
  return !doubted.empty();
}

// `by` may stand for a negative number, by wrapping around. All or nothing: a Flush that fails is repeated.
Status ObjectFile::MoveAppended(uint64_t by) {
  Extents moved;
  std::vector<std::pair<uint64_t, std::string>> pieces;
  for (auto [from, to] : changed_.All()) {
    std::string data(to - from, '\0');
    if (pread(fd(), data.data(), data.size(), off_t(from)) != ssize_t(data.size()))
      return Error{EIO, "the file cache has lost appended bytes"};
    pieces.emplace_back(from, std::move(data));
    moved.Add(from + by, to + by);
  }
  struct stat before;
  if (fstat(fd(), &before) != 0) return Error{errno, std::string("the file cache: ") + strerror(errno)};
  for (auto& [offset, data] : pieces) {
    auto put = context_->cache->Fill(fd(), data, offset + by);
    if (put) continue;
    // Where they were they have room.
    for (auto& [from, old] : pieces)
      if (!PwriteFully(fd(), old.data(), old.size(), from))
        return Error{EIO, "the file cache has lost appended bytes"};
    (void)ftruncate(fd(), before.st_size);
    return put;
  }
  changed_ = std::move(moved);
  return Ok{};
}

void ObjectFile::StreamWritten(std::unique_lock<std::mutex>& lock, uint64_t offset, uint64_t length) {
  if (stream_) stream_->Invalidate(offset, offset + length);
  if (flushing_ || base_limit_ != 0 || unlinked_ || twin_ || attributes_.size < 2 * kStreamPart) return;
  if (!stream_) {
    stream_ = std::make_shared<Stream>();
    stream_->key = key_;
  }
  auto stream = stream_;
  Stream::BeginParts(this, stream);
  arrived_.wait(lock, [&] {
    return !stream->HasPartFor(*this) || stream->WrittenUpTo(*this) < stream->next + kStreamPartsReady;
  });
}

void ObjectFile::Stream::BeginParts(ObjectFile* file, const std::shared_ptr<Stream>& stream) {
  while (stream->sending < kStreamPartsAtOnce && stream->HasPartFor(*file)) {
    const unsigned index = stream->next++;
    stream->parts[index].version = 1;
    ++stream->sending;
    ++file->background_;
    file->context_->workers->Start([file, stream, index] { file->SendStreamPart(stream, index); });
  }
}

void ObjectFile::SendStreamPart(std::shared_ptr<Stream> stream, unsigned index) {
  auto& store = *context_->store;
  std::unique_lock lock(mutex_);
  arrived_.wait(lock, [&] { return !stream->beginning; });
  if (stream->upload_id.empty() && !stream->failed) {
    stream->beginning = true;
    store::PutOptions options{.content_type = ContentTypeOf(attributes_),
                              .metadata = MetadataOf(attributes_)};
    attributes_changed_ = false;  // the upload has them; without it the content is sent together with them
    lock.unlock();
    auto id = store.BeginUpload(stream->key, options);
    lock.lock();
    stream->beginning = false;
    stream->failed = !id;
    if (id) stream->upload_id = *id;
    arrived_.notify_all();
  }
  if (!stream->failed) {
    uint64_t version = stream->parts[index].version;
    lock.unlock();
    auto content = Content(uint64_t{index} * kStreamPart, kStreamPart);
    auto part = content ? store.PutPart(stream->key, stream->upload_id, index + 1, content->view())
                        : Result<store::UploadPart>(content.error());
    lock.lock();
    if (part) {
      auto& known = stream->parts[index];
      known.sent_version = version;
      known.etag = part->etag;
      known.length = kStreamPart;
    } else {
      stream->failed = true;
    }
  }
  --stream->sending;
  Stream::BeginParts(this, stream);
  --background_;
  arrived_.notify_all();
}

void ObjectFile::AbandonStream() {
  std::shared_ptr<Stream> stream;
  {
    std::unique_lock lock(mutex_);
    if (!stream_) return;
    stream = stream_;
    stream->failed = true;
    arrived_.wait(lock, [&] { return stream->sending == 0; });
    if (stream_ == stream) stream_.reset();
  }
  // Leftovers of a failed abort are found by ListUploads.
  if (!stream->upload_id.empty()) (void)context_->store->AbortUpload(stream->key, stream->upload_id);
}

}  // namespace elsewhere::file
