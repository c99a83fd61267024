// System V segments that a process on a worker attaches: home makes the segment shared, this worker joins it,
// the process fetches a descriptor of it. (Segments attached before a fork come with the job.) Files of home
// that it maps: the same, but that home has shared them already when the process asks here
// (StreamCall::kShare). And which segment a local object stands for, asked by who maps a descriptor of it.
//
// Thread-safety: one loop.
#pragma once

#include <unordered_map>

#include "runtime/agent.h"
#include "runtime/ipc/segments.h"

namespace elsewhere::runtime {

class SegmentOffers {
 public:
  SegmentOffers(Agent& agent, Segments& segments);
  void CallDropped(CallId id);

 private:
  struct Wanted {
    CallId call;
    Incarnation process = 0;
    bool read_only = false;
  };

  void OnCall(CallId id, const Call& call);
  void OnFile(CallId id, const Call& call);
  void JoinFor(uint64_t request, const wire::SharedState::Segment& segment);
  void OnWanted(HostId from, const wire::SegmentWanted& wanted);
  void OnOffered(const wire::SegmentOffered& offered);
  void Offer(uint64_t request, const wire::SharedState::Segment& segment, const Status& joined);

  Agent& agent_;
  Segments& segments_;
  std::unordered_map<uint64_t, Wanted> wanted_;
  uint64_t last_request_ = 0;
};

}  // namespace elsewhere::runtime
