// The workers of a session as home sees them: which are there, how full they are, and where the next child
// goes.
//
// Choice: among the workers that are ready, can run the image's code and have memory for it, the one with the
// fewest children for its slots; equal ones in turn, so that siblings spread. Slots are a wish, not a limit:
// a fork never queues behind a running process. Memory is the limit. Thread-safety: none, one
// loop.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "shim/image/cpu_features.h"
#include "shim/wire/message.h"
#include "shim/wire/result.h"

namespace elsewhere::runtime {

// Equal on two hosts exactly if they share a kernel.
std::string MachineName();

class WorkerPool {
 public:
  // The engine was asked for this worker.
  void Expect(wire::HostId host) { workers_[host].expected = true; }
  void Ready(wire::HostId host, const wire::HostHello& hello);
  void Report(wire::HostId host, const wire::Heartbeat& heartbeat);
  // To be called at equal intervals: the workers of which nothing was heard in the last `limit` of them.
  // Counting intervals of ours, not time, a home that was suspended itself takes nobody for dead.
  std::vector<wire::HostId> Silent(uint32_t limit);
  void Remove(wire::HostId host) { workers_.erase(host); }

  void Began(wire::HostId host);
  void Ended(wire::HostId host);

  // EAGAIN: some worker is still on its way. Any other error: run it at home, for that reason.
  Result<wire::HostId> Choose(const image::CpuFeatures& features, uint64_t image_bytes);
  bool OnThisMachine(wire::HostId host) const;
  bool Has(wire::HostId host) const { return workers_.contains(host); }
  bool Starting() const;

 private:
  struct Worker {
    bool expected = false;
    bool ready = false;
    bool same_machine = false;
    uint32_t slots = 1;
    uint32_t children = 0;
    uint32_t silent = 0;  // intervals
    uint64_t memory_free = 0;
    uint64_t promised = 0;  // bytes, since memory_free was reported
    image::CpuFeatures cpu_features{};
  };
  std::map<wire::HostId, Worker> workers_;
  wire::HostId last_choice_ = 0;
};

}  // namespace elsewhere::runtime
