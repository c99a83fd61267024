#include "runtime/file/leaving_names.h"

#include <algorithm>
#include <cerrno>
#include <utility>

namespace elsewhere::runtime {
namespace {

constexpr unsigned kFetchedAtOnce = 4;  // requests

bool IsBelow(const std::string& name, const std::string& other) {
  return name == other || name.starts_with(other + "/");
}

bool Touch(const wire::NameLeaves& a, const wire::NameLeaves& b) {
  if (a.map != b.map) return false;
  for (const std::string* one : {&a.from, &a.to}) {
    for (const std::string* other : {&b.from, &b.to}) {
      if (!one->empty() && !other->empty() && (IsBelow(*one, *other) || IsBelow(*other, *one))) return true;
    }
  }
  return false;
}

}  // namespace

LeavingNames::LeavingNames(Agent& agent, Maps& maps, Gone gone)
    : agent_(agent),
      maps_(maps),
      gone_(std::move(gone)),
      fetchers_(std::make_unique<file::Workers>(kFetchedAtOnce)) {
  for (size_t i = 0; i < maps.count(); ++i) {
    askers_.push_back(std::make_unique<Asker>(*this, static_cast<uint32_t>(i)));
    maps[i].files->SetOthers(askers_.back().get());
  }
  agent.OnMessage<wire::NameLeaves>([this](HostId from, wire::NameLeaves&& names) {
    if (names.map >= maps_.count()) return agent_.RefuseMessage(from, "a map that does not exist");
    agent_.is_home() ? Enter(from, names) : Keep(names);
  });
  agent.OnMessage<wire::NameKept>([this](HostId from, wire::NameKept&& kept) {
    agent_.is_home() ? OnKept(from, kept.number, kept.error) : Answer(kept.number, kept.error);
  });
  agent.OnMessage<wire::NameSettled>([this](HostId from, wire::NameSettled&& settled) {
    const bool done = settled.done != 0;
    agent_.is_home() ? OnSettled(from, settled.number, done) : Settle(settled.number, done);
  });
}

Result<uint64_t> LeavingNames::Leaves(uint32_t map, const std::string& from, const std::string& to) {
  if (agent_.is_home() && !needed_) return uint64_t{0};
  std::unique_lock lock(mutex_);
  if (ended_) return Error{EIO, "the session is ending"};
  const uint64_t number = ++last_asked_;
  waiting_[number] = std::nullopt;
  agent_.loop().Post([this, names = wire::NameLeaves{number, map, from, to}] {
    agent_.is_home() ? Enter(wire::kHome, names) : agent_.Send(wire::kHome, names);
  });
  answered_.wait(lock, [&] { return ended_ || waiting_[number]; });
  const int error = waiting_[number].value_or(EIO);
  waiting_.erase(number);
  if (error == 0) return number;
  lock.unlock();
  Settled(number, false);
  return Error{error, from + " is open on another host, which cannot keep what is in it"};
}

void LeavingNames::Settled(uint64_t number, bool done) {
  if (number == 0) return;
  agent_.loop().Post([this, number, done] {
    if (agent_.is_home()) return OnSettled(wire::kHome, number, done);
    agent_.Send(wire::kHome, wire::NameSettled{number, done});
  });
}

void LeavingNames::Answer(uint64_t number, int error) {
  std::lock_guard lock(mutex_);
  const auto found = waiting_.find(number);
  if (found == waiting_.end()) return;
  found->second = error;
  answered_.notify_all();
}

void LeavingNames::Enter(HostId asker, const wire::NameLeaves& names) {
  Request request{.asker = asker, .number = names.number, .names = names};
  request.names.number = ++last_request_;
  requests_.push_back(std::move(request));
  Begin();
}

// Those that touch none before them.
void LeavingNames::Begin() {
  std::vector<wire::NameLeaves> own;
  for (auto request = requests_.begin(); request != requests_.end(); ++request) {
    const auto touches = [&](const Request& before) { return Touch(before.names, request->names); };
    if (request->active || std::any_of(requests_.begin(), request, touches)) continue;
    request->active = true;
    request->asked.insert(agent_.OtherHosts().begin(), agent_.OtherHosts().end());
    request->asked.insert(wire::kHome);
    request->asked.erase(request->asker);
    request->unanswered = request->asked;
    for (const HostId host : request->asked) {
      if (host != wire::kHome) agent_.Send(host, request->names);
    }
    if (request->asker != wire::kHome) own.push_back(request->names);
    if (request->unanswered.empty()) AllKept(request);
  }
  // Home may answer itself at once.
  for (const wire::NameLeaves& names : own) Keep(names);
}

void LeavingNames::OnKept(HostId from, uint64_t number, int error) {
  const auto request = std::find_if(requests_.begin(), requests_.end(),
                                    [number](const Request& each) { return each.names.number == number; });
  if (request == requests_.end() || request->unanswered.erase(from) == 0) return;
  if (error != 0) request->error = error;
  if (request->unanswered.empty()) AllKept(request);
}

void LeavingNames::AllKept(Requests::iterator request) {
  if (request->abandoned) return Finish(request, false);
  if (request->asker == wire::kHome) return Answer(request->number, request->error);
  agent_.Send(request->asker, wire::NameKept{request->number, request->error});
}

void LeavingNames::OnSettled(HostId asker, uint64_t number, bool done) {
  const auto request = std::find_if(requests_.begin(), requests_.end(), [&](const Request& each) {
    return each.asker == asker && each.number == number;
  });
  if (request != requests_.end()) Finish(request, done);
}

void LeavingNames::Finish(Requests::iterator request, bool done) {
  const wire::NameSettled settled{request->names.number, done};
  if (done) gone_(request->names);
  for (const HostId host : request->asked)
    host == wire::kHome ? Settle(settled.number, done) : agent_.Send(host, settled);
  requests_.erase(request);
  Begin();
}

void LeavingNames::HostGone(HostId host) {
  std::erase_if(requests_, [host](const Request& each) { return each.asker == host && !each.active; });
  std::vector<Requests::iterator> answered;
  for (auto request = requests_.begin(); request != requests_.end(); ++request) {
    request->asked.erase(host);
    const bool was_last = request->unanswered.erase(host) != 0;
    request->abandoned = request->abandoned || request->asker == host;
    if (request->unanswered.empty() && (was_last || request->asker == host)) answered.push_back(request);
  }
  for (const auto request : answered) AllKept(request);
  Begin();
}

void LeavingNames::Keep(const wire::NameLeaves& names) {
  const auto answer = [this, number = names.number](int error) {
    if (agent_.is_home()) return OnKept(wire::kHome, number, error);
    agent_.Send(wire::kHome, wire::NameKept{number, error});
  };
  auto held = maps_[names.map].files->OpenUnder(names.from, names.to);
  if (held.empty() || fetchers_ == nullptr) return answer(0);
  kept_[names.number] = {names, held};
  fetchers_->Start([this, held = std::move(held), answer] {
    const Status done = file::FileSystem::Keep(held);
    agent_.loop().Post([answer, error = done ? 0 : done.error().code] { answer(error); });
  });
}

void LeavingNames::Settle(uint64_t number, bool done) {
  const auto found = kept_.find(number);
  if (found == kept_.end()) return;
  // Of a file that is being sent under its old name, that is given up first, which takes a while.
  const bool renamed = done && !found->second.names.to.empty();
  const auto settle = [this, kept = std::move(found->second), done] {
    maps_[kept.names.map].files->Settle(kept.held, kept.names.from, kept.names.to, done);
  };
  kept_.erase(found);
  renamed&& fetchers_ != nullptr ? fetchers_->Start(settle) : settle();
}

void LeavingNames::End() {
  {
    std::lock_guard lock(mutex_);
    ended_ = true;
    answered_.notify_all();
  }
  fetchers_.reset();  // what is queued is carried out
  for (const auto& [number, kept] : std::exchange(kept_, {}))
    maps_[kept.names.map].files->Settle(kept.held, kept.names.from, kept.names.to, false);
}

}  // namespace elsewhere::runtime
