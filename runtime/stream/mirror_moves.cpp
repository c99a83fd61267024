// Mirrors: pipes of home's that become this host's.
//
// Home offers (pipe_moves.h) when no process there has an end of the pipe and this host alone has shares of
// it. Whether anything that names the pipe as home's is on its way is known here: a job (by the last grant),
// a reference (by their number), a process that was not started or did not say yet what it was passed. If so,
// or if somebody watches, the answer is "not now". Otherwise the answer makes the pipe this host's, for what
// was said before it arrives before it: home then sends what it still has, and what is read here until that
// has come waits.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "runtime/stream/mirrors.h"
#include "runtime/stream/packet_mode.h"
#include "shim/wire/stream_call.h"

namespace elsewhere::runtime::stream {
namespace {

// Packets are only among what is there now. Each is read whole, for a reader that asks for less of one loses
// the rest.
std::vector<uint8_t> TakePackets(int pipe) {
  const size_t there = BytesWaiting(pipe);
  std::vector<uint8_t> taken;
  std::array<uint8_t, 64 << 10> buffer;
  while (taken.size() < there) {
    const ssize_t got = read(pipe, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    taken.insert(taken.end(), buffer.begin(), buffer.begin() + got);
  }
  return taken;
}

}  // namespace

bool Mirrors::IsOnItsWay(StreamId id) const {
  return in_transit_.count(id) != 0 ||
         std::any_of(streams_of_job_.begin(), streams_of_job_.end(), [id](const auto& job) {
           return job.second != nullptr && std::binary_search(job.second->begin(), job.second->end(), id);
         });
}

wire::MoveAnswer Mirrors::TakePipe(const wire::StreamMove& offer) {
  Mirror* const read = OfStream(offer.read);
  Mirror* const write = OfStream(offer.write);
  const bool still = read != nullptr && write != nullptr && read->CanMove(offer.read_grants) &&
                     write->CanMove(offer.write_grants) && !IsOnItsWay(offer.read) &&
                     !IsOnItsWay(offer.write);
  if (!still || passing_.references(offer.read) + passing_.references(offer.write) != offer.references)
    return wire::MoveAnswer::kNotNow;
  PipeWriters writers;
  const auto found = writers.Find(agent_, write->agent_end());
  if (found == PipeWriters::Found::kNotPermitted) return wire::MoveAnswer::kNever;
  auto read_end = OpenAgain(write->agent_end(), O_RDONLY);
  if (found != PipeWriters::Found::kAll || !read_end) return wire::MoveAnswer::kNotNow;

  writers.EndPackets();
  std::vector<uint8_t> untaken = TakePackets(write->agent_end());
  auto moved = std::make_unique<MovedPipe>(agent_, offer.read, read->Objects().front(), write->Leave(),
                                           std::move(*read_end), std::move(untaken),
                                           [this](MovedPipe& gone) { ForgetMoved(gone); });
  moved_by_object_[moved->stand_in()] = moved.get();
  read->BeginMove(*moved);
  moved_[offer.read] = std::move(moved);
  return wire::MoveAnswer::kTaken;
}

void Mirrors::OnMoved(const wire::StreamMoved& message) {
  const auto found = moved_.find(message.read);
  if (found == moved_.end()) return;  // nobody reads it any more
  MovedPipe& moved = *found->second;
  moved.OnMoved(message.bytes);
  if (!message.last) return;
  Mirror* const mirror = OfStream(message.read);
  std::vector<MovedPipe::Request> requests;
  std::unique_ptr<LocalObject> stand_in = mirror == nullptr ? nullptr : mirror->EndMove(requests);
  moved.Open(std::move(stand_in), requests, message);
}

// A read end that moves, and nobody has it here any more. Where it was passed on meanwhile, home's bytes are
// still awaited.
void Mirrors::AbandonMove(StreamId id) {
  const auto found = moved_.find(id);
  if (found != moved_.end() && found->second->Abandon()) ForgetMoved(*found->second);
}

void Mirrors::ForgetMoved(MovedPipe& moved) {
  std::erase_if(moved_by_object_, [&](const auto& entry) { return entry.second == &moved; });
  const auto found = moved_.find(moved.name());
  if (found == moved_.end()) return;
  std::shared_ptr<MovedPipe> last_owner = std::move(found->second);
  moved_.erase(found);
  agent_.loop().Defer([last_owner] {});
}

MovedPipe* Mirrors::MovedOf(const ObjectId& object) const {
  const auto found = moved_by_object_.find(object);
  return found == moved_by_object_.end() ? nullptr : found->second;
}

// ---- What processes ask by descriptors that they have not replaced yet

void Mirrors::AskMoved(MovedPipe& moved, CallId id, const Call& call) {
  const int64_t mode = call.arguments[3];
  if (mode == abi::kPullBack) {
    moved.GiveBack();
    return agent_.Complete(id, 0);
  }
  const auto at_once = static_cast<int64_t>(Mirror::PullMode::kAtOnce);
  moved.Ask({.call = id,
             .process = call.kernel_pid,
             .bytes = static_cast<uint64_t>(std::max<int64_t>(call.arguments[2], 1)),
             .wait = (mode & at_once) == 0,
             .stays = (mode & abi::kPullStays) != 0});
}

void Mirrors::WatchMoved(MovedPipe& moved, CallId id, const Call& call) {
  const auto mode = static_cast<Mirror::WatchMode>(call.arguments[2]);
  if (mode == Mirror::WatchMode::kHasLeft) {
    moved.LookForHolders();
    return agent_.Complete(id, 0);
  }
  const bool until_closed = mode == Mirror::WatchMode::kUntilClosed || mode == Mirror::WatchMode::kForget;
  const MovedPipe::Request request{
      .call = id, .process = call.kernel_pid, .stays = (call.arguments[3] & abi::kWatchStays) != 0};
  if (mode == Mirror::WatchMode::kOnce || mode == Mirror::WatchMode::kUntilClosed)
    return moved.Watch(request, until_closed);
  moved.EndWatch(request, until_closed, mode == Mirror::WatchMode::kQuery);
}

// What the pipe's description is passed on as.
Descriptor Mirrors::OpenMoved(int descriptor, std::shared_ptr<FirstBytes>* first) {
  const auto status = moved_.empty() ? Result<struct stat>(Error{ENOENT, ""}) : Stat(descriptor);
  MovedPipe* const moved = status ? MovedOf(IdOf(*status)) : nullptr;
  if (moved == nullptr) return Descriptor();
  *first = moved->ShareFirst();
  auto opened = moved->Open();
  return opened ? std::move(*opened) : Descriptor();
}

void Mirrors::OnKeepPlace(CallId id, const Call& call) {
  Mirror* const mirror = OfObject(call);
  if (mirror == nullptr) return agent_.Complete(id, -1, EBADF);
  mirror->KeepPlace(call.kernel_pid, call.arguments[2] != 0);
  agent_.Complete(id, 0);
}

}  // namespace elsewhere::runtime::stream
