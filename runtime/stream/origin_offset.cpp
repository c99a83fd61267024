// OriginStream: the offset of a plain file, which processes of several hosts share (plain_files.h).
//
// One that is only read is read by one host at a time: the one that has the right to the offset, which is the
// first until another one's process asks (StreamCall::kTakeOffset). Then it is recalled, comes back as far as
// it has been read, and goes to who has asked longest. On hosts without it the offset is away
// (wire::kOffsetAway). This host's own processes do not ask: they read where its description is.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "runtime/stream/origin_stream.h"
#include "shim/wire/stream_call.h"

namespace elsewhere::runtime::stream {

int64_t OriginStream::OffsetNow() const {
  return lseek(descriptor_.get(), 0, SEEK_CUR);
}

void OriginStream::OnOffset(const wire::StreamOffset& moved) {
  const auto share = shares_.find(moved.stream);
  if (share == shares_.end() || !CarriesOffset(kind_) || closed_) return;
  if (moved.offset >= 0) {
    share->second.offset = moved.offset;
    // The same place may be where both have set it, but not where both have read or written to.
    if (const int64_t now = OffsetNow();
        now != moved.before && (now != moved.offset || moved.offset > moved.before))
      agent_.Note("two hosts moved the offset of one open file at the same time: " +
                  LinkOf(descriptor_.get()));
    lseek(descriptor_.get(), moved.offset, SEEK_SET);
  }
  if (moved.gives_up) NoReader(moved.stream);
}

void OriginStream::TellOffset() {
  if (closed_) return;
  const int64_t now = OffsetNow();
  for (auto& [id, share] : shares_) {
    if (share.offset == now || (LendsOffset() && id != reader_)) continue;
    share.offset = now;
    agent_.SendAhead(share.host, wire::StreamOffsetNow{id, now});
  }
}

// Files that the kernel makes up have no size, and an offset of their own kind.
bool OriginStream::LendsOffset() {
  if (lends_offset_) return *lends_offset_;
  struct stat status;
  lends_offset_ = CarriesOffset(kind_) && (flags_ & O_ACCMODE) == O_RDONLY &&
                  fstat(descriptor_.get(), &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0;
  return *lends_offset_;
}

int64_t OriginStream::OffsetFor(StreamId share) {
  if (!LendsOffset()) return OffsetNow();
  if (reader_ == 0 && takers_.empty()) reader_ = share;
  return reader_ == share ? OffsetNow() : wire::kOffsetAway;
}

void OriginStream::TakeOffset(const wire::StreamControl& control) {
  takers_.push_back({control.stream, control.request});
  LendOffset();
}

void OriginStream::LendOffset() {
  while (!takers_.empty()) {
    const Taker taker = takers_.front();
    const auto share = shares_.find(taker.share);
    if (share != shares_.end()) {
      if (reader_ != 0 && reader_ != taker.share) break;
      reader_ = taker.share;
      share->second.offset = OffsetNow();
      agent_.Send(share->second.host, wire::StreamControlled{taker.request, share->second.offset, 0, {}});
    }
    takers_.pop_front();
  }
  const auto reader = shares_.find(reader_);
  if (takers_.empty() || recalled_ || reader == shares_.end()) return;
  recalled_ = true;
  agent_.Send(reader->second.host, wire::StreamOffsetNow{reader_, 0, true});
}

// It has given the offset up, or is gone.
void OriginStream::NoReader(StreamId share) {
  if (reader_ != share) return;
  reader_ = 0;
  recalled_ = false;
  LendOffset();
}

}  // namespace elsewhere::runtime::stream
