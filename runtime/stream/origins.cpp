#include "runtime/stream/origins.h"

#include <fcntl.h>

#include "runtime/mapped_files.h"
#include "runtime/stream/passing.h"
#include "runtime/stream/rebuild.h"

namespace elsewhere::runtime::stream {
namespace {

// Descriptions with nothing but these in common may still be two.
bool IdentityNeedsCompare(Kind kind) {
  return CarriesOffset(kind) || kind == Kind::kOutputFile || IsCounter(kind);
}

template <class T>
std::vector<uint8_t> Pack(const T& record) {
  wire::Writer writer;
  writer.Write(record);
  return writer.Take();
}

}  // namespace

// Messages name a share; one that is unknown has ended meanwhile, which its host will learn or has caused, or
// is another worker's, and home's agent passes the message on.
template <class M, class Handler>
void Origins::Route(Handler handler) {
  agent_.OnMessage<M>([this, handler](HostId, M&& message) {
    if (OriginStream* stream = OfShare(message.stream)) return handler(*stream, std::move(message));
    passing_.ForwardToOrigin(std::move(message));
  });
}

Origins::Origins(Agent& agent, Passing& passing)
    : agent_(agent), passing_(passing), moves_(agent, *this, passing) {
  agent_.OnMessage<wire::StreamData>([this](HostId, wire::StreamData&& m) {
    const auto pulls = std::exchange(m.pulls, {});
    if (OriginStream* stream = OfShare(m.stream)) {
      stream->OnData(std::move(m));
    } else {
      passing_.ForwardData(std::move(m));
    }
    for (const wire::StreamPull& pull : pulls) {
      if (OriginStream* stream = OfShare(pull.stream)) {
        stream->OnPull(pull);
      } else {
        passing_.ForwardToOrigin(pull);
      }
    }
  });
  Route<wire::StreamClose>([](OriginStream& stream, wire::StreamClose&& m) { stream.OnClose(m); });
  Route<wire::StreamShutdown>([](OriginStream& stream, wire::StreamShutdown&& m) { stream.OnShutdown(m); });
  Route<wire::StreamReturn>(
      [](OriginStream& stream, wire::StreamReturn&& m) { stream.OnReturn(std::move(m)); });
  Route<wire::StreamPull>([](OriginStream& stream, wire::StreamPull&& m) { stream.OnPull(m); });
  Route<wire::StreamWatch>([](OriginStream& stream, wire::StreamWatch&& m) { stream.OnWatch(m); });
  Route<wire::StreamOffset>([](OriginStream& stream, wire::StreamOffset&& m) { stream.OnOffset(m); });
  agent_.OnMessage<wire::StreamControl>([this](HostId from, wire::StreamControl&& m) {
    if (OriginStream* stream = OfShare(m.stream)) return stream->OnControl(m);
    if (passing_.ForwardControl(from, m)) return;
    agent_.Send(from, wire::StreamControlled{m.request, -1, EBADF, {}});
  });
  agent_.OnCall(abi::Operation::kShutDown, [this](CallId id, const Call&) {
    LookForShutdowns();
    agent_.Complete(id, 0);
  });
  agent_.OnMessage<wire::StreamDrain>([this](HostId from, wire::StreamDrain&& m) {
    for (const StreamId id : m.streams) {
      if (OriginStream* stream = OfShare(id)) stream->GiveCredit(id);
    }
    WhenWritten(m.streams, m.patience, [this, from, request = m.request](bool stuck) {
      agent_.Send(from, wire::StreamDrained{request, stuck});
    });
  });
}

OriginStream* Origins::OfShare(StreamId id) {
  const auto found = by_share_.find(id);
  return found == by_share_.end() ? nullptr : found->second;
}

OriginStream* Origins::Find(const Key& key, Kind kind, int held) {
  const auto [first, last] = by_key_.equal_range(key);
  for (auto each = first; each != last; ++each) {
    if (!IdentityNeedsCompare(kind)) return each->second;
    if (held >= 0 && SameDescription(getpid(), held, each->second->descriptor())) return each->second;
  }
  return nullptr;
}

Result<OriginStream*> Origins::Adopt(const Key& key, Kind kind, int& held, int flags) {
  if (held < 0) return Error{EBADF, "a descriptor of the process was not handed over"};
  auto created = OriginStream::Create(
      agent_, passing_, kind, Descriptor(std::exchange(held, -1)), flags,
      {.unused = [this](OriginStream& stream) { Forget(stream); },
       .unread = [this](OriginStream& stream) { Unread(stream); },
       .shut_down = [this] { LookForShutdowns(); },
       .broken = [this](HostId host, const wire::StreamBroken& broken) { SayBroken(host, broken); }});
  if (!created) return created.error();
  OriginStream* stream = created->get();
  entries_[stream] = Entry{std::move(*created), key};
  if (CarriesOffset(kind)) carrying_.insert(stream);
  if (kind == Kind::kSocket) agent_.table().header.shared_sockets.store(1);
  by_key_.emplace(key, stream);
  return stream;
}

void Origins::Unread(OriginStream& stream) {
  const auto found = entries_.find(&stream);
  if (found == entries_.end()) return;
  const auto write = by_key_.find(Key{found->second.key.object, O_WRONLY});
  moves_.Consider(stream, write == by_key_.end() ? nullptr : write->second);
}

void Origins::SetFirst(StreamId share, std::shared_ptr<FirstBytes> first) {
  if (OriginStream* stream = OfShare(share)) stream->SetFirst(std::move(first));
}

// Called by the stream itself: it is found no more from now on, and deleted when nobody is inside it.
void Origins::Forget(OriginStream& stream) {
  const auto found = entries_.find(&stream);
  if (found == entries_.end()) return;
  const auto [first, last] = by_key_.equal_range(found->second.key);
  for (auto each = first; each != last; ++each) {
    if (each->second != &stream) continue;
    by_key_.erase(each);
    break;
  }
  std::erase_if(by_share_, [&](const auto& share) { return share.second == &stream; });
  carrying_.erase(&stream);
  std::shared_ptr<OriginStream> last_owner = std::move(found->second.stream);
  entries_.erase(found);
  agent_.loop().Defer([last_owner] {});
}

StreamId Origins::ShareFor(OriginStream& stream, HostId target) {
  if (!IsEachJobsOwn(stream.kind())) {
    for (const auto& [id, host] : stream.Shares()) {
      if (host == target) return id;
    }
  }
  const StreamId id = (static_cast<uint64_t>(agent_.host()) << 48) | next_id_++;
  by_share_[id] = &stream;
  return id;
}

Result<wire::JobDescriptor> Origins::Grant(HostId target, const image::Descriptor& entry,
                                           const std::string& link, int& held) {
  wire::JobDescriptor job;
  job.number = entry.number;
  job.flags = static_cast<int32_t>(entry.descriptor_flags);
  job.status_flags = static_cast<int32_t>(entry.flags);
  const uint32_t access = entry.flags & O_ACCMODE;
  const ObjectId object{entry.device, entry.inode};
  const bool is_stream = S_ISFIFO(entry.mode) || S_ISSOCK(entry.mode);
  std::optional<std::string> mapped;
  if (MappedFiles* files = agent_.mapped_files(); files != nullptr && !is_stream)
    mapped = files->NameOf(entry.device, entry.inode, link);
  OriginStream* stream = nullptr;
  Kind kind{};
  if (is_stream) {
    kind = S_ISSOCK(entry.mode) ? Kind::kSocket : access == O_RDONLY ? Kind::kPipeRead : Kind::kPipeWrite;
    stream = Find(Key{object, access}, kind, held);
    if (stream != nullptr) kind = stream->kind();  // a listening socket
  }
  if (stream == nullptr) {
    if (held < 0) return Error{EBADF, "descriptor " + std::to_string(entry.number) + " was not handed over"};
    const auto status = Stat(held);
    if (!status) return status.error();
    const auto classified = mapped ? Result<Kind>(access == O_WRONLY ? Kind::kOutputFile : Kind::kMappedFile)
                                   : Classify(held, *status, link, static_cast<int>(entry.flags));
    if (!classified) return classified.error();
    kind = *classified;
    // What a program prints into is not mapped, whatever else its descriptor permits, and others print there,
    // too: at home each write goes behind the one before.
    const bool printed = entry.number == STDOUT_FILENO || entry.number == STDERR_FILENO;
    if (kind == Kind::kPlainFile && access == O_RDWR && printed) kind = Kind::kOutputFile;
    if (kind == Kind::kAnonymousFile && (!MayBeCopied(held, entry.flags) || MayBeWritten(held))) {
      if (!printed && IsMadeForMapping(link))
        return Error{ENOTSUP, "a file in memory that can be written cannot move to another host"};
      kind = Kind::kOutputFile;
    }
    if (!IsBridged(kind) && !CarriesOffset(kind)) {
      if (auto described = Describe(kind, held, link, job); !described) return described.error();
      return job;
    }
    if (!is_stream) stream = Find(Key{object, access}, kind, held);
    if (stream != nullptr) kind = stream->kind();  // as another of its descriptors had it
  }
  if (kind == Kind::kAnonymousFile) {
    const int own = stream == nullptr ? held : stream->descriptor();
    if (auto described = Describe(kind, own, link, job); !described) return described.error();
  }
  if (stream == nullptr) {
    auto adopted = Adopt(Key{object, access}, kind, held, static_cast<int>(entry.flags));
    if (!adopted) return adopted.error();
    stream = *adopted;
  }
  job.kind = static_cast<uint32_t>(kind);
  job.stream = ShareFor(*stream, target);
  const uint32_t grant = stream->Grant(job.stream, target);
  ObjectTraits traits = stream->Traits();
  traits.grant = grant;
  const std::vector<uint8_t> packed = Pack(traits);
  job.extra.insert(job.extra.begin(), packed.begin(), packed.end());
  if (CarriesOffset(kind) || agent_.object_counts() != nullptr) job.path = mapped ? *mapped : link;
  if (CarriesOffset(kind)) job.offset = stream->OffsetFor(job.stream);
  return job;
}

void Origins::TellOffsets() {
  for (OriginStream* stream : carrying_) stream->TellOffset();
}

Descriptor Origins::Open(StreamId share) {
  OriginStream* const stream = OfShare(share);
  auto copy = stream == nullptr ? Result<Descriptor>(Descriptor()) : Duplicate(stream->descriptor());
  return copy ? std::move(*copy) : Descriptor();
}

bool Origins::AddShare(StreamId stream, StreamId share, HostId host) {
  OriginStream* const found = OfShare(stream);
  if (found == nullptr) return false;
  by_share_[share] = found;
  found->Grant(share, host);
  return true;
}

void Origins::Withdraw(const wire::JobDescriptor& descriptor) {
  if (descriptor.kind == static_cast<uint32_t>(Kind::kReference)) return;
  OriginStream* stream = descriptor.stream == 0 ? nullptr : OfShare(descriptor.stream);
  if (stream == nullptr) return;
  wire::Reader reader(descriptor.extra);
  ObjectTraits traits;
  reader.Read(traits);
  stream->Withdraw(descriptor.stream, traits.grant);
}

void Origins::WhenWritten(const std::vector<StreamId>& streams, wire::Patience patience,
                          OriginStream::Action done) {
  std::vector<std::pair<StreamId, OriginStream*>> awaited;
  for (const StreamId id : streams) {
    if (OriginStream* stream = OfShare(id)) awaited.emplace_back(id, stream);
  }
  // Counts down to the last one; one more for this function, so that it cannot end in the middle.
  struct Left {
    size_t count;
    bool stuck = false;
  };
  auto left = std::make_shared<Left>(Left{awaited.size() + 2});
  auto one_less = [left, done = std::move(done)](bool stuck) {
    left->stuck |= stuck;
    if (--left->count == 0) done(left->stuck);
  };
  for (const auto& [id, stream] : awaited) stream->WhenWritten(id, patience, one_less);
  passing_.WhenWritten(streams, patience, one_less);
  one_less(false);
}

template <class Action>
void Origins::ForEach(Action action) {
  std::vector<OriginStream*> all;
  for (const auto& [stream, entry] : entries_) all.push_back(stream);
  for (OriginStream* stream : all) {
    if (entries_.count(stream) != 0) action(*stream);
  }
}

void Origins::SayBroken(HostId host, const wire::StreamBroken& broken) {
  broken_.emplace_back(host, broken);
  if (broken_.size() == 1) agent_.SendSoon([this] { SendBroken(); });
}

void Origins::SendBroken() {
  if (broken_.empty()) return;
  const auto [host, broken] = broken_.back();
  broken_.pop_back();
  agent_.Send(host, broken);  // the others before it
}

void Origins::BeforeSend() {
  TellOffsets();
  if (agent_.published()) return;
  for (const auto& [host, broken] : std::exchange(broken_, {})) agent_.SendAhead(host, broken);
}

void Origins::HostGone(HostId host) {
  std::erase_if(broken_, [host](const auto& entry) { return entry.first == host; });
  ForEach([host](OriginStream& stream) { stream.HostGone(host); });
}

void Origins::ProcessContinued(Incarnation process) {
  ForEach([process](OriginStream& stream) { stream.ProcessContinued(process); });
}

void Origins::LockerEnded(int32_t process) {
  for (const auto& [stream, entry] : entries_) stream->LockerEnded(process);
}

// Which socket is whose peer is not known.
void Origins::LookForShutdowns() {
  ForEach([](OriginStream& stream) { stream.LookForShutdown(); });
}

void Origins::Clear() {
  broken_.clear();
  by_key_.clear();
  by_share_.clear();
  entries_.clear();
}

}  // namespace elsewhere::runtime::stream
