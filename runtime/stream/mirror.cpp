#include "runtime/stream/mirror.h"

#include <poll.h>
#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace elsewhere::runtime::stream {
Mirror::Mirror(Agent& agent, Passing& passing, Outbox& outbox, Changes& changes, RequestNumbers& numbers,
               wire::JobDescriptor entry, HostId origin, std::function<void(Mirror&)> closed)
    : agent_(agent),
      passing_(passing),
      outbox_(outbox),
      changes_(changes),
      numbers_(numbers),
      entry_(std::move(entry)),
      id_(entry_.stream),
      origin_(origin),
      kind_(static_cast<Kind>(entry_.kind)),
      closed_(std::move(closed)) {}

Mirror::~Mirror() {
  for (auto& place : places_) Unregister(*place);
}

Result<Descriptor> Mirror::OpenForJob(const ObjectTraits& traits, int status_flags) {
  if (generation_ == 0) generation_ = traits.grant;
  grants_.Add(traits.grant);
  window_ = traits.window;
  if (places_.empty() || !places_.front()->object->CanOpenAgain()) {
    auto object = LocalObject::Create(kind_, traits);
    if (!object) return object.error();
    places_.push_back(std::make_unique<Place>());
    places_.back()->object = std::move(*object);
  }
  Place& place = *places_.back();
  auto opened = place.object->OpenForProcesses(status_flags);
  if (!opened) return opened;
  SetInterest(place);
  if (traits.broken != 0) OnBroken(traits.broken);
  return opened;
}

std::vector<ObjectId> Mirror::Objects() const {
  std::vector<ObjectId> ids;
  for (const auto& place : places_) ids.push_back(place->object->id());
  return ids;
}

Mirror::Place* Mirror::Find(const ObjectId& object) {
  for (auto& place : places_) {
    if (place->object->id() == object) return place.get();
  }
  return nullptr;
}

std::vector<Mirror::Place*> Mirror::Places() const {
  std::vector<Place*> all;
  for (const auto& place : places_) all.push_back(place.get());
  return all;
}

bool Mirror::Has(const Place* place) const {
  return std::any_of(places_.begin(), places_.end(),
                     [place](const auto& each) { return each.get() == place; });
}

// ---- Events ----

// EPOLLHUP and EPOLLERR come without being asked for, so a descriptor that has hung up and must not be read
// now (the window is full) is taken out of the loop.
void Mirror::SetInterest(Place& place) {
  if (place.object->agent_end() < 0) return;
  uint32_t interest = 0;
  const bool takes = writable() && !place.output_ended;
  if (takes && !blocked_ && place.moment == 0) interest |= EPOLLIN;
  if (place.has_backlog()) interest |= EPOLLOUT;
  if (takes && blocked_ && interest == 0) return Unregister(place);
  if (place.added && place.interest == interest) return;
  place.interest = interest;
  if (place.added) return agent_.loop().Modify(place.object->agent_end(), interest);
  Place* const at = &place;
  place.added =
      agent_.loop()
          .Add(place.object->agent_end(), interest, [this, at](uint32_t events) { OnEvent(at, events); })
          .ok();
  if (place.added) changes_.Add(place.object->agent_end(), id_);
}

void Mirror::Unregister(Place& place) {
  if (place.moment != 0) agent_.loop().Cancel(std::exchange(place.moment, 0));
  if (place.added) {
    agent_.loop().Remove(place.object->agent_end());
    changes_.Remove(place.object->agent_end());
  }
  place.added = false;
}

void Mirror::CatchUp() {
  for (Place* place : Places()) {
    if (Has(place) && writable() && !blocked_ && !place->output_ended) Forward(place);
    if (Has(place)) LookForHolders(place);
  }
}

void Mirror::OnEvent(Place* place, uint32_t events) {
  const bool done = event_first_ && event_first_();
  if (!Has(place)) return;
  if ((events & EPOLLOUT) != 0) {
    FlushBacklog(*place);
    if (fetches_ahead() && !until_closed_.empty()) FetchAhead(*place);
  }
  if (kind_ == Kind::kPipeRead) {
    // What the loop saw may be over: the job of another reader can have come in the same round, and opened
    // it.
    if ((events & EPOLLERR) != 0 && (PollNow(place->object->agent_end(), 0) & POLLERR) != 0) Gone(place);
    return;
  }
  if (kind_ == Kind::kListener) return LookForHolders(place);
  if (place->output_ended) {
    if ((events & (EPOLLHUP | EPOLLERR)) != 0) Gone(place);
    return;
  }
  if (!done) Forward(place);
  LetGather(place);
}

// No process holds this object any more; or one does, of a socket that has ended in both directions, and what
// it waits for is the kernel's answer (EBADF: none of ours).
void Mirror::Gone(Place* place) {
  Unregister(*place);
  for (auto& [number, request] : requests_) {
    if (request.place != place) continue;
    request.place = nullptr;
    Withdraw(number, request);
    if (std::exchange(request.has_call, false)) Complete(request.call, -1, EBADF);
  }
  ReturnUnread(*place);
  std::erase_if(places_, [place](const auto& each) { return each.get() == place; });
  if (!places_.empty()) return;
  for (const CallId call : std::exchange(watch_calls_, {})) Complete(call, -1, EBADF);
  if (moving_ == nullptr) outbox_.Send(origin_, wire::StreamClose{id_, grants_.AsPairs()});
  SetBlocked(false);
  CheckSent();
  closed_(*this);
}

// What was asked for and never read belongs to the next reader, wherever that is.
void Mirror::ReturnUnread(Place& place) {
  std::vector<uint8_t> unread = place.object->TakeUnread();
  unread.insert(unread.end(), place.backlog.begin(), place.backlog.end());
  place.backlog.clear();
  const auto pieces = std::exchange(place.backlog_pieces, {});
  if (!datagrams()) {
    if (!unread.empty()) Return(std::move(unread));
    return;
  }
  for (auto piece = pieces.rbegin(); piece != pieces.rend(); ++piece)
    Return({unread.begin() + static_cast<ptrdiff_t>(piece->at),
            unread.begin() + static_cast<ptrdiff_t>(piece->end)});
}

void Mirror::Return(std::vector<uint8_t> bytes) {
  if (moving_ != nullptr) return moving_->PutBack(bytes);
  agent_.Send(origin_, wire::StreamReturn{id_, std::move(bytes), {}});
}

// ---- A pipe that moves here

void Mirror::KeepPlace(int32_t process, bool begin) {
  if (begin) {
    ++changing_[process];
  } else if (const auto found = changing_.find(process); found != changing_.end() && --found->second <= 0) {
    changing_.erase(found);
  }
}

bool Mirror::CanMove(uint32_t grants) const {
  if (places_.size() != 1 || grants_.last() != grants || moving_ != nullptr || !changing_.empty())
    return false;
  const Place& place = *places_.front();
  if (place.output_ended || place.input_ended || place.has_backlog() || place.object->agent_end() < 0)
    return false;
  if (place.object->has_copied() || watched() || !watch_calls_.empty()) return false;
  return std::all_of(requests_.begin(), requests_.end(), [](const auto& entry) {
    const Request& request = entry.second;
    return request.has_call && !request.is_watch && !request.cancelled && !request.withdrawn;
  });
}

Descriptor Mirror::Leave() {
  Unregister(*places_.front());
  Descriptor pipe = places_.front()->object->ReleaseAgentEnd();
  places_.clear();
  acknowledged_ = sent_;
  SetBlocked(false);
  // Who waits for room goes on when the move is whole: a process that ends then has either the one or the
  // other.
  agent_.loop().Defer([waiting = std::exchange(waiting_, {})] {
    for (const auto& [position, action] : waiting) action();
  });
  closed_(*this);
  return pipe;
}

std::unique_ptr<LocalObject> Mirror::EndMove(std::vector<MovedPipe::Request>& requests) {
  Place& place = *places_.front();
  Unregister(place);
  if (!place.backlog.empty()) Return(std::exchange(place.backlog, {}));
  for (auto& [number, request] : std::exchange(requests_, {})) {
    if (!request.has_call) continue;
    if (request.cancelled) {
      Complete(request.call, -1, EINTR);
    } else {
      requests.push_back({request.call, 0, request.wanted, request.waits, request.stays});
    }
  }
  auto object = std::move(place.object);
  places_.clear();
  moving_ = nullptr;
  closed_(*this);
  return object;
}

void Mirror::Abandon() {
  while (!places_.empty()) Gone(places_.back().get());
}

// ---- Who holds it

// An eventfd's stand-in has all its ends here. At the end of a pipe's input the agent has no end of it left,
// and must not open one to look: a process that was told of the end would wait for it for ever.
bool Mirror::holders_unseen() const {
  return IsCounter(kind_) ||
         std::any_of(places_.begin(), places_.end(), [](const auto& place) { return place->input_ended; });
}

void Mirror::LookForHolders() {
  for (Place* place : Places()) {
    if (Has(place)) LookForHolders(place);
  }
}

void Mirror::HolderGone(int32_t process) {
  changing_.erase(process);
  Disarm(process, true);
  for (Place* place : Places()) {
    if (!Has(place)) continue;
    if (!place->object->shows_readable() || place->input_ended) {
      LookForHolders(place);
    } else if (!Hide(*place)) {
      Gone(place);
    } else if (watched() && ready_events_ != 0) {
      Show(*place);
    }
  }
}

// The event that says the same may be behind the end of the process that was the last one.
void Mirror::LookForHolders(Place* place) {
  const int end = place->object->agent_end();
  const short gone = kind_ == Kind::kPipeRead ? POLLERR : POLLHUP;
  if (end < 0 || (PollNow(end, 0) & gone) == 0) return;
  if (!writable() || place->output_ended) return Gone(place);
  if (!blocked_) Forward(place);
}

}  // namespace elsewhere::runtime::stream
