#include "runtime/stream/passing.h"

#include <fcntl.h>
#include <unistd.h>

#include <climits>

#include "runtime/mapped_files.h"
#include "runtime/stream/mirrors.h"
#include "runtime/stream/origins.h"
#include "runtime/stream/rebuild.h"

namespace elsewhere::runtime::stream {
namespace {

Error CannotPass(const std::string& what) {
  return Error{ENOTSUP, what + " cannot be passed to another host"};
}

Result<image::Descriptor> EntryOf(int descriptor) {
  const auto status = Stat(descriptor);
  if (!status) return status.error();
  image::Descriptor entry{};
  entry.number = -1;
  entry.mode = status->st_mode;
  entry.device = status->st_dev;
  entry.inode = status->st_ino;
  entry.rdev = status->st_rdev;
  entry.size = static_cast<uint64_t>(status->st_size);
  entry.offset = lseek(descriptor, 0, SEEK_CUR);
  entry.flags = static_cast<uint32_t>(fcntl(descriptor, F_GETFL));
  return entry;
}

Result<Kind> KindToPass(MappedFiles* files, int descriptor, const image::Descriptor& entry,
                        const std::string& link) {
  const auto status = Stat(descriptor);
  if (!status) return status.error();
  if (files != nullptr && files->NameOf(entry.device, entry.inode, link))
    return CannotPass("a mapped file (" + link + ")");
  auto kind = Classify(descriptor, *status, link, static_cast<int>(entry.flags));
  if (!kind) return kind;
  if (*kind == Kind::kAnonymousFile && !MayBeCopied(descriptor, entry.flags))
    return CannotPass("a file without a name that can be written (" + link + ")");
  if (*kind == Kind::kMessageQueue) return CannotPass("a message queue");
  if (*kind == Kind::kEpoll) return CannotPass("an epoll instance");
  return kind;
}

}  // namespace

// ---- Packing

void Passing::NoteLost(const Error& reason) {
  agent_.Note("a descriptor was not passed over a socket: " + reason.message);
}

std::vector<wire::JobDescriptor> Passing::Pack(HostId to, std::vector<Descriptor> descriptors) {
  std::vector<wire::JobDescriptor> entries;
  for (Descriptor& descriptor : descriptors) {
    auto packed = PackOne(to, std::move(descriptor));
    if (packed) {
      entries.push_back(std::move(*packed));
      continue;
    }
    NoteLost(packed.error());
    for (const auto& entry : entries) origins_->Withdraw(entry);
    return {};
  }
  return entries;
}

Result<wire::JobDescriptor> Passing::PackOne(HostId to, Descriptor descriptor) {
  std::shared_ptr<FirstBytes> first;
  if (Descriptor moved = mirrors_->OpenMoved(descriptor.get(), &first); first != nullptr) {
    if (!moved) return Error{EMFILE, "a pipe cannot be opened again"};
    descriptor = std::move(moved);
  }
  if (const StreamId known = mirrors_->StreamOf(descriptor.get()); known != 0) {
    if (agent_.is_home() && wire::HostOf(known) != to) return Share(known, to);
    wire::JobDescriptor reference;
    reference.kind = static_cast<uint32_t>(Kind::kReference);
    reference.stream = known;
    ++references_[known];
    return reference;
  }
  const auto entry = EntryOf(descriptor.get());
  if (!entry) return entry.error();
  const std::string link = LinkOf(descriptor.get());
  const auto kind = KindToPass(agent_.mapped_files(), descriptor.get(), *entry, link);
  if (!kind) return kind.error();
  if (CarriesOffset(*kind)) {
    // From here on each side has an offset of its own.
    const Kind alone = *kind == Kind::kPlainFile ? Kind::kReopened : *kind;
    wire::JobDescriptor file;
    file.status_flags = static_cast<int32_t>(entry->flags);
    if (auto described = Describe(alone, descriptor.get(), link, file); !described) return described.error();
    return file;
  }
  int held = descriptor.Release();
  auto granted = origins_->Grant(to, *entry, link, held);
  if (held >= 0) close(held);
  if (granted && first != nullptr) origins_->SetFirst(granted->stream, std::move(first));
  return granted;
}

Status Passing::Check(int descriptor) {
  if (mirrors_->StreamOf(descriptor) != 0) return Ok{};
  const auto entry = EntryOf(descriptor);
  if (!entry) return entry.error();
  const auto kind = KindToPass(agent_.mapped_files(), descriptor, *entry, LinkOf(descriptor));
  if (!kind) return kind.error();
  return Ok{};
}

// ---- Unpacking

std::vector<Descriptor> Passing::Unpack(const std::vector<wire::JobDescriptor>& entries) {
  std::vector<Descriptor> descriptors;
  for (const wire::JobDescriptor& entry : entries) {
    auto opened = UnpackOne(entry);
    if (!opened) {
      NoteLost(opened.error());
      return {};
    }
    descriptors.push_back(std::move(*opened));
  }
  return descriptors;
}

Result<Descriptor> Passing::UnpackOne(const wire::JobDescriptor& entry) {
  if (entry.kind != static_cast<uint32_t>(Kind::kReference)) return mirrors_->OpenPassed(entry);
  ++references_[entry.stream];
  if (auto own = origins_->Open(entry.stream)) return own;
  if (!IsRelayed(entry.stream)) return Error{EBADF, "its object is gone"};
  auto shared = Share(entry.stream, wire::kHome);
  if (!shared) return shared.error();
  return mirrors_->OpenPassed(*shared);
}

// ---- Streams of a third host

Result<wire::JobDescriptor> Passing::Share(StreamId known, HostId to) {
  const auto relay = relays_.find(known);
  const wire::JobDescriptor* like = relay != relays_.end() ? &relay->second.entry : mirrors_->EntryOf(known);
  if (like == nullptr) return Error{EBADF, "its object is gone"};
  wire::JobDescriptor entry = *like;
  // Numbers that the origin makes up itself have this bit clear.
  constexpr StreamId kMadeAtHome = StreamId{1} << 47;
  const HostId origin = wire::HostOf(known);
  entry.stream = (static_cast<StreamId>(origin) << 48) | kMadeAtHome | ++last_share_;
  ObjectTraits traits;
  wire::Reader(entry.extra).Read(traits);
  traits.grant = 1;
  wire::Writer writer;
  writer.Write(traits);
  entry.extra = writer.Take();
  agent_.Send(origin, wire::StreamShare{known, entry.stream});
  if (to != wire::kHome) relays_[entry.stream] = Relay{to, entry};
  return entry;
}

bool Passing::GrantMirrored(HostId to, const image::Descriptor& entry, wire::JobDescriptor& job) {
  const StreamId known = mirrors_->StreamOf(ObjectId{entry.device, entry.inode});
  if (known == 0) return false;
  auto shared = Share(known, to);
  if (!shared) return false;
  job = std::move(*shared);
  job.number = entry.number;
  job.flags = static_cast<int32_t>(entry.descriptor_flags);
  job.status_flags = static_cast<int32_t>(entry.flags);
  return true;
}

void Passing::Withdraw(const wire::JobDescriptor& entry) {
  if (relays_.erase(entry.stream) > 0)
    agent_.Send(wire::HostOf(entry.stream), wire::StreamClose{entry.stream, {1, 1}});
}

void Passing::OnShare(HostId from, const wire::StreamShare& share) {
  if (origins_->AddShare(share.stream, share.share, from)) return;
  // It ended just now: nobody else's end holds it, so whoever gets it finds it ended.
  agent_.Send(from, wire::StreamBroken{share.share, EPIPE});
}

void Passing::ForwardData(wire::StreamData&& data) {
  if (!IsRelayed(data.stream)) return;
  const HostId origin = wire::HostOf(data.stream);
  data.passed = Pack(origin, Unpack(data.passed));
  agent_.Send(origin, data);
}

void Passing::ForwardPulled(wire::StreamPulled&& pulled) {
  const auto relay = relays_.find(pulled.stream);
  if (relay == relays_.end()) return;
  const HostId holder = relay->second.holder;
  pulled.passed = Pack(holder, Unpack(pulled.passed));
  agent_.Send(holder, pulled);
}

void Passing::BeforeAnswer() {
  mirrors_->ForwardNarrators();
}

bool Passing::ForwardControl(HostId from, const wire::StreamControl& control) {
  if (!IsRelayed(control.stream)) return false;
  wire::StreamControl forwarded = control;
  if (control.operation == wire::StreamOperation::kCancel) {
    const auto asked = std::find_if(controls_.begin(), controls_.end(), [&](const auto& each) {
      return each.second.host == from && each.second.request == control.request;
    });
    if (asked == controls_.end()) return true;  // answered
    forwarded.request = asked->first;
  } else {
    forwarded.request = mirrors_->NextRequest();
    controls_[forwarded.request] = Asker{from, control.request};
  }
  agent_.Send(wire::HostOf(control.stream), forwarded);
  return true;
}

bool Passing::ForwardAnswer(wire::StreamControlled answer) {
  const auto asker = controls_.find(answer.request);
  if (asker == controls_.end()) return false;
  answer.request = asker->second.request;
  agent_.Send(asker->second.host, answer);
  controls_.erase(asker);
  return true;
}

void Passing::WhenWritten(const std::vector<StreamId>& streams, wire::Patience patience,
                          const Drained& done) {
  std::map<HostId, std::vector<StreamId>> by_origin;
  for (const StreamId id : streams) {
    if (IsRelayed(id)) by_origin[wire::HostOf(id)].push_back(id);
  }
  if (by_origin.empty()) return done(false);
  struct Left {
    size_t count;
    bool stuck = false;
  };
  const auto left = std::make_shared<Left>(Left{by_origin.size()});
  for (auto& [origin, ids] : by_origin) {
    DrainAt(origin, std::move(ids), patience, [left, done](bool stuck) {
      left->stuck |= stuck;
      if (--left->count == 0) done(left->stuck);
    });
  }
}

void Passing::DrainAt(HostId host, std::vector<StreamId> streams, wire::Patience patience, Drained done) {
  const uint64_t request = mirrors_->NextRequest();
  drains_[request] = std::move(done);
  agent_.Send(host, wire::StreamDrain{request, std::move(streams), patience});
}

void Passing::OnDrained(const wire::StreamDrained& drained) {
  auto found = drains_.extract(drained.request);
  if (!found.empty()) found.mapped()(drained.stuck);
}

void Passing::HostGone(HostId host) {
  for (auto each = relays_.begin(); each != relays_.end();) {
    const StreamId id = each->first;
    const bool origin_gone = wire::HostOf(id) == host;
    if (!origin_gone && each->second.holder != host) {
      ++each;
      continue;
    }
    if (origin_gone && !agent_.ending()) {
      agent_.Fatal("worker " + std::to_string(host) +
                   " ended, and with it descriptors that it had passed on");
    }
    // All grants that there can be: nobody there holds it any more.
    if (!origin_gone) agent_.Send(wire::HostOf(id), wire::StreamClose{id, {0, UINT32_MAX}});
    each = relays_.erase(each);
  }
}

}  // namespace elsewhere::runtime::stream
