// Mirrors: what waits until processes' bytes have been sent, or are in: their ends and their releases.
#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "runtime/stream/mirrors.h"

namespace elsewhere::runtime::stream {
namespace {

// What a descriptor of a process refers to, if it still has it and the kernel tells.
std::optional<ObjectId> ObjectAt(int32_t process, int number) {
  const std::string path = "/proc/" + std::to_string(process) + "/fd/" + std::to_string(number);
  struct stat status;
  if (stat(path.c_str(), &status) != 0) return std::nullopt;
  return IdOf(status);
}

}  // namespace

void Mirrors::WhenSent(const StreamSet& streams, wire::Patience patience, InCallback done) {
  struct Left {
    size_t count = 1;
    bool sent = true;
  };
  const auto left = std::make_shared<Left>();
  const auto one_less = [this, left, done = std::move(done)](bool sent) {
    left->sent &= sent;
    if (--left->count > 0) return;
    outbox_.Flush();
    done(left->sent);
  };
  for (const StreamId id : *streams) {
    Mirror* mirror = OfStream(id);
    if (mirror == nullptr || !mirror->writable()) continue;
    ++left->count;
    WhenSentOrStuck(*mirror, patience, one_less);
  }
  one_less(true);
}

void Mirrors::WhenSentOrStuck(Mirror& mirror, wire::Patience patience, InCallback done) {
  const auto once = std::make_shared<InCallback>(std::move(done));
  mirror.WhenSent([once] {
    if (*once) std::exchange(*once, nullptr)(true);
  });
  if (*once && CanGetStuck(mirror.kind())) AskWhetherStuck(mirror.id(), patience, once);
}

// With the window full, the origin alone knows whether anything moves. Where it does, credit has come before
// the answer.
void Mirrors::AskWhetherStuck(StreamId id, wire::Patience patience, const Once& done) {
  passing_.DrainAt(NextHop(id), {id}, patience, [this, id, patience, done](bool stuck) {
    if (!*done) return;
    if (!stuck) return AskWhetherStuck(id, patience, done);
    std::exchange(*done, nullptr)(false);
  });
}

void Mirrors::Drain(const Process& process, Component::DrainReason reason, std::function<void()> done) {
  CatchUp();
  const StreamSet streams = StreamsOf(process);
  if (streams == nullptr && !reason.by_home) return done();
  if (!reason.ended) {
    const auto go_on = [done = std::move(done)](bool) { done(); };
    const StreamSet own = streams == nullptr ? std::make_shared<std::vector<StreamId>>()
                                             : ForwardWritten(process, *streams, reason.wrote);
    if (reason.by_home) return WhenHomeHas(own, wire::Patience::kLong, go_on);
    if (reason.ahead == nullptr) return WhenIn(own, wire::Patience::kLong, go_on);
    reason.ahead->insert(own->begin(), own->end());
    return WhenSent(own, wire::Patience::kLong, go_on);
  }
  // Its bytes go whatever the window says, since they are written; home waits for them to be in.
  for (const StreamId id : *streams) {
    if (Mirror* mirror = OfStream(id)) mirror->ForwardWaiting();
  }
  outbox_.Flush();
  if (!reason.killed) SayLast(process.incarnation, streams);
  done();
}

// Sends all, as far as it may be sent. Returns those whose bytes of the process itself may have to wait for
// room: natively it would still be at its write. What others have written there is no concern of its: they
// would be at it, and what it releases may be what their reader waits for, the lock of a queue.
Mirrors::StreamSet Mirrors::ForwardWritten(const Process& process, const std::vector<StreamId>& streams,
                                           uint64_t wrote) {
  for (const StreamId id : streams) {
    if (Mirror* mirror = OfStream(id)) mirror->ForwardAll();
  }
  outbox_.Flush();
  auto own = std::make_shared<std::vector<StreamId>>();
  if ((wrote & abi::kWroteAhead) == 0) return own;
  std::copy_if(streams.begin(), streams.end(), std::back_inserter(*own),
               [this](StreamId id) { return MayBeAhead(id); });
  if (own->empty() || (wrote & abi::kWroteAny) != 0) return own;
  std::set<StreamId> written;
  for (wrote &= ~abi::kWroteAhead; wrote != 0; wrote &= wrote - 1) {
    const auto object = ObjectAt(process.kernel_pid, std::countr_zero(wrote));
    if (!object) return own;
    written.insert(StreamOf(*object));
  }
  std::erase_if(*own, [&written](StreamId id) { return written.count(id) == 0; });
  return own;
}

bool Mirrors::MayBeAhead(StreamId id) {
  const Mirror* const mirror = OfStream(id);
  if (mirror == nullptr) return unsettled_.count(id) != 0;
  return CanGetStuck(mirror->kind()) && (mirror->blocked() || mirror->unacknowledged());
}

void Mirrors::AwaitIn(const std::set<StreamId>& streams, wire::Patience patience, InCallback done) {
  auto ahead = std::make_shared<std::vector<StreamId>>();
  std::copy_if(streams.begin(), streams.end(), std::back_inserter(*ahead),
               [this](StreamId id) { return MayBeAhead(id); });
  WhenIn(ahead, patience, std::move(done));
}

void Mirrors::WhenIn(const StreamSet& streams, wire::Patience patience, InCallback done) {
  if (streams->empty()) return done(true);
  WhenHomeHas(streams, patience, std::move(done));
}

void Mirrors::WhenHomeHas(const StreamSet& streams, wire::Patience patience, InCallback done) {
  WhenSent(streams, patience, [this, streams, patience, done = std::move(done)](bool sent) {
    if (!sent && patience == wire::Patience::kRoom) return done(false);
    passing_.DrainAt(wire::kHome, *streams, patience, [done](bool stuck) { done(!stuck); });
  });
}

void Mirrors::SayLast(Incarnation incarnation, const StreamSet& streams) {
  const auto open = Unacknowledged(streams);
  if (!open.empty()) agent_.Send(NextHop(open.front()), wire::StreamLast{incarnation, open});
}

std::vector<StreamId> Mirrors::Unacknowledged(const StreamSet& streams) {
  std::vector<StreamId> open;
  for (const StreamId id : *streams) {
    Mirror* mirror = OfStream(id);
    const bool unsettled = (mirror != nullptr && mirror->unacknowledged()) || unsettled_.count(id) != 0;
    if (unsettled) open.push_back(id);
  }
  return open;
}

}  // namespace elsewhere::runtime::stream
