#include "runtime/ipc/segments.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <utility>

#include "runtime/ipc.h"
#include "shim/broker/inbox.h"
#include "shim/broker/scripts.h"

namespace elsewhere::runtime {
namespace {

using std::chrono::steady_clock;

// A program that polls a flag sees it this late at most; comparing may take a fiftieth of the time.
constexpr std::chrono::milliseconds kExchangeInterval{10};
constexpr int kExchangeShare = 50;

// KEYS[1]: segment -> ",host,host,". ARGV: segment, this host, inbox prefix, entry header, message.
constexpr std::string_view kPublishBody = R"lua(-- elsewhere segment.publish 1
local members = redis.call('HGET', KEYS[1], ARGV[1])
if not members then return 0 end
for host in string.gmatch(members, '%d+') do
  if host ~= ARGV[2] then redis.call('XADD', ARGV[3] .. host, 'NOMKSTREAM', '*', ARGV[4], ARGV[5]) end
end
return 1
)lua";

// The same. Joining: the message goes to home.
constexpr std::string_view kJoinBody = R"lua(-- elsewhere segment.join 1
local members = redis.call('HGET', KEYS[1], ARGV[1]) or ',0,'
local me = ',' .. ARGV[2] .. ','
if not string.find(members, me, 1, true) then members = members .. ARGV[2] .. ',' end
redis.call('HSET', KEYS[1], ARGV[1], members)
if not redis.call('XADD', ARGV[3] .. '0', 'NOMKSTREAM', '*', ARGV[4], ARGV[5]) then return 0 end
return 1
)lua";

constexpr std::string_view kLeaveBody = R"lua(-- elsewhere segment.leave 1
local members = redis.call('HGET', KEYS[1], ARGV[1])
if not members then return 0 end
local me = ',' .. ARGV[2] .. ','
local at = string.find(members, me, 1, true)
if at then
  members = string.sub(members, 1, at) .. string.sub(members, at + #me)
  redis.call('HSET', KEYS[1], ARGV[1], members)
end
redis.call('XADD', ARGV[3] .. '0', 'NOMKSTREAM', '*', ARGV[4], ARGV[5])
return 1
)lua";

const broker::Script& PublishScript() {
  static const broker::Script script(kPublishBody);
  return script;
}
const broker::Script& JoinScript() {
  static const broker::Script script(kJoinBody);
  return script;
}
const broker::Script& LeaveScript() {
  static const broker::Script script(kLeaveBody);
  return script;
}

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

std::string_view AsText(const std::vector<uint8_t>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// One of the scripts, with the message that it appends.
template <class M>
void Run(Agent& agent, const broker::Script& script, const std::string& key, SegmentId id,
         const std::string& prefix, const std::string& header, const M& message) {
  const std::string segment = std::to_string(id);
  const std::string self = std::to_string(agent.host());
  const std::vector<uint8_t> bytes = agent.Seal(wire::Encode(agent.host(), 0, message));
  const std::array<std::string_view, 1> keys{key};
  const std::array<std::string_view, 5> arguments{segment, self, prefix, header, AsText(bytes)};
  // Behind it stands what must not overtake it, such as a post. Nobody waits for the answer: it need not wake
  // the loop.
  broker::RunScriptInOrder(
      agent.broker(), script, keys, arguments,
      [&agent](const broker::Reply& reply) {
        if (reply.IsError()) agent.Fatal("shared memory cannot be exchanged: " + std::string(reply.text()));
      },
      broker::Repeat::kSafe, broker::Wake::kLater);
}

}  // namespace

std::vector<std::string_view> IpcScripts() {
  return {PublishScript().body(), JoinScript().body(), LeaveScript().body()};
}

Segments::Segments(Agent& agent)
    : agent_(agent),
      key_(broker::SessionKeys(agent.session_id()).segments()),
      inbox_prefix_(broker::SessionKeys(agent.session_id()).inbox_prefix()),
      header_(broker::EncodeInboxHeader(broker::kScriptSender, 0)) {
  agent.OnMessage<wire::SegmentDiff>(
      [this](HostId from, wire::SegmentDiff&& diff) { OnDiff(from, std::move(diff)); });
  agent.OnMessage<wire::SegmentJoin>([this](HostId from, wire::SegmentJoin&& join) { OnJoin(from, join); });
  agent.OnMessage<wire::SegmentLeave>(
      [this](HostId from, wire::SegmentLeave&& leave) { OnLeave(from, leave.segment); });
  agent.OnMessage<wire::SegmentContent>(
      [this](HostId, wire::SegmentContent&& content) { OnContent(std::move(content)); });
}

Segment* Segments::Find(const ObjectKey& key) {
  const auto found = by_key_.find(key);
  return found == by_key_.end() ? nullptr : Find(found->second);
}

Segment* Segments::Find(SegmentId id) {
  const auto found = entries_.find(id);
  return found == entries_.end() ? nullptr : found->second.segment.get();
}

Result<Segment*> Segments::Obtain(const ObjectKey& key, int descriptor, uint64_t mapped,
                                  const std::string& name) {
  if (Segment* known = Find(key)) {
    if (mapped > known->size())
      return Error{EFBIG, "a shared mapping grew after other hosts had it: " + name};
    return known;
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
  auto made = Segment::Adopt(id, agent_.host(), descriptor, static_cast<uint64_t>(status.st_size), name);
  if (!made) return made.error();
  Entry& entry = entries_[id];
  entry.segment = std::move(*made);
  entry.key = key;
  by_key_[key] = id;
  return entry.segment.get();
}

void Segments::Join(const wire::SharedState::Segment& segment, Component::Done ready) {
  Entry& entry = entries_[segment.segment];
  if (entry.segment == nullptr) {
    auto made = Segment::CreateEmpty(segment.segment, agent_.host(), segment.size, segment.name);
    if (!made) {
      entries_.erase(segment.segment);
      return ready(made.error());
    }
    entry.segment = std::move(*made);
    entry.key = {segment.device, segment.inode};
    by_key_[entry.key] = segment.segment;
    entry.join_request = ++last_request_;
    Run(agent_, JoinScript(), key_, segment.segment, inbox_prefix_, header_,
        wire::SegmentJoin{segment.segment, entry.join_request});
  }
  if (entry.segment->loaded()) return ready(Ok{});
  entry.waiting.push_back(std::move(ready));
}

void Segments::Use(uint64_t user, SegmentId segment) {
  if (used_by_[user].insert(segment).second) ++entries_[segment].users;
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
    if (--entries_[segment].users == 0) Drop(segment);
  }
}

// On a worker all that its processes wrote was published when the last of them ended.
void Segments::Drop(SegmentId id) {
  Entry& entry = entries_[id];
  FinishJoin(entry, Error{ECANCELED, "nobody needs the shared memory any more"});
  if (agent_.is_home()) {
    const std::string field = std::to_string(id);
    agent_.broker().Command({"HDEL", key_, field}, nullptr);
  } else {
    PublishEntry(entry);
    Run(agent_, LeaveScript(), key_, id, inbox_prefix_, header_, wire::SegmentLeave{id});
  }
  if (const auto found = by_key_.find(entry.key); found != by_key_.end() && found->second == id)
    by_key_.erase(found);
  entries_.erase(id);
}

void Segments::Publish() {
  for (auto& [id, entry] : entries_) {
    if (IsShared(entry)) PublishEntry(entry);
  }
}

void Segments::PublishEntry(Entry& entry) {
  for (const auto& publication : entry.segment->Publish()) Send(entry.segment->id(), publication);
}

void Segments::Send(SegmentId id, const memory::Publication& publication) {
  Run(agent_, PublishScript(), key_, id, inbox_prefix_, header_,
      wire::SegmentDiff{id, publication.number, ToWire(publication.seen), publication.diff});
}

void Segments::OnDiff(HostId from, wire::SegmentDiff&& diff) {
  Segment* segment = Find(diff.segment);
  if (segment == nullptr) return;  // left, or not joined yet
  const auto applied = segment->Apply({from, diff.number, FromWire(diff.seen), std::move(diff.diff)});
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
  memory::Snapshot snapshot = entry.segment->TakeSnapshot();
  if (snapshot.diffs.empty()) snapshot.diffs.emplace_back();
  for (size_t piece = 0; piece < snapshot.diffs.size(); ++piece) {
    wire::SegmentContent content{join.segment, join.request, true,
                                 false,        {},           std::move(snapshot.diffs[piece])};
    content.last = piece + 1 == snapshot.diffs.size();
    if (content.last) content.seen = ToWire(snapshot.seen);
    agent_.Send(from, content);
  }
  ScheduleExchange(kExchangeInterval);
}

void Segments::OnLeave(HostId from, SegmentId id) {
  const auto found = entries_.find(id);
  if (found != entries_.end()) found->second.members.erase(from);
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
  if (timer_ == 0) timer_ = agent_.loop().After(delay, [this] { Exchange(); });
}

void Segments::Exchange() {
  timer_ = 0;
  const bool shared = std::any_of(entries_.begin(), entries_.end(),
                                  [this](const auto& item) { return IsShared(item.second); });
  if (!shared || agent_.ending()) return;
  const auto start = steady_clock::now();
  Publish();
  const auto cost = steady_clock::now() - start;
  ScheduleExchange(std::max<std::chrono::nanoseconds>(kExchangeInterval, cost * kExchangeShare));
}

void Segments::Close() {
  if (timer_ != 0) agent_.loop().Cancel(timer_);
  timer_ = 0;
  entries_.clear();
  by_key_.clear();
  used_by_.clear();
}

}  // namespace elsewhere::runtime
