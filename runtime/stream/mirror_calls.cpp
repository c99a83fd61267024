// Mirrors: calls on an object that are made where it is (StreamControl).
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "runtime/stream/mirrors.h"
#include "shim/wire/stream_call.h"

namespace elsewhere::runtime::stream {

void Mirrors::OnControl(CallId id, const Call& call, wire::StreamOperation operation) {
  CatchUp();
  MovedPipe* const moved = MovedOf(ObjectOf(call));
  Mirror* const mirror = moved != nullptr ? nullptr : OfObject(call);
  wire::StreamControl control;
  // A plain file's description has its locks and its offset at its origin; the process names its number.
  const bool of_file = operation == wire::StreamOperation::kCall &&
                       (call.arguments[2] == static_cast<int64_t>(wire::StreamCall::kLock) ||
                        call.arguments[2] == static_cast<int64_t>(wire::StreamCall::kRecordLock) ||
                        call.arguments[2] == static_cast<int64_t>(wire::StreamCall::kTakeOffset) ||
                        wire::MovesOffset(call.arguments[2]));
  control.stream = moved != nullptr    ? moved->name()
                   : mirror != nullptr ? mirror->id()
                   : of_file           ? files_.StreamOf(call.kernel_pid, static_cast<int>(call.arguments[4]))
                                       : 0;
  if (control.stream == 0) return agent_.Complete(id, -1, EBADF);
  control.request = numbers_.Next();
  control.operation = operation;
  if (operation == wire::StreamOperation::kCall) {
    control.call = call.arguments[2];
    control.first = call.arguments[3];
    control.second = call.arguments[4];
    control.third = call.arguments[5];
  } else {
    control.first = call.arguments[2];
    control.second = call.arguments[3];
  }
  control.payload = call.payload;
  if (moved != nullptr) return moved->Control(id, control);
  Control& made = controls_[control.request];
  made.call = id;
  made.stream = control.stream;
  if (wire::MovesOffset(control.call))
    made.advance = control.call == static_cast<int64_t>(wire::StreamCall::kAdvance) ? control.first : 0;
  made.takes = of_file && control.call == static_cast<int64_t>(wire::StreamCall::kTakeOffset);
  const HostId origin = NextHop(control.stream);
  const auto send = [this, control, origin] { agent_.Send(origin, control); };
  if (mirror == nullptr) return send();
  if (WaitsForBytes(mirror->kind())) return mirror->WhenSent(send);
  mirror->ForwardAll();
  if (control.call != static_cast<int64_t>(wire::StreamCall::kShutDown) || !mirror->blocked()) return send();
  // What was written and has no room yet goes first: the end of it says the rest (Mirror::Forward).
  if (control.first == SHUT_RDWR) {
    control.first = SHUT_RD;
    agent_.Send(origin, control);
  } else if (control.first == SHUT_RD) {
    send();
  } else {
    controls_.erase(control.request);
    agent_.Complete(id, 0);
  }
}

// The origin takes it back, or has made it by then: a lock that is there must be known here. Behind the call,
// which may still wait for bytes to be sent.
void Mirrors::CancelControl(uint64_t request, StreamId stream) {
  wire::StreamControl cancel;
  cancel.stream = stream;
  cancel.request = request;
  cancel.operation = wire::StreamOperation::kCancel;
  const auto send = [this, cancel] { agent_.Send(NextHop(cancel.stream), cancel); };
  Mirror* const mirror = OfStream(stream);
  if (mirror != nullptr && WaitsForBytes(mirror->kind())) return mirror->WhenSent(send);
  send();
}

// The address is free when the origin has closed it. On a worker home is asked in any case: its event may
// have told already.
void Mirrors::OnListenerClosed(CallId id) {
  std::map<HostId, std::vector<StreamId>> closed;
  if (!agent_.is_home()) closed[wire::kHome] = {};
  std::vector<StreamId> listeners;
  for (const auto& [stream, mirror] : mirrors_) {
    if (mirror->kind() == Kind::kListener) listeners.push_back(stream);
  }
  for (const StreamId stream : listeners) {
    if (Mirror* mirror = OfStream(stream)) mirror->LookForHolders();
    if (OfStream(stream) == nullptr) closed[NextHop(stream)].push_back(stream);
  }
  auto left = std::make_shared<size_t>(closed.size() + 1);
  const auto one_less = [this, id, left](bool) {
    if (--*left == 0) agent_.Complete(id, 0);
  };
  for (auto& [host, streams] : closed)
    passing_.DrainAt(host, std::move(streams), wire::Patience::kLong, one_less);
  one_less(false);
}

void Mirrors::CallCancelled(CallId call) {
  for (const auto& [request, control] : controls_) {
    if (control.call == call && !control.dropped) return CancelControl(request, control.stream);
  }
  for (auto& [id, mirror] : mirrors_) mirror->CallCancelled(call);
  for (auto& [id, moved] : moved_) moved->CallCancelled(call);
}

void Mirrors::CallDropped(CallId call) {
  for (auto& [request, control] : controls_) {
    if (control.call != call) continue;
    control.dropped = true;
    CancelControl(request, control.stream);
    break;
  }
  for (auto& [id, mirror] : mirrors_) mirror->CallDropped(call);
  for (auto& [id, moved] : moved_) moved->CallDropped(call);
}

}  // namespace elsewhere::runtime::stream
