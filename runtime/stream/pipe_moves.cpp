#include "runtime/stream/pipe_moves.h"

#include <fcntl.h>

#include <algorithm>
#include <vector>

#include "runtime/stream/origins.h"
#include "runtime/stream/passing.h"
#include "runtime/stream/pipe_holders.h"

namespace elsewhere::runtime::stream {

PipeMoves::PipeMoves(Agent& agent, Origins& origins, Passing& passing)
    : agent_(agent), origins_(origins), passing_(passing) {
  agent_.OnMessage<wire::StreamMoveAnswer>(
      [this](HostId from, wire::StreamMoveAnswer&& answer) { OnAnswer(from, answer); });
}

void PipeMoves::Consider(OriginStream& read, OriginStream* write) {
  if (!agent_.is_home() || write == nullptr) return;
  const auto reader = read.SoleShare(), writer = write->SoleShare();
  if (!reader || !writer || reader->host != writer->host) return;
  if (refused_.count(reader->id) != 0 || offered_.count(reader->id) != 0) return;
  if (!HeldBySelfAlone(agent_, read.descriptor(), read.descriptors() + write->descriptors())) return;
  offered_.insert(reader->id);
  agent_.Send(reader->host,
              wire::StreamMove{reader->id, writer->id, reader->grant, writer->grant,
                               passing_.references(reader->id) + passing_.references(writer->id)});
}

void PipeMoves::OnAnswer(HostId from, const wire::StreamMoveAnswer& answer) {
  offered_.erase(answer.read);
  if (answer.answer == wire::MoveAnswer::kNever) refused_.insert(answer.read);
  if (answer.answer != wire::MoveAnswer::kTaken) return;
  OriginStream* const read = origins_.OfShare(answer.read);
  OriginStream* const write = origins_.OfShare(answer.write);
  // Its close would have been told before.
  if (read == nullptr || write == nullptr)
    return agent_.RefuseMessage(from, "that it has taken a pipe which it had closed");
  Move(from, answer.read, *read, *write);
}

void PipeMoves::Move(HostId to, wire::StreamId id, OriginStream& read, OriginStream& write) {
  std::vector<uint8_t> bytes = read.TakeAll();
  const std::vector<uint8_t> queued = write.TakeAll();
  bytes.insert(bytes.end(), queued.begin(), queued.end());
  wire::StreamMoved message;
  message.read = id;
  message.status_flags = fcntl(read.descriptor(), F_GETFL);
  message.capacity = fcntl(read.descriptor(), F_GETPIPE_SZ);
  read.Leave();
  write.Leave();
  ++agent_.report().pipes_moved;
  for (size_t at = 0; !message.last;) {
    const size_t size = std::min<size_t>(bytes.size() - at, wire::kStreamPart);
    const auto from = bytes.begin() + static_cast<ptrdiff_t>(at);
    message.bytes.assign(from, from + static_cast<ptrdiff_t>(size));
    at += size;
    message.last = at == bytes.size();
    agent_.Send(to, message);
  }
}

}  // namespace elsewhere::runtime::stream
