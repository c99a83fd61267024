// Home: pipes that are given to the worker whose processes alone hold them (mirror_moves.cpp: its side).
//
// A pipe is offered when no process at home has an end of it, nor can get one: none can but from who has it,
// or by a descriptor that the worker passes here, and those are counted. So nothing changes at home between
// the offer and its answer but what the worker says before it, and nothing has to wait meanwhile. Looking is
// expensive: it is done at a reader's requests, ever more rarely (OriginStream::OnPull).
// Everything runs on the agent's loop.
#pragma once

#include <unordered_set>

#include "runtime/agent.h"
#include "shim/wire/stream_message.h"

namespace elsewhere::runtime::stream {

class Origins;
class OriginStream;
class Passing;

class PipeMoves {
 public:
  PipeMoves(Agent& agent, Origins& origins, Passing& passing);
  // No process at home reads this pipe. `write`: the stream of its other end, nullptr: nobody elsewhere has
  // it.
  void Consider(OriginStream& read, OriginStream* write);

 private:
  void OnAnswer(HostId from, const wire::StreamMoveAnswer& answer);
  void Move(HostId to, wire::StreamId id, OriginStream& read, OriginStream& write);

  Agent& agent_;
  Origins& origins_;
  Passing& passing_;
  std::unordered_set<wire::StreamId> refused_;  // for good
  std::unordered_set<wire::StreamId> offered_;
};

}  // namespace elsewhere::runtime::stream
