// Mirror: bytes towards the processes of this host, and readiness.
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "runtime/stream/mirror.h"
#include "shim/wire/stream_call.h"

namespace elsewhere::runtime::stream {

namespace {

constexpr size_t kReadAhead = 32 << 10;  // what is taken at once where nobody else can read

}  // namespace

// ---- Requests ----

uint64_t Mirror::Ask(Place& place, uint64_t bytes, bool wait, bool ahead, Incarnation reader) {
  const uint64_t number = numbers_.Next();
  Request& request = requests_[number];
  request.place = &place;
  const bool bytes_follow = kind_ == Kind::kPipeRead || (kind_ == Kind::kSocket && !datagrams());
  const uint64_t room = wait && bytes_follow ? place.object->RoomFor(kReadAhead) : 0;
  outbox_.Send(origin_, wire::StreamPull{id_, number, bytes, room, wait, !ahead, false, ahead, reader});
  return number;
}

void Mirror::Withdraw(uint64_t number, Request& request) {
  if (request.withdrawn) return;
  request.withdrawn = true;
  outbox_.Send(origin_, wire::StreamPull{id_, number, 0, 0, false, false, true});
}

void Mirror::Pull(CallId call, Incarnation reader, const ObjectId& object, uint64_t bytes, PullMode mode,
                  bool continues, bool stays) {
  const bool wait = mode != PullMode::kAtOnce && mode != PullMode::kMoreAtOnce;
  const bool more = mode == PullMode::kMore || mode == PullMode::kMoreAtOnce;
  Place* const place = Find(object);
  if (place == nullptr || kind_ == Kind::kPipeWrite || kind_ == Kind::kOutputFile) {
    return Complete(call, -1, EBADF);
  }
  if (agent_.object_counts() != nullptr) counted_.emplace_back(call, std::chrono::steady_clock::now());
  if (IsCounter(kind_)) ForwardAll();  // a process reads what it has written itself
  if (!Hide(*place)) return Complete(call, -1, EBADF);
  if (const size_t unread = place->object->Unread(); unread > 0 && !more) {
    return Complete(call, static_cast<int64_t>(unread));
  }
  // Somebody watches a socket, and its bytes are on their way already: they are this call's. A terminal's
  // reader asks for itself, because it may be refused where who watches is not.
  for (auto& [number, request] : requests_) {
    if (kind_ == Kind::kTerminal || !wait || request.place != place || request.has_call ||
        request.withdrawn) {
      continue;
    }
    request.call = call;
    request.has_call = true;
    return;
  }
  const size_t room = place->object->RoomFor(static_cast<size_t>(std::min(bytes, wire::kStreamPullLimit)));
  const uint64_t number = Ask(*place, std::max<uint64_t>(room, 1), wait, false, reader);
  Request& request = requests_[number];
  request.call = call;
  request.has_call = true;
  request.continues = continues;
  request.wanted = bytes;
  request.waits = wait;
  request.stays = stays;
}

void Mirror::GiveBack(const ObjectId& object) {
  Place* const place = Find(object);
  if (place != nullptr && kind_ == Kind::kPipeRead && Hide(*place)) ReturnUnread(*place);
}

void Mirror::CallCancelled(CallId call) {
  if (std::erase(watch_calls_, call) > 0) return Complete(call, -1, EINTR);
  for (auto& [number, request] : requests_) {
    if (!request.has_call || request.call != call) continue;
    request.cancelled = true;
    return Withdraw(number, request);
  }
}

void Mirror::Complete(CallId call, int64_t result, int error, std::span<const uint8_t> payload) {
  const auto counted =
      std::find_if(counted_.begin(), counted_.end(), [call](const auto& each) { return each.first == call; });
  if (counted != counted_.end()) {
    Count(1, std::chrono::steady_clock::now() - counted->second);
    counted_.erase(counted);
  }
  agent_.Complete(call, result, error, payload);
}

void Mirror::CallDropped(CallId call) {
  std::erase_if(counted_, [call](const auto& each) { return each.first == call; });
  if (std::erase(watch_calls_, call) > 0) return;
  for (auto& [number, request] : requests_) {
    if (!request.has_call || request.call != call) continue;
    request.has_call = false;
    return Withdraw(number, request);
  }
}

void Mirror::OnPulled(wire::StreamPulled&& pulled) {
  const auto found = requests_.find(pulled.request);
  if (found == requests_.end()) return;
  Request& request = found->second;
  auto passed = passing_.Unpack(pulled.passed);
  if (AnswersCalls(kind_)) return AnswerEvent(found->first, std::move(pulled), std::move(passed));
  if (IsUnwanted(request)) {
    request.unwanted.insert(request.unwanted.end(), pulled.bytes.begin(), pulled.bytes.end());
    pulled.bytes.clear();
    if (pulled.last && !request.unwanted.empty()) {
      Return(std::move(request.unwanted));
      pulled.error = EAGAIN;
    }
  }
  request.got += pulled.bytes.size();
  const bool message = datagrams() && !pulled.end && pulled.error == 0;
  if (message || !pulled.bytes.empty()) {
    if (request.place == nullptr) {
      Return(std::move(pulled.bytes));
    } else {
      Give(*request.place, pulled.bytes, std::move(passed));
      if (places_.empty()) return;
    }
  }
  if (!pulled.last) return;
  const Request done = request;
  requests_.erase(found);
  if (done.place == nullptr) return;
  if (pulled.end && kind_ == Kind::kPipeRead) {
    ready_events_ = POLLHUP;
    Show(*done.place);
    done.place->input_ended = true;
  }
  if (pulled.end && kind_ == Kind::kSocket) done.place->object->EndInput();
  Answer(done, pulled);
  if (done.got > 0 || message) ServeOthers(done.place, done.got);
  // What was readable may not be any more, or still be: whoever watches is told again.
  if (!watched() || pulled.end || pulled.error == ERESTART) return;
  if (fetches_ahead()) {
    FetchAhead(*done.place);
  } else {
    AskReadiness();
  }
}

// The value is the call's result; one that nobody waits for any more goes back into the count.
void Mirror::AnswerEvent(uint64_t number, wire::StreamPulled&& pulled, std::vector<Descriptor> passed) {
  const Request request = requests_[number];
  requests_.erase(number);
  if (!passed.empty() && request.has_call) {
    AnswerAccept(request.call, pulled, std::move(passed.front()));
  } else if (!passed.empty()) {
    agent_.Send(origin_,
                wire::StreamReturn{id_, std::move(pulled.bytes), passing_.Pack(origin_, std::move(passed))});
  } else if (request.has_call && !pulled.bytes.empty()) {
    Complete(request.call, static_cast<int64_t>(pulled.bytes.size()), 0, pulled.bytes);
  } else if (!pulled.bytes.empty()) {
    agent_.Send(origin_, wire::StreamReturn{id_, std::move(pulled.bytes), {}});
  } else if (request.has_call) {
    Complete(request.call, -1, request.cancelled ? EINTR : pulled.error);
  }
  if (watched()) AskReadiness();
}

void Mirror::AnswerAccept(CallId call, const wire::StreamPulled& pulled, Descriptor connection) {
  wire::Accepted accepted{};
  accepted.token = agent_.Offer(store::UniqueFd(connection.Release()), call);
  accepted.address_size = static_cast<uint32_t>(std::min(pulled.bytes.size(), sizeof accepted.address));
  std::memcpy(accepted.address, pulled.bytes.data(), accepted.address_size);
  Complete(call, 0, 0, std::span(reinterpret_cast<const uint8_t*>(&accepted), sizeof accepted));
}

// Whoever asked was interrupted before the first byte came. See AskForInput in preload/stream.cpp.
bool Mirror::IsUnwanted(const Request& request) const {
  return request.cancelled && !request.continues && request.got == 0 && kind_ == Kind::kPipeRead;
}

void Mirror::Answer(const Request& request, const wire::StreamPulled& pulled) {
  if (!request.has_call) return;
  const size_t unread = request.got > 0 ? request.got : request.place->object->Unread();
  if (request.is_watch) return Complete(request.call, unread > 0 ? POLLIN : Readiness(*request.place));
  if (unread > 0) return Complete(request.call, static_cast<int64_t>(unread));
  if (pulled.error == EAGAIN && request.cancelled) return Complete(request.call, -1, EINTR);
  if (pulled.error != 0) return Complete(request.call, -1, pulled.error);
  Complete(request.call, 0);
}

// Bytes came that their asker will not read (it died, or did not ask but watch): the next one here has them.
void Mirror::ServeOthers(Place* place, uint64_t got) {
  for (auto& [number, request] : requests_) {
    if (request.place != place || !request.has_call) continue;
    // Of a terminal only the process's side could tell; nobody has been told of these bytes.
    const size_t unread = kind_ == Kind::kTerminal ? std::exchange(got, 0) : place->object->Unread();
    if (unread == 0) return;
    Complete(request.call, request.is_watch ? POLLIN : static_cast<int64_t>(unread));
    request.has_call = false;
    Withdraw(number, request);
    return;
  }
}

void Mirror::Give(Place& place, std::span<const uint8_t> bytes, std::vector<Descriptor> passed) {
  if (!Hide(place)) {
    Return({bytes.begin(), bytes.end()});
    return Gone(&place);
  }
  if (!passed.empty() || datagrams()) {
    const size_t at = place.backlog.size();
    place.backlog_pieces.push_back({at, at + bytes.size(), std::move(passed)});
  }
  place.backlog.insert(place.backlog.end(), bytes.begin(), bytes.end());
  FlushBacklog(place);
}

void Mirror::FlushBacklog(Place& place) {
  size_t done = 0;
  static const std::vector<Descriptor> kNone;
  auto& pieces = place.backlog_pieces;
  while (done < place.backlog.size() || !pieces.empty()) {
    const bool now = !pieces.empty() && pieces.front().at == done;
    const size_t border = pieces.empty() ? place.backlog.size()
                          : now          ? pieces.front().end
                                         : pieces.front().at;
    const auto given = place.object->Give(std::span(place.backlog).subspan(done, border - done),
                                          now ? pieces.front().descriptors : kNone);
    if (!given && given.error().code == EINTR) continue;
    if (!given) break;  // full; or no reader, which is an event of its own
    if (now) pieces.pop_front();
    done += *given;
  }
  for (auto& piece : pieces) {
    piece.at -= done;
    piece.end -= done;
  }
  place.backlog.erase(place.backlog.begin(), place.backlog.begin() + static_cast<ptrdiff_t>(done));
  SetInterest(place);
}

// ---- Readiness ----

void Mirror::Show(Place& place) {
  if ((kind_ != Kind::kPipeRead && !AnswersCalls(kind_)) || place.object->shows_readable()) return;
  if (kind_ == Kind::kPipeRead) Unregister(place);
  place.object->ShowReadable();
}

// False: no process holds the object.
bool Mirror::Hide(Place& place) {
  if (!place.object->shows_readable()) return true;
  if (!place.object->HideReadable()) return false;
  place.input_ended = false;
  SetInterest(place);
  return true;
}

short Mirror::Readiness(const Place& place) const {
  if (place.object->Unread() > 0) return POLLIN;
  if (place.input_ended) return POLLHUP;
  return place.object->shows_readable() ? static_cast<short>(ready_events_) : short{0};
}

// A later question replaces an earlier one at the origin, and its answer serves all who wait for one.
void Mirror::AskReadiness() {
  watch_request_ = numbers_.Next();
  agent_.Send(origin_, wire::StreamWatch{id_, watch_request_, true, true});
}

// An epoll instance does not say when it has been asked again, so for one there is always a request under way
// while the local object takes what comes; poll and select ask each time.
void Mirror::FetchAhead(Place& place) {
  for (const auto& [number, request] : requests_) {
    if (request.place == &place && !request.withdrawn) return;
  }
  const bool always = !until_closed_.empty() && !place.has_backlog();
  if (always || place.object->Unread() == 0)
    Ask(place, place.object->RoomFor(64 << 10), true, true, watcher_);
}

void Mirror::Watch(CallId call, const Call& watcher, const ObjectId& object, WatchMode mode, bool answer) {
  Place* const place = Find(object);
  if (place == nullptr || kind_ == Kind::kPipeWrite || kind_ == Kind::kOutputFile) {
    return Complete(call, -1, EBADF);
  }
  if (IsCounter(kind_)) ForwardAll();
  const int32_t process = watcher.kernel_pid;
  watcher_ = watcher.incarnation;
  const short now = Readiness(*place);
  if (mode == WatchMode::kOff || mode == WatchMode::kForget) Disarm(process, mode == WatchMode::kForget);
  if (mode != WatchMode::kOnce && mode != WatchMode::kUntilClosed) return Complete(call, now);
  (mode == WatchMode::kOnce ? once_ : until_closed_).insert(process);
  if (now != 0) {
    if (fetches_ahead()) FetchAhead(*place);
    return Complete(call, now);
  }
  if (fetches_ahead()) {
    if (!answer) {
      FetchAhead(*place);
      return Complete(call, 0);
    }
    Request& request = requests_[Ask(*place, place->object->RoomFor(64 << 10), false, true, watcher_)];
    request.call = call;
    request.has_call = true;
    request.is_watch = true;
    return FetchAhead(*place);
  }
  AskReadiness();
  if (answer) {
    watch_calls_.push_back(call);
  } else {
    Complete(call, 0);
  }
}

void Mirror::OnReady(const wire::StreamReady& ready) {
  if (ready.request != watch_request_) return;
  ready_events_ = ready.events;
  if (ready.events != 0 && watched()) {
    for (auto& place : places_) {
      if (!place->has_backlog()) Show(*place);
    }
  }
  for (const CallId call : std::exchange(watch_calls_, {})) Complete(call, ready.events);
}

// The process does not watch any more. With nobody left the pipe is made to look empty again, and the origin
// stops watching.
void Mirror::Disarm(int32_t process, bool until_closed) {
  const size_t before = once_.size() + until_closed_.size();
  once_.erase(process);
  if (until_closed) until_closed_.erase(process);
  if (before == 0 || watched()) return;
  if (watch_request_ != 0) agent_.Send(origin_, wire::StreamWatch{id_, 0, false, false});
  watch_request_ = 0;
  ready_events_ = 0;
  for (auto& [number, request] : requests_) {
    if (!request.has_call && request.place != nullptr) Withdraw(number, request);
  }
  for (Place* place : Places()) {
    if (!place->input_ended && !Hide(*place)) Gone(place);
  }
}

}  // namespace elsewhere::runtime::stream
