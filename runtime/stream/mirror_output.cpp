// Mirror: bytes that processes of this host write, on their way to the origin.
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "runtime/object_counts.h"
#include "runtime/stream/mirror.h"

namespace elsewhere::runtime::stream {
namespace {

constexpr size_t kLargeTake = 48 << 10;
constexpr size_t kPipePage = 4096;  // a packet of a pipe is never larger
constexpr size_t kLargestDatagram = 256 << 10;

abi::ObjectKind CountedKind(Kind kind) {
  switch (kind) {
    case Kind::kPipeRead:
    case Kind::kPipeWrite:
      return abi::ObjectKind::kPipe;
    case Kind::kSocket:
      return abi::ObjectKind::kSocket;
    case Kind::kTerminal:
      return abi::ObjectKind::kTerminal;
    case Kind::kOutputFile:
      return abi::ObjectKind::kFile;
    case Kind::kEvent:
      return abi::ObjectKind::kEvent;
    case Kind::kTimer:
      return abi::ObjectKind::kTimer;
    default:
      return abi::ObjectKind::kListener;
  }
}

}  // namespace

void Mirror::Count(uint64_t operations, std::chrono::nanoseconds blocked) {
  ObjectCounts* const counts = agent_.object_counts();
  if (counts == nullptr) return;
  const HostId host = wire::HostOf(id_);
  const std::string name = entry_.path.empty() ? std::to_string(id_) : entry_.path;
  counts->Add(CountedKind(kind_), host == wire::kHome ? name : name + " of host " + std::to_string(host),
              operations, blocked);
}

// Writers wait while the window is full.
void Mirror::SetBlocked(bool blocked) {
  if (blocked == blocked_) return;
  blocked_ = blocked;
  for (const auto& place : places_) {
    if (blocked) place->object->WindowIsFull();
  }
  if (agent_.object_counts() == nullptr) return;
  const auto now = std::chrono::steady_clock::now();
  if (!blocked) Count(0, now - blocked_since_);
  blocked_since_ = now;
}

uint64_t Mirror::Room() const {
  const uint64_t ahead = sent_ - acknowledged_;
  return ahead >= window_ ? 0 : window_ - ahead;
}

// Sends what processes have written. Leaves with the object empty, the window full, or the object gone.
void Mirror::Forward(Place* place) {
  for (bool more = true; more;) {
    const uint64_t room = std::min(Room(), wire::kStreamPart);
    if (room == 0) {
      SetBlocked(true);
      for (auto& each : places_) SetInterest(*each);
      return CheckSent();
    }
    Taken taken;
    more = TakeSome(place, taken, room);
    if (taken.bytes.size() >= kLargeTake) place->object->Enlarge();
    place->object->FitPackets(taken.records.size(), taken.bytes.size());
    place->taken += std::max(taken.records.size(), taken.bytes.size() / kPipePage);
    if (!taken.bytes.empty() || !taken.records.empty()) SendData(std::move(taken));
  }
  const bool ended = place->output_ended;
  CheckSent();
  if (ended && Has(place)) OutputEnded(place);  // who waited for that may have been the last to hold it
}

// What was written to it has been taken: small writes that follow closely are left to gather.
void Mirror::LetGather(Place* place) {
  if (!Has(place) || place->moment != 0) return;
  const size_t taken = std::exchange(place->taken, 0);
  if (place->small_writes.MayGather(std::chrono::steady_clock::now(), taken) && place->added) {
    place->moment = agent_.loop().After(SmallWrites::kMoment, [this, place] {
      place->moment = 0;
      const bool done = event_first_ && event_first_();
      if (!done && Has(place)) Forward(place);
      LetGather(place);
    });
  }
  SetInterest(*place);
}

// TakeSome marks the end of the output; whether the holders are gone too, poll says.
void Mirror::OutputEnded(Place* place) {
  if (place->object->agent_end() < 0) return;
  const bool held = kind_ == Kind::kSocket && (PollNow(place->object->agent_end(), 0) & POLLHUP) == 0;
  if (!held) return Gone(place);
  if (!shutdown_sent_) agent_.Send(origin_, wire::StreamShutdown{id_});
  shutdown_sent_ = true;
  SetInterest(*place);
}

// Takes up to `room` bytes. False: there is nothing more for now; at the end of output, output_ended is set.
bool Mirror::TakeSome(Place* place, Taken& all, uint64_t room) {
  const bool datagrams = IsCounter(kind_) || this->datagrams();
  const bool has_records = datagrams || kind_ == Kind::kPipeWrite;
  std::vector<uint8_t>& bytes = all.bytes;
  if (!place->next_passed.empty()) {
    bytes = std::exchange(place->next, {});
    all.passed = std::exchange(place->next_passed, {});
    if (has_records) all.records.push_back(static_cast<uint32_t>(bytes.size()));
    return true;  // nothing else joins these bytes: a read natively ends with them
  }
  while (bytes.size() < room) {
    if (kind_ == Kind::kPipeWrite && !all.records.empty() && all.records.back() == kPipePage &&
        place->object->TakePackets(room + kPipePage - bytes.size(), bytes, all.records) > 0)
      continue;
    const size_t at = bytes.size();
    const size_t unit = datagrams     ? kLargestDatagram
                        : has_records ? kPipePage
                                      : std::min(std::max(place->object->Untaken(), kPipePage), room - at);
    const bool small = unit <= kPipePage;  // growing the vector first would clear a page for each packet
    uint8_t page[kPipePage];
    if (!small) bytes.resize(at + unit);
    std::vector<Descriptor> passed;
    const auto taken =
        place->object->Take(small ? std::span(page, unit) : std::span(bytes).subspan(at), passed);
    const size_t got = taken ? *taken : 0;
    if (small) {
      bytes.insert(bytes.end(), page, page + got);
    } else {
      bytes.resize(at + got);
    }
    if (!taken) {
      if (taken.error().code == EINTR) continue;
      if (taken.error().code != EAGAIN) place->output_ended = true;
      return false;
    }
    if (*taken == 0 && !datagrams) {
      place->output_ended = true;
      return false;
    }
    if (!passed.empty() && (at > 0 || !all.records.empty())) {
      place->next.assign(bytes.begin() + static_cast<ptrdiff_t>(at), bytes.end());
      place->next_passed = std::move(passed);
      bytes.resize(at);
      return true;
    }
    if (has_records) all.records.push_back(static_cast<uint32_t>(*taken));
    if (!passed.empty()) {
      all.passed = std::move(passed);
      return true;
    }
  }
  return true;
}

void Mirror::SendData(Taken taken) {
  const uint64_t position = sent_;
  sent_ += taken.bytes.size();
  Count(std::max<size_t>(taken.records.size(), 1), std::chrono::nanoseconds::zero());
  auto passed = passing_.Pack(origin_, std::move(taken.passed));
  if (send_first_) send_first_();
  outbox_.Send(origin_, wire::StreamData{id_,
                                         generation_,
                                         position,
                                         std::move(taken.records),
                                         std::move(taken.bytes),
                                         {},
                                         std::move(passed)});
}

void Mirror::ForwardAll() {
  for (Place* place : Places()) {
    if (Has(place) && !blocked_ && !place->output_ended && writable()) Forward(place);
  }
}

// Only what is here now: others may go on writing. Of a pipe a copy, so that it stays as full as natively:
// each end would make room otherwise, which those who live fill again.
void Mirror::ForwardWaiting() {
  if (!writable()) return;
  ForwardAll();
  for (Place* place : Places()) {
    if (!Has(place) || !blocked_ || place->output_ended) continue;
    const uint64_t target = sent_ + place->next.size() + place->object->Untaken();
    for (bool more = true; more && sent_ < target;) {
      Taken taken;
      if (!place->object->Copy(taken.bytes, taken.records))
        more = TakeSome(place, taken, std::min(target - sent_, wire::kStreamPart));
      if (!taken.bytes.empty() || !taken.records.empty()) SendData(std::move(taken));
    }
    if (place->output_ended) OutputEnded(place);
  }
  CheckSent();
}

void Mirror::CheckSent() {
  const bool more =
      std::any_of(places_.begin(), places_.end(), [](const auto& place) { return !place->output_ended; });
  std::vector<std::function<void()>> ready;
  std::erase_if(waiting_, [&](auto& waiting) {
    if (waiting.first > sent_ && more) return false;
    ready.push_back(std::move(waiting.second));
    return true;
  });
  for (auto& action : ready) action();
}

void Mirror::WhenSent(std::function<void()> action) {
  if (!writable() || places_.empty()) return action();
  uint64_t target = sent_;
  if (!blocked_) {
    ForwardAll();
    if (!blocked_ || places_.empty()) return action();
    target = sent_;
  }
  for (const auto& place : places_) {
    if (!place->output_ended) target += place->next.size() + place->object->Untaken();
  }
  if (target == sent_) return action();
  waiting_.emplace_back(target, std::move(action));
}

void Mirror::OnCredit(const wire::StreamCredit& credit) {
  if (credit.generation != generation_) return;
  acknowledged_ = std::max(acknowledged_, std::min(credit.position, sent_));
  window_ = credit.window;
  if (!blocked_ || Room() == 0) return;
  SetBlocked(false);
  for (Place* place : Places()) {
    if (!Has(place) || place->output_ended) continue;
    SetInterest(*place);
    if (!blocked_) Forward(place);
  }
}

// The origin takes no more. Writers here learn it as they would there; who sends datagrams to nobody gets no
// signal, so theirs are thrown away.
void Mirror::OnBroken(int error) {
  if (datagrams() && error != EPIPE) return;
  acknowledged_ = sent_;
  SetBlocked(false);
  for (Place* place : Places()) {
    Unregister(*place);
    place->output_ended = true;
    place->object->EndOutput();
    // A pipe that nobody reads at its origin has no further use there; a socket may still be read.
    if (kind_ == Kind::kSocket) {
      SetInterest(*place);
    } else {
      Gone(place);
    }
  }
  CheckSent();
}

}  // namespace elsewhere::runtime::stream
