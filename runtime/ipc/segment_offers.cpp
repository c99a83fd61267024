#include "runtime/ipc/segment_offers.h"

#include <fcntl.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "shim/store/unique_fd.h"
#include "shim/wire/stream_call.h"

namespace elsewhere::runtime {

SegmentOffers::SegmentOffers(Agent& agent, Segments& segments) : agent_(agent), segments_(segments) {
  agent.OnCall(abi::Operation::kSegment, [this](CallId id, const Call& call) { OnCall(id, call); });
  agent.OnCall(abi::Operation::kSegmentPlace, [this](CallId id, const Call& call) {
    const ObjectKey local{static_cast<uint64_t>(call.arguments[0]), static_cast<uint64_t>(call.arguments[1])};
    ObjectKey at_home;
    if (agent_.is_home() || !segments_.FindLocal(local, &at_home)) return agent_.Complete(id, -1, ENOENT);
    const uint64_t object[] = {at_home.device, at_home.inode};
    agent_.Complete(id, 0, 0, std::span(reinterpret_cast<const uint8_t*>(object), sizeof object));
  });
  agent.OnCall(abi::Operation::kSegmentOfFile, [this](CallId id, const Call& call) { OnFile(id, call); });
  agent.OnCall(abi::Operation::kSegmentLetGo, [this](CallId id, const Call& call) {
    segments_.ReleaseEnded(
        {static_cast<uint64_t>(call.arguments[0]), static_cast<uint64_t>(call.arguments[1])});
    agent_.Complete(id, 0);
  });
  agent.OnMessage<wire::SegmentWanted>(
      [this](HostId from, wire::SegmentWanted&& wanted) { OnWanted(from, wanted); });
  agent.OnMessage<wire::SegmentOffered>(
      [this](HostId, wire::SegmentOffered&& offered) { OnOffered(offered); });
}

void SegmentOffers::OnCall(CallId id, const Call& call) {
  if (agent_.is_home()) {  // something was detached or removed here
    segments_.LetGoOfAbandoned();
    return agent_.Complete(id, 0);
  }
  if (call.incarnation == 0) return agent_.Complete(id, -1, EINVAL);
  const uint64_t request = ++last_request_;
  wanted_[request] = {id, call.incarnation};
  agent_.Send(wire::kHome,
              wire::SegmentWanted{call.incarnation, request, static_cast<int32_t>(call.arguments[0])});
}

// Its deputy has attached it already, so it exists until this is done.
void SegmentOffers::OnWanted(HostId from, const wire::SegmentWanted& wanted) {
  wire::SegmentOffered offered;
  offered.request = wanted.request;
  const Process* deputy = agent_.FindProcess(wanted.incarnation);
  if (deputy == nullptr) {
    offered.error = ESRCH;
    return agent_.Send(from, offered);
  }
  auto segment = segments_.ObtainSystemV(wanted.id);
  if (!segment) {
    offered.error = segment.error().code;
    return agent_.Send(from, offered);
  }
  segments_.Use(static_cast<uint64_t>(deputy->kernel_pid), (*segment)->id());
  const ObjectKey key = segments_.KeyOf((*segment)->id());
  offered.segment = {(*segment)->id(), key.device, key.inode, (*segment)->size(), 0, (*segment)->name()};
  agent_.Send(from, offered);
}

void SegmentOffers::OnOffered(const wire::SegmentOffered& offered) {
  const auto found = wanted_.find(offered.request);
  if (found == wanted_.end()) return;
  if (offered.error != 0) {
    agent_.Complete(found->second.call, -1, offered.error);
    wanted_.erase(found);
    return;
  }
  JoinFor(offered.request, offered.segment);
}

void SegmentOffers::JoinFor(uint64_t request, const wire::SharedState::Segment& segment) {
  segments_.Use(wanted_.at(request).process, segment.segment);
  segments_.Join(segment,
                 [this, request, segment](const Status& joined) { Offer(request, segment, joined); });
}

void SegmentOffers::OnFile(CallId id, const Call& call) {
  wire::SharedFile file;
  if (agent_.is_home() || call.incarnation == 0 || call.payload.size() != sizeof file)
    return agent_.Complete(id, -1, ENODEV);
  std::memcpy(&file, call.payload.data(), sizeof file);
  const uint64_t request = ++last_request_;
  wanted_[request] = {id, call.incarnation, call.arguments[0] != 0};
  JoinFor(request, {file.segment, file.device, file.inode, file.size, 0,
                    std::string(file.name, strnlen(file.name, sizeof file.name)), file.follows_size != 0});
}

void SegmentOffers::Offer(uint64_t request, const wire::SharedState::Segment& segment, const Status& joined) {
  const auto found = wanted_.find(request);
  if (found == wanted_.end()) return;
  const Wanted wanted = found->second;
  wanted_.erase(found);
  const Segment* here = segments_.Find(segment.segment);
  if (!joined || here == nullptr)
    return agent_.Complete(wanted.call, -1, joined ? EIDRM : joined.error().code);
  // What a process maps through a descriptor that can only be read it cannot make writable.
  const std::string again = "/proc/self/fd/" + std::to_string(here->descriptor());
  store::UniqueFd offered(wanted.read_only ? open(again.c_str(), O_RDONLY | O_CLOEXEC)
                                           : fcntl(here->descriptor(), F_DUPFD_CLOEXEC, 0));
  if (!offered) return agent_.Complete(wanted.call, -1, errno);
  const uint64_t token = agent_.Offer(std::move(offered), wanted.call);
  const uint64_t object[] = {segment.device, segment.inode};
  agent_.Complete(wanted.call, static_cast<int64_t>(token), 0,
                  std::span(reinterpret_cast<const uint8_t*>(object), sizeof object));
}

void SegmentOffers::CallDropped(CallId id) {
  std::erase_if(wanted_, [id](const auto& item) { return item.second.call == id; });
}

}  // namespace elsewhere::runtime
