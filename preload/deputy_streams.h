// Ends of pipes and sockets of a deputy that is not decided yet.
//
// A child that runs elsewhere may close one in its first instant and say so, and who hears that must find the
// end closed. So the deputy has none by then: it lets them go when the agent has copies, which the agent
// closes when it learns that the child runs, before it hears of anything that the child does. A child that is
// to run here after all takes them back, under the same numbers.
//
// Raw system calls only, and nothing is written but the caller's stack: all memory is as it was at the fork.
#pragma once

#include <cstdint>

namespace elsewhere::preload {

class DeputyStreams {
 public:
  // `manifest`: memfd of the capture; `count`: how many descriptors it lists.
  DeputyStreams(int manifest, uint32_t count) : manifest_(manifest), count_(count) {}

  void LetGo();
  // Of a packet that the agent sent back, the descriptors: as many as there is room for, or as are left;
  // behind them -1. False: one is missing, which nobody can make good.
  bool TakeBack(const int* descriptors, uint32_t room);
  bool complete() const { return back_ == gone_; }

 private:
  template <class Action>
  void ForEach(Action action) const;

  const int manifest_;
  const uint32_t count_;
  uint32_t gone_ = 0;
  uint32_t back_ = 0;
};

}  // namespace elsewhere::preload
