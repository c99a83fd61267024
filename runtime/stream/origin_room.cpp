// How far ahead of an object its writers elsewhere may be, and what happens where it takes nothing.
#include <fcntl.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "runtime/stream/origin_stream.h"
#include "runtime/stream/readers.h"

namespace elsewhere::runtime::stream {

// ---- Credit ----

// What is on its way to a pipe when its reader stops reading is to fit into the pipe then (MakeRoom). So all
// hosts together get more than the least only as long as somebody reads.
uint64_t OriginStream::Window() const {
  if (kind_ != Kind::kPipeWrite) return wire::kStreamWindow;
  return std::max(wire::kLeastPipeWindow,
                  is_read_ ? wire::kPipeWindow / std::max<size_t>(shares_.size(), 1) : 0);
}

// Credit is due for a quarter of the window of now, while the writers' host may still go by the least one: it
// must have sent that much by the time it stops, or it would wait for ever.
static_assert(wire::kPipeWindow / 4 <= wire::kLeastPipeWindow);

void OriginStream::SendCredit(StreamId id, Share& share, bool last) {
  share.credited = share.written;
  if (share.written < share.base) return;  // still of a generation that its host has closed
  agent_.Send(share.host,
              wire::StreamCredit{id, share.generation, share.written - share.base, Window(), last});
}

// Room that was made is for what was written before, not for what those who live would write into it. No
// event tells when somebody reads from a pipe that is not full.
bool OriginStream::HoldsCredit() {
  constexpr std::chrono::milliseconds kLook{20};
  if (!before_room_) return false;
  if (BytesWaiting(pump()) <= *before_room_) {
    before_room_.reset();
    return false;
  }
  if (credit_look_ != 0) return true;
  credit_look_ = agent_.loop().After(kLook, [this] {
    credit_look_ = 0;
    if (HoldsCredit()) return;
    for (auto& [id, share] : shares_) {
      if (!share.closing && share.credited < share.written) SendCredit(id, share, false);
    }
  });
  return true;
}

void OriginStream::GiveCredit(StreamId id) {
  const auto found = shares_.find(id);
  if (found == shares_.end() || found->second.closing) return;
  if (found->second.credited < found->second.written) SendCredit(id, found->second, false);
}

void OriginStream::WhenWritten(StreamId id, wire::Patience patience, Action action) {
  const auto found = shares_.find(id);
  if (found == shares_.end() || found->second.written >= found->second.received) return action(false);
  found->second.waiting.push_back({found->second.received, patience, std::move(action)});
  WatchForStandstill();
}

// ---- Objects that take nothing ----
//
// Bytes may be on their way that natively no writer could have left: the pipe would have held it. Natively a
// process whose own bytes are in may end or signal while others wait for room, and its parent may read
// only when it has seen that. Which bytes are whose is not known here, so where nothing moves for a while
// room is made for all that was written, and where that cannot be done nobody is held up for ever. A reader
// outside of the session (a pager) waits for nothing of it, and what comes after an end must not overtake
// what came before: that is waited for as long as it takes. Who holds up calls that never wait (kRoom) hears
// at once that no room can be made.

void OriginStream::NoteProgress(uint64_t bytes) {
  const auto now = std::chrono::steady_clock::now();
  if (refuses_since_ && now - *refuses_since_ >= wire::kRoomPatience) {
    flowed_ = 0;
    is_read_ = false;
  }
  flowed_ += bytes;
  if (kind_ == Kind::kPipeWrite && !is_read_ && flowed_ > wire::kPipeWindow)
    is_read_ = flowed_ > BytesWaiting(pump()) + wire::kPipeWindow;
  if (queue_.empty()) {
    refuses_since_.reset();
  } else if (bytes > 0 || !refuses_since_) {
    refuses_since_ = now;
  }
}

bool OriginStream::IsAwaited() const {
  return refuses_since_ && std::any_of(shares_.begin(), shares_.end(),
                                       [](const auto& entry) { return !entry.second.waiting.empty(); });
}

void OriginStream::WatchForStandstill() {
  if (standstill_ != 0) agent_.loop().Cancel(std::exchange(standstill_, 0));
  if (!CanGetStuck(kind_) || !IsAwaited()) return;
  const bool pipe = kind_ == Kind::kPipeWrite;
  const auto stood = [this] { return std::chrono::steady_clock::now() - *refuses_since_; };
  const std::chrono::milliseconds first = pipe ? wire::kRoomPatience : wire::kStreamPatience;
  if (stood() < first) return LookAgainAfter(first - stood());
  // On a worker there are none.
  const bool is_read = !agent_.is_home() || IsReadInSession(pump(), agent_.session_id());
  if (is_read) MakeRoom();
  if (IsAwaited()) SayStuck(wire::Patience::kRoom);
  if (!is_read || !IsAwaited()) return;
  // More than the largest pipe holds. Who goes on now and writes at home overtakes it, so an end waits until
  // it is clear that nobody reads, rather than somebody taking long over each message.
  if (pipe && stood() < wire::kPipePatience) {
    // Where room was made, more may have come into it meanwhile.
    const bool moved = stood() < first;
    return LookAgainAfter(moved ? first : wire::kPipePatience - stood());
  }
  SayStuck(wire::Patience::kLong);
}

void OriginStream::SayStuck(wire::Patience patience) {
  std::vector<Action> stuck;
  for (auto& [id, share] : shares_) {
    std::erase_if(share.waiting, [&](auto& waiting) {
      if (waiting.patience != patience) return false;
      stuck.push_back(std::move(waiting.action));
      return true;
    });
  }
  for (auto& action : stuck) action(true);
}

// What goes in while room is made may have made somebody wait anew, who has set the timer already.
void OriginStream::LookAgainAfter(std::chrono::steady_clock::duration time) {
  if (standstill_ != 0) agent_.loop().Cancel(standstill_);
  standstill_ = agent_.loop().After(time, [this] {
    standstill_ = 0;
    WatchForStandstill();
  });
}

// Who has seen a writer's end may read until nothing is there: so everything should be in by then, if the
// kernel lets a pipe be that large. An ordinary user's may have 1 MiB.
void OriginStream::MakeRoom() {
  constexpr uint64_t kMost = 64 << 20;
  if (kind_ != Kind::kPipeWrite) return;
  const int had = fcntl(pump(), F_GETPIPE_SZ);
  const size_t held = BytesWaiting(pump());
  // A page is not always filled.
  const uint64_t wanted = static_cast<uint64_t>(had) + 2 * Waiting();
  for (const uint64_t size : {std::min(wanted, kMost), wire::kStreamPullLimit}) {
    if (size <= static_cast<uint64_t>(had) || fcntl(pump(), F_SETPIPE_SZ, static_cast<int>(size)) <= 0)
      continue;
    if (!before_room_) before_room_ = held;
    return Flush();
  }
}

uint64_t OriginStream::Waiting() const {
  uint64_t bytes = 0;
  for (const auto& [id, share] : shares_) bytes += share.received - share.written;
  return bytes;
}

}  // namespace elsewhere::runtime::stream
