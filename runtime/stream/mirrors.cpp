#include "runtime/stream/mirrors.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "runtime/stream/rebuild.h"

namespace elsewhere::runtime::stream {

namespace {

// Processes that were never moved have no incarnation.
Incarnation HolderKey(Incarnation incarnation, int32_t kernel_pid) {
  constexpr Incarnation kNeverMoved = Incarnation{1} << 63;
  return incarnation != 0 ? incarnation : kNeverMoved | static_cast<uint32_t>(kernel_pid);
}

}  // namespace

template <class M, class Handler>
void Mirrors::Route(Handler handler) {
  agent_.OnMessage<M>([this, handler](HostId, M&& message) {
    if (Mirror* mirror = OfStream(message.stream)) return handler(*mirror, std::move(message));
    passing_.ForwardToHolder(std::move(message));
  });
}

// A stream is named by the host that has the object; workers talk to home only.
HostId Mirrors::NextHop(StreamId id) const {
  return agent_.is_home() ? wire::HostOf(id) : wire::kHome;
}

Mirrors::Mirrors(Agent& agent, Passing& passing)
    : agent_(agent), passing_(passing), outbox_(agent), files_(agent) {
  agent_.OnMessage<wire::StreamCredit>([this](HostId, wire::StreamCredit&& m) {
    if (m.last) unsettled_.erase(m.stream);
    if (Mirror* mirror = OfStream(m.stream)) return mirror->OnCredit(m);
    passing_.ForwardToHolder(m);
  });
  agent_.OnMessage<wire::StreamPulled>([this](HostId, wire::StreamPulled&& m) {
    if (Mirror* mirror = OfStream(m.stream)) return mirror->OnPulled(std::move(m));
    passing_.ForwardPulled(std::move(m));
  });
  Route<wire::StreamReady>([](Mirror& mirror, wire::StreamReady&& m) { mirror.OnReady(m); });
  agent_.OnMessage<wire::StreamBroken>([this](HostId, wire::StreamBroken&& m) {
    if (Mirror* mirror = OfStream(m.stream)) return mirror->OnBroken(m.error);
    if (passing_.IsRelayed(m.stream)) return passing_.ForwardToHolder(m);
    broken_early_.insert(m.stream);
  });
  agent_.OnMessage<wire::StreamOffsetNow>([this](HostId, wire::StreamOffsetNow&& m) {
    if (passing_.IsRelayed(m.stream)) return passing_.ForwardToHolder(m);
    files_.OnOffset(m, NextHop(m.stream));
  });
  const auto answer = [this](uint64_t request, int64_t result, int error, std::span<const uint8_t> payload) {
    const auto found = controls_.find(request);
    if (found == controls_.end()) return;
    if (found->second.takes && result >= 0) files_.TakeOffset(found->second.stream, result);
    if (found->second.advance && result >= 0)
      files_.SetOffset(found->second.stream, result + *found->second.advance);
    if (!found->second.dropped) agent_.Complete(found->second.call, result, error, payload);
    controls_.erase(found);
  };
  agent_.OnMessage<wire::StreamControlled>([this, answer](HostId, wire::StreamControlled&& m) {
    if (!passing_.ForwardAnswer(m)) answer(m.request, m.result, m.error, m.payload);
  });
  agent_.OnMessage<wire::StreamDrained>([this](HostId, wire::StreamDrained&& m) { passing_.OnDrained(m); });
  agent_.OnCall(abi::Operation::kAdopt, [this](CallId id, const Call& call) { OnAdopt(id, call); });
  agent_.OnCall(abi::Operation::kPassable, [this](CallId id, const Call& call) { OnPassable(id, call); });
  agent_.OnCall(abi::Operation::kListenerClosed, [this](CallId id, const Call&) { OnListenerClosed(id); });

  agent_.OnCall(abi::Operation::kKeepPlace, [this](CallId id, const Call& call) { OnKeepPlace(id, call); });
  agent_.OnMessage<wire::StreamMove>([this](HostId from, wire::StreamMove&& m) {
    const wire::MoveAnswer answer = TakePipe(m);
    agent_.Send(from, wire::StreamMoveAnswer{m.read, m.write, answer});
  });
  agent_.OnMessage<wire::StreamMoved>([this](HostId, wire::StreamMoved&& m) { OnMoved(m); });

  agent_.OnCall(abi::Operation::kPull, [this](CallId id, const Call& call) {
    CatchUp();
    const ObjectId object = ObjectOf(call);
    if (MovedPipe* moved = MovedOf(object)) return AskMoved(*moved, id, call);
    Mirror* mirror = OfObject(call);
    if (mirror == nullptr) return agent_.Complete(id, -1, EBADF);
    if (call.arguments[3] == abi::kPullBack) {
      mirror->GiveBack(object);
      return agent_.Complete(id, 0);
    }
    mirror->Pull(id, call.incarnation, object, static_cast<uint64_t>(std::max<int64_t>(call.arguments[2], 1)),
                 static_cast<Mirror::PullMode>(call.arguments[3] & ~(abi::kPullContinues | abi::kPullStays)),
                 (call.arguments[3] & abi::kPullContinues) != 0, (call.arguments[3] & abi::kPullStays) != 0);
  });
  agent_.OnCall(abi::Operation::kWatch, [this](CallId id, const Call& call) {
    CatchUp();
    const ObjectId object = ObjectOf(call);
    if (MovedPipe* moved = MovedOf(object)) return WatchMoved(*moved, id, call);
    Mirror* mirror = OfObject(call);
    if (mirror == nullptr) return agent_.Complete(id, -1, EBADF);
    mirror->Watch(id, call, object, static_cast<Mirror::WatchMode>(call.arguments[2]),
                  (call.arguments[3] & abi::kWatchAnswers) != 0);
  });
  agent_.OnCall(abi::Operation::kForward, [this](CallId id, const Call& call) {
    if (Mirror* mirror = OfObject(call)) mirror->ForwardAll();
    outbox_.Flush();
    const Mirror* const mirror = OfObject(call);
    if (mirror == nullptr) return agent_.Complete(id, -1, EBADF);
    agent_.Complete(id, mirror->blocked() ? 0 : 1);
  });
  using wire::StreamOperation;
  agent_.OnCall(abi::Operation::kSeek,
                [this](CallId id, const Call& call) { OnControl(id, call, StreamOperation::kSeek); });
  agent_.OnCall(abi::Operation::kStat,
                [this](CallId id, const Call& call) { OnControl(id, call, StreamOperation::kStat); });
  agent_.OnCall(abi::Operation::kAtOrigin,
                [this](CallId id, const Call& call) { OnControl(id, call, StreamOperation::kCall); });
  agent_.OnCall(abi::Operation::kIoctl, [this](CallId id, const Call& call) {
    OnControl(id, call,
              call.arguments[2] == FIONREAD ? StreamOperation::kAvailable : StreamOperation::kIoctl);
  });
}

Mirror* Mirrors::OfStream(StreamId id) {
  const auto found = mirrors_.find(id);
  return found == mirrors_.end() ? nullptr : found->second.get();
}

Mirror* Mirrors::OfObject(const Call& call) {
  const auto found = by_object_.find(ObjectOf(call));
  return found == by_object_.end() ? nullptr : found->second;
}

// ---- A job's descriptors ----

Mirror& Mirrors::MirrorFor(const wire::JobDescriptor& entry) {
  auto& mirror = mirrors_[entry.stream];
  if (mirror == nullptr) {
    mirror = std::make_unique<Mirror>(agent_, passing_, outbox_, changes_, numbers_, entry,
                                      NextHop(entry.stream), [this](Mirror& closed) { Forget(closed); });
    mirror->SetSendFirst([this] { ForwardNarrators(); });
    mirror->SetEventFirst([this, id = entry.stream] { return CatchUp(id); });
  }
  return *mirror;
}

void Mirrors::ForwardNarrators() {
  const std::vector<Mirror*> first(narrators_.begin(), narrators_.end());
  for (Mirror* narrator : first) {
    if (narrators_.count(narrator) != 0) narrator->ForwardAll();
  }
}

// Not within itself: what is left is done behind what is being done.
bool Mirrors::CatchUp(StreamId asked) {
  if (std::exchange(catching_up_, true)) return false;
  bool done = false;
  const std::vector<StreamId> changed = changes_.Take();
  agent_.HearOfStarts();
  for (const StreamId id : changed) {
    done = done || id == asked;
    if (Mirror* mirror = OfStream(id)) mirror->CatchUp();
  }
  catching_up_ = false;
  return done;
}

// What a process prints must not come later than what it sends its parent over a pipe afterwards: a parent
// that acts upon the message prints next. So every other stream lets standard output and error go first; and
// events, which are often followed by a message that says so.
void Mirrors::NoteNarrator(Mirror& mirror) {
  narrators_.insert(&mirror);
  mirror.SetSendFirst(nullptr);
}

void Mirrors::Index(Mirror& mirror) {
  for (const ObjectId& object : mirror.Objects()) by_object_[object] = &mirror;
}

// Called by the mirror itself: it is found no more from now on, and deleted when nobody is inside it.
void Mirrors::Forget(Mirror& mirror) {
  narrators_.erase(&mirror);
  in_transit_.erase(mirror.id());
  std::erase_if(by_object_, [&](const auto& entry) { return entry.second == &mirror; });
  const auto found = mirrors_.find(mirror.id());
  if (found == mirrors_.end()) return;
  if (mirror.unacknowledged()) unsettled_.insert(mirror.id());
  if (mirror.moving() != nullptr) AbandonMove(mirror.id());
  std::shared_ptr<Mirror> last_owner = std::move(found->second);
  mirrors_.erase(found);
  agent_.loop().Defer([last_owner] {});
}

Result<Descriptor> Mirrors::OpenBridged(const wire::JobDescriptor& entry) {
  wire::Reader reader(entry.extra);
  ObjectTraits traits;
  reader.Read(traits);
  if (!reader.AtEnd()) return Error{EPROTO, "malformed traits of a stream"};
  if (broken_early_.erase(entry.stream) > 0) traits.broken = EPIPE;
  Mirror& mirror = MirrorFor(entry);
  auto opened = mirror.OpenForJob(traits, entry.status_flags);
  if (opened) Index(mirror);
  const bool speaks = mirror.writable() && (entry.number == STDOUT_FILENO || entry.number == STDERR_FILENO);
  if (opened && (speaks || IsCounter(mirror.kind()))) NoteNarrator(mirror);
  return opened;
}

// One description for all processes of this host, whose offset they share as at home. What home says of the
// offset holds unless somebody here has moved it meanwhile.
Result<Descriptor> Mirrors::OpenPlainFile(const wire::JobDescriptor& entry, Descriptor mapped) {
  wire::Reader reader(entry.extra);
  ObjectTraits traits;
  reader.Read(traits);
  if (files_.Has(entry.stream)) return files_.OpenAgain(entry, traits.grant);
  auto opened = mapped ? Result<Descriptor>(std::move(mapped)) : Rebuild(entry);
  if (!opened) return opened;
  // What is appended goes behind the end, whoever writes.
  constexpr int kWay = O_ACCMODE | O_APPEND;
  const auto kind = static_cast<Kind>(entry.kind);
  const bool is_read = (entry.status_flags & O_ACCMODE) == O_RDONLY;
  struct stat status;
  const bool has_place =
      is_read ? kind != Kind::kMappedFile && fstat(opened->get(), &status) == 0 && S_ISREG(status.st_mode)
              : kind == Kind::kPlainFile && (entry.status_flags & kWay) == O_RDWR;
  if (has_place) fcntl(opened->get(), F_SETSIG, static_cast<int>(wire::StreamMark::kSharedFile));
  return files_.Add(entry, traits.grant, NextHop(entry.stream), std::move(*opened));
}

Result<Descriptor> Mirrors::Open(const wire::JobDescriptor& entry, Descriptor mapped) {
  const auto kind = static_cast<Kind>(entry.kind);
  if (IsBridged(kind)) return OpenBridged(entry);
  if (kind == Kind::kMappedFile && !mapped)
    return Error{EPROTO, "a mapped file was not opened: " + entry.path};
  return CarriesOffset(kind) && entry.stream != 0 ? OpenPlainFile(entry, std::move(mapped)) : Rebuild(entry);
}

Result<Descriptor> Mirrors::OpenPassed(const wire::JobDescriptor& entry) {
  auto opened = Open(entry, {});
  if (opened && entry.stream != 0) in_transit_.insert(entry.stream);
  return opened;
}

StreamId Mirrors::StreamOf(const ObjectId& object) const {
  const auto found = by_object_.find(object);
  return found == by_object_.end() ? 0 : found->second->id();
}

StreamId Mirrors::StreamOf(int descriptor) {
  const auto status = Stat(descriptor);
  if (!status) return 0;
  if (const StreamId id = StreamOf(IdOf(*status)); id != 0) return id;
  return files_.StreamOf(getpid(), descriptor);
}

const wire::JobDescriptor* Mirrors::EntryOf(StreamId id) {
  const Mirror* mirror = OfStream(id);
  return mirror == nullptr ? nullptr : &mirror->entry();
}

namespace {

// What the files component has opened for this number.
Descriptor TakeOpened(std::vector<HeldDescriptor>& descriptors, const wire::JobDescriptor& entry) {
  if (static_cast<Kind>(entry.kind) != Kind::kMappedFile) return {};
  const auto found = std::find_if(descriptors.begin(), descriptors.end(),
                                  [&](const HeldDescriptor& held) { return held.number == entry.number; });
  if (found == descriptors.end()) return {};
  Descriptor opened(found->descriptor);
  descriptors.erase(found);
  return opened;
}

}  // namespace

// Every entry is a grant, also where two numbers share one description: the close must count the last one.
void Mirrors::NoteGrant(const wire::JobDescriptor& entry) {
  wire::Reader reader(entry.extra);
  ObjectTraits traits;
  reader.Read(traits);
  if (!reader.ok()) return;
  if (Mirror* mirror = OfStream(entry.stream)) mirror->NoteGrant(traits.grant);
  files_.NoteGrant(entry.stream, traits.grant);
}

Status Mirrors::Prepare(const wire::Job& job, std::vector<HeldDescriptor>& descriptors) {
  auto streams = std::make_shared<std::vector<StreamId>>();
  std::unordered_map<StreamId, int> opened_here;
  std::vector<HeldDescriptor> made;
  for (const wire::JobDescriptor& entry : job.descriptors) {
    const auto seen = entry.stream == 0 ? opened_here.end() : opened_here.find(entry.stream);
    Descriptor mapped = TakeOpened(descriptors, entry);
    auto opened = seen != opened_here.end() ? Duplicate(seen->second) : Open(entry, std::move(mapped));
    if (opened && seen != opened_here.end()) NoteGrant(entry);
    if (!opened) {
      for (const HeldDescriptor& held : made) close(held.descriptor);
      return opened.error();
    }
    if (entry.stream != 0 && seen == opened_here.end()) {
      opened_here[entry.stream] = opened->get();
      streams->push_back(entry.stream);
    }
    HeldDescriptor held;
    held.number = entry.number;
    held.descriptor = opened->Release();
    held.flags = entry.flags;
    made.push_back(held);
  }
  descriptors.insert(descriptors.end(), made.begin(), made.end());
  std::sort(streams->begin(), streams->end());
  streams_of_job_[job.incarnation] = std::move(streams);
  return Ok{};
}

// ---- Processes ----

Mirrors::StreamSet Mirrors::StreamsOf(const Process& process) const {
  const auto found = streams_of_process_.find(HolderKey(process.incarnation, process.kernel_pid));
  return found == streams_of_process_.end() ? nullptr : found->second;
}

void Mirrors::ProcessRegistered(const Process& process, const Process* parent) {
  const StreamSet streams = parent == nullptr ? nullptr : StreamsOf(*parent);
  if (streams != nullptr) streams_of_process_[HolderKey(process.incarnation, process.kernel_pid)] = streams;
}

void Mirrors::OnAdopt(CallId id, const Call& call) {
  if (MovedOf(ObjectOf(call)) != nullptr) return agent_.Complete(id, 0);
  Mirror* mirror = OfObject(call);
  if (mirror == nullptr) return agent_.Complete(id, -1, EBADF);
  in_transit_.erase(mirror->id());
  StreamSet& held = streams_of_process_[HolderKey(call.incarnation, call.kernel_pid)];
  if (held == nullptr || !std::binary_search(held->begin(), held->end(), mirror->id())) {
    auto more = std::make_shared<std::vector<StreamId>>();
    if (held != nullptr) *more = *held;
    more->insert(std::upper_bound(more->begin(), more->end(), mirror->id()), mirror->id());
    held = std::move(more);
  }
  agent_.Complete(id, 0);
}

// Where the kernel does not let its descriptors be looked at, the message goes and the summary tells.
void Mirrors::OnPassable(CallId id, const Call& call) {
  const Process* process = agent_.FindKernelPid(call.kernel_pid);
  for (size_t at = 0; process != nullptr && at + sizeof(int32_t) <= call.payload.size();
       at += sizeof(int32_t)) {
    int32_t number;
    std::memcpy(&number, call.payload.data() + at, sizeof number);
    const Descriptor copy(static_cast<int>(syscall(SYS_pidfd_getfd, process->pidfd, number, 0)));
    if (!copy) continue;
    const Status passable = passing_.Check(copy.get());
    if (passable) continue;
    passing_.NoteLost(passable.error());
    return agent_.Complete(id, -1, EOPNOTSUPP);
  }
  agent_.Complete(id, 0);
}

void Mirrors::ProcessStarted(const Process& process, const Process* parent) {
  StreamSet streams;
  if (const auto job = streams_of_job_.find(process.incarnation); job != streams_of_job_.end()) {
    streams = std::move(job->second);
    streams_of_job_.erase(job);
  } else if (parent != nullptr) {
    streams = StreamsOf(*parent);
  }
  if (streams == nullptr) return;
  streams_of_process_[process.incarnation] = streams;
}

void Mirrors::ProcessGone(const Process& process) {
  for (const auto& [id, moved] : moved_) moved->ProcessGone(process.kernel_pid);
  const StreamSet streams = StreamsOf(process);
  if (streams == nullptr) return;
  streams_of_process_.erase(HolderKey(process.incarnation, process.kernel_pid));
  for (const StreamId id : *streams) {
    if (files_.Has(id) && !IsOfProcess(id)) files_.Close(id);
    Mirror* mirror = OfStream(id);
    if (mirror == nullptr) continue;
    mirror->HolderGone(process.kernel_pid);
    if (mirror->holders_unseen() && !IsHeld(id)) mirror->Abandon();
  }
}

// By what is known of processes, where the object does not say it.
bool Mirrors::IsHeld(StreamId id) const {
  return in_transit_.count(id) != 0 || IsOfProcess(id);
}

// Of one that runs here, or is about to: its job's descriptors were made.
bool Mirrors::IsOfProcess(StreamId id) const {
  const auto has = [id](const auto& entry) {
    return entry.second != nullptr && std::binary_search(entry.second->begin(), entry.second->end(), id);
  };
  return std::any_of(streams_of_process_.begin(), streams_of_process_.end(), has) ||
         std::any_of(streams_of_job_.begin(), streams_of_job_.end(), has);
}

void Mirrors::Clear() {
  by_object_.clear();
  mirrors_.clear();
  moved_by_object_.clear();
  moved_.clear();
  files_.Clear();
  controls_.clear();
}

}  // namespace elsewhere::runtime::stream
