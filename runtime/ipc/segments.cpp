#include "runtime/ipc/segments.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "runtime/ipc/attached_segment.h"

namespace elsewhere::runtime {
namespace {

using std::chrono::steady_clock;

// A program that polls a flag sees it this late at most; comparing may take a fiftieth of the time.
constexpr std::chrono::milliseconds kExchangeInterval{10};
constexpr int kExchangeShare = 50;

std::vector<wire::SeenPublication> ToWire(const memory::Seen& seen) {
  std::vector<wire::SeenPublication> list;
  for (const auto& [host, number] : seen) list.push_back({host, number});
  return list;
}
memory::Seen FromWire(const std::vector<wire::SeenPublication>& list) {
  memory::Seen seen;
  for (const auto& [host, number] : list) seen[host] = number;
  return seen;
}

// What is no page any more would stay what it was on the other hosts.
bool HasHoles(const Segment& segment) {
  struct stat status {};
  return fstat(segment.descriptor(), &status) != 0 ||
         static_cast<uint64_t>(status.st_blocks) * 512 < segment.size();
}

}  // namespace

Segments::Segments(Agent& agent) : agent_(agent) {
  agent.OnMessage<wire::SegmentDiff>(
      [this](HostId from, wire::SegmentDiff&& diff) { OnDiff(from, std::move(diff)); });
  agent.OnMessage<wire::SegmentJoin>([this](HostId from, wire::SegmentJoin&& join) { OnJoin(from, join); });
  agent.OnMessage<wire::SegmentLeave>(
      [this](HostId from, wire::SegmentLeave&& leave) { OnLeave(from, leave.segment); });
  agent.OnMessage<wire::SegmentContent>(
      [this](HostId, wire::SegmentContent&& content) { OnContent(std::move(content)); });
  agent.OnMessage<wire::SegmentResized>([this](HostId, wire::SegmentResized&& resized) {
    Segment* segment = Find(resized.segment);
    const Status done = segment == nullptr ? Ok{} : segment->Resize(resized.size);
    if (!done) agent_.Fatal(done.error().message);
  });
}

Segment* Segments::Find(const ObjectKey& key) {
  const auto found = by_key_.find(key);
  if (found == by_key_.end() || entries_.at(found->second).rests != 0) return nullptr;
  return Find(found->second);
}

Segment* Segments::Find(SegmentId id) {
  const auto found = entries_.find(id);
  return found == entries_.end() ? nullptr : found->second.segment.get();
}

bool Segments::FindLocal(const ObjectKey& local, ObjectKey* key) const {
  for (const auto& [id, entry] : entries_) {
    struct stat status {};
    if (entry.segment == nullptr || entry.rests != 0 || fstat(entry.segment->descriptor(), &status) != 0)
      continue;
    if (ObjectKey{status.st_dev, status.st_ino} != local) continue;
    *key = entry.key;
    return true;
  }
  return false;
}

Result<Segment*> Segments::Obtain(const ObjectKey& key, int descriptor, uint64_t mapped,
                                  const std::string& name, memory::Size kind) {
  if (const auto known = by_key_.find(key); known != by_key_.end()) {
    const SegmentId id = known->second;
    Entry& entry = entries_[id];
    if (entry.rests != 0 && (mapped > entry.segment->size() || HasHoles(*entry.segment))) Drop(id);
  }
  if (const auto known = by_key_.find(key); known != by_key_.end()) {
    Segment* segment = Find(known->second);
    if (mapped > segment->size() && !segment->follows_size())
      return Error{EFBIG, "a shared mapping grew after other hosts had it: " + name};
    return segment;
  }
  struct stat status {};
  if (descriptor < 0 || fstat(descriptor, &status) != 0) {
    return Error{EBADF, "the object of a shared mapping cannot be handed on: " + name};
  }
  if (static_cast<uint64_t>(status.st_blocks) * 512 > kMostBytes) {
    return Error{EFBIG,
                 "a shared mapping holds more than " + std::to_string(kMostBytes >> 20) + " MiB: " + name};
  }
  const SegmentId id = wire::MakeIncarnation(agent_.host(), ++last_id_);
  auto made =
      Segment::Adopt(id, agent_.host(), descriptor, static_cast<uint64_t>(status.st_size), name, kind);
  if (!made) return made.error();
  Entry& entry = entries_[id];
  entry.segment = std::move(*made);
  entry.key = key;
  by_key_[key] = id;
  return entry.segment.get();
}

Result<Segment*> Segments::ObtainSystemV(int system_v) {
  for (const auto& [id, entry] : entries_) {
    if (entry.system_v == system_v) return entry.segment.get();
  }
  const SegmentId id = wire::MakeIncarnation(agent_.host(), ++last_id_);
  ListAttached(agent_.table().header, system_v, Listed::kChanging);
  auto made = AttachSegment(id, agent_.host(), system_v);
  ListAttached(agent_.table().header, system_v, made ? Listed::kYes : Listed::kNo);
  if (!made) return made.error();
  Entry& entry = entries_[id];
  entry.segment = std::move(made->segment);
  entry.key = made->key;
  entry.system_v = system_v;
  by_key_[entry.key] = id;
  return entry.segment.get();
}

void Segments::LetGoOfAbandoned() {
  std::vector<SegmentId> abandoned;
  for (const auto& [id, entry] : entries_) {
    if (entry.system_v >= 0 && IsAbandoned(entry.system_v)) abandoned.push_back(id);
  }
  for (const SegmentId id : abandoned) {
    for (auto& [user, segments] : used_by_) segments.erase(id);
    Drop(id);
  }
}

void Segments::Join(const wire::SharedState::Segment& segment, Component::Done ready) {
  Entry& entry = entries_[segment.segment];
  if (entry.segment == nullptr) {
    const auto kind = segment.follows_size ? memory::Size::kFollowed : memory::Size::kFixed;
    auto made = Segment::CreateEmpty(segment.segment, agent_.host(), segment.size, segment.name, kind);
    if (!made) {
      entries_.erase(segment.segment);
      return ready(made.error());
    }
    entry.segment = std::move(*made);
    entry.key = {segment.device, segment.inode};
    by_key_[entry.key] = segment.segment;
    if (segment.follows_size) agent_.table().header.files_mapped.store(1);
    entry.join_request = ++last_request_;
    agent_.Send(wire::kHome, wire::SegmentJoin{segment.segment, entry.join_request});
  }
  if (entry.segment->loaded()) return ready(Ok{});
  entry.waiting.push_back(std::move(ready));
}

void Segments::Use(uint64_t user, SegmentId segment) {
  if (!used_by_[user].insert(segment).second) return;
  Entry& entry = entries_[segment];
  ++entry.users;
  if (entry.rests != 0) agent_.loop().Cancel(std::exchange(entry.rests, 0));
}

void Segments::UseLike(uint64_t user, uint64_t parent) {
  const auto found = used_by_.find(parent);
  if (found == used_by_.end()) return;
  const std::set<SegmentId> segments = found->second;
  for (const SegmentId segment : segments) Use(user, segment);
}

void Segments::Release(uint64_t user) {
  const auto found = used_by_.find(user);
  if (found == used_by_.end()) return;
  const std::set<SegmentId> segments = std::move(found->second);
  used_by_.erase(found);
  for (const SegmentId segment : segments) {
    Entry& entry = entries_[segment];
    if (--entry.users == 0 && !Rests(entry, segment)) Drop(segment);
  }
}

void Segments::ReleaseEnded(const ObjectKey& key) {
  const auto known = by_key_.find(key);
  if (known == by_key_.end()) return;
  const SegmentId id = known->second;
  std::vector<uint64_t> ended;
  for (const auto& [user, segments] : used_by_) {
    if (segments.count(id) != 0 && HasEnded(user)) ended.push_back(user);
  }
  for (const uint64_t user : ended) Release(user);
}

// On a worker users are told apart by their incarnations, and their ends come in order.
bool Segments::HasEnded(uint64_t user) const {
  if (!agent_.is_home()) return false;
  const Process* process = agent_.FindKernelPid(static_cast<int32_t>(user));
  pollfd ended{process == nullptr ? -1 : process->pidfd, POLLIN, 0};
  return process == nullptr || poll(&ended, 1, 0) == 1;
}

uint64_t Segments::RestingBytes() const {
  uint64_t bytes = 0;
  for (const auto& [id, entry] : entries_) bytes += entry.rests != 0 ? entry.segment->size() : 0;
  return bytes;
}

// It stays a member, so that whoever uses it next has the content. Not where that could be noticed: a System
// V segment counts who has it attached, and an object that can be sealed refuses the seal while we map it.
bool Segments::Rests(Entry& entry, SegmentId id) {
  if (entry.segment == nullptr || !entry.segment->loaded() || entry.segment->descriptor() < 0 ||
      entry.segment->follows_size())
    return false;
  const int seals = agent_.is_home() ? fcntl(entry.segment->descriptor(), F_GET_SEALS) : F_SEAL_SEAL;
  if (agent_.ending() || (seals >= 0 && (seals & F_SEAL_SEAL) == 0)) return false;
  if (RestingBytes() + entry.segment->size() > kMostResting || HasHoles(*entry.segment)) return false;
  if (!agent_.is_home()) PublishEntry(entry);
  entry.rests = agent_.loop().After(kRest, [this, id] {
    entries_[id].rests = 0;
    Drop(id);
  });
  return true;
}

// On a worker all that its processes wrote was published when the last of them ended.
void Segments::Drop(SegmentId id) {
  Entry& entry = entries_[id];
  if (entry.rests != 0) agent_.loop().Cancel(entry.rests);
  FinishJoin(entry, Error{ECANCELED, "nobody needs the shared memory any more"});
  if (!agent_.is_home()) {
    PublishEntry(entry);
    agent_.Send(wire::kHome, wire::SegmentLeave{id});
  }
  if (const auto found = by_key_.find(entry.key); found != by_key_.end() && found->second == id)
    by_key_.erase(found);
  const int system_v = entry.system_v;
  if (system_v >= 0) ListAttached(agent_.table().header, system_v, Listed::kChanging);
  entries_.erase(id);
  if (system_v >= 0) ListAttached(agent_.table().header, system_v, Listed::kNo);
}

void Segments::Publish() {
  const auto start = steady_clock::now();
  agent_.PublicationBegins();
  for (auto& [id, entry] : entries_) {
    if (IsShared(entry)) PublishEntry(entry);
  }
  published_ = steady_clock::now();
  took_ = published_ - start;
}

void Segments::PublishEntry(Entry& entry) {
  auto publications = entry.segment->Publish();
  TellSize(entry);
  for (auto& publication : publications) {
    const wire::SegmentDiff diff{entry.segment->id(), agent_.host(), publication.number,
                                 ToWire(publication.seen), std::move(publication.diff)};
    if (agent_.is_home()) {
      SendToMembers(entry, diff);
    } else {
      agent_.SendAhead(wire::kHome, diff);
    }
  }
}

void Segments::TellSize(Entry& entry) {
  if (const Status& followed = entry.segment->followed(); !followed)
    return agent_.Fatal(followed.error().message);
  if (!agent_.is_home()) return;
  for (const uint64_t size : entry.segment->TakeSizes()) {
    for (const HostId member : entry.members)
      agent_.SendAhead(member, wire::SegmentResized{entry.segment->id(), size});
  }
}

void Segments::SendToMembers(const Entry& entry, const wire::SegmentDiff& diff) {
  for (const HostId member : entry.members) {
    if (member != diff.origin) agent_.SendAhead(member, diff);
  }
}

void Segments::OnDiff(HostId from, wire::SegmentDiff&& diff) {
  const auto found = entries_.find(diff.segment);
  if (found == entries_.end()) return;  // left, or not joined yet
  if (agent_.is_home()) {
    if (diff.origin != from) return agent_.Fatal("host " + std::to_string(from) + " publishes for another");
    SendToMembers(found->second, diff);
  }
  const auto applied =
      found->second.segment->Apply({diff.origin, diff.number, FromWire(diff.seen), std::move(diff.diff)});
  if (!applied) agent_.Fatal(applied.error().message);
}

void Segments::OnJoin(HostId from, const wire::SegmentJoin& join) {
  const auto found = entries_.find(join.segment);
  if (found == entries_.end()) {
    return agent_.Send(from, wire::SegmentContent{join.segment, join.request, false, true, {}, {}});
  }
  Entry& entry = found->second;
  entry.members.insert(from);
  PublishEntry(entry);
  if (entry.segment->follows_size())
    agent_.SendAhead(from, wire::SegmentResized{join.segment, entry.segment->size()});
  memory::Snapshot snapshot = entry.segment->TakeSnapshot();
  if (snapshot.diffs.empty()) snapshot.diffs.emplace_back();
  for (size_t piece = 0; piece < snapshot.diffs.size(); ++piece) {
    wire::SegmentContent content{join.segment, join.request, true,
                                 false,        {},           std::move(snapshot.diffs[piece])};
    content.last = piece + 1 == snapshot.diffs.size();
    if (content.last) content.seen = ToWire(snapshot.seen);
    // What is to go before it has gone with the first piece; to compare everything for each would take
    // seconds.
    if (piece == 0) {
      agent_.Send(from, content);
    } else {
      agent_.SendAhead(from, content);
    }
  }
  ScheduleExchange(kExchangeInterval);
}

void Segments::OnLeave(HostId from, SegmentId id) {
  const auto found = entries_.find(id);
  if (found != entries_.end()) found->second.members.erase(from);
}

void Segments::HostGone(HostId host) {
  for (auto& [id, entry] : entries_) entry.members.erase(host);
}

void Segments::OnContent(wire::SegmentContent&& content) {
  const auto found = entries_.find(content.segment);
  if (found == entries_.end() || found->second.join_request != content.request) return;
  Entry& entry = found->second;
  if (!content.known)
    return FinishJoin(entry, Error{ESTALE, "home does not have the shared memory any more"});
  entry.arriving.diffs.push_back(std::move(content.diff));
  if (!content.last) return;
  entry.arriving.seen = FromWire(content.seen);
  const Status loaded = entry.segment->Load(std::exchange(entry.arriving, {}));
  if (!loaded) return agent_.Fatal(loaded.error().message);
  FinishJoin(entry, Ok{});
  ScheduleExchange(kExchangeInterval);
}

void Segments::FinishJoin(Entry& entry, const Status& status) {
  for (auto& done : std::exchange(entry.waiting, {})) done(status);
}

void Segments::ScheduleExchange(std::chrono::nanoseconds delay) {
  agent_.table().header.memory_shared.store(1);
  if (timer_ == 0) timer_ = agent_.loop().After(delay, [this] { Exchange(); });
}

void Segments::Exchange() {
  timer_ = 0;
  const bool shared = std::any_of(entries_.begin(), entries_.end(),
                                  [this](const auto& item) { return IsShared(item.second); });
  if (!shared) agent_.table().header.memory_shared.store(0);
  if (!shared || agent_.ending()) return;
  LetGoOfAbandoned();
  const auto due = [this] {
    return published_ + std::max<std::chrono::nanoseconds>(kExchangeInterval, took_ * kExchangeShare);
  };
  if (steady_clock::now() >= due()) Publish();  // else some message had it done
  ScheduleExchange(due() - steady_clock::now());
}

void Segments::Close() {
  if (timer_ != 0) agent_.loop().Cancel(timer_);
  timer_ = 0;
  for (const auto& [id, entry] : entries_) {
    if (entry.rests != 0) agent_.loop().Cancel(entry.rests);
  }
  entries_.clear();
  by_key_.clear();
  used_by_.clear();
}

}  // namespace elsewhere::runtime
