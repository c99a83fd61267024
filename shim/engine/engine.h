// Engine: where workers come from. The home agent asks it for workers and hears from it when one is gone.
//
// A worker is named by its host number, chosen by the caller and never used twice in a session. An engine
// only starts and ends workers and notices their end; everything else (jobs, liveness of a worker that hangs)
// goes through the broker. Starting is asynchronous: Start() returns when the engine has accepted the order,
// and the worker announces itself in the broker when it runs. So an engine whose workers take seconds to come
// suits the same caller.
//
// Thread-safety: none; one thread, the agent's, calls everything. Errors: EAGAIN when the engine has no room
// for one more worker now; any other code is a failure that repeating would not mend.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "shim/wire/result.h"

namespace elsewhere::engine {

// What a worker needs to join a session: a program and how it is called. `environment` is complete: nothing
// is inherited from the caller.
struct WorkerCommand {
  std::vector<std::string> arguments;  // [0]: path of the program
  std::vector<std::string> environment;
  std::vector<int> descriptors;  // kept open under their numbers, besides 0, 1 and 2; remain the caller's
};

// One worker that ended, whoever ended it. `reason` is one line for people.
struct LostWorker {
  uint32_t host = 0;
  std::string reason;
};

class Engine {
 public:
  virtual ~Engine() = default;

  virtual Status Start(uint32_t host, const WorkerCommand& command) = 0;

  // Ends a worker and everything that runs on it, at once. It is reported by TakeLost() like any other end.
  // Unknown hosts are ignored: they ended already.
  virtual void Stop(uint32_t host) = 0;

  // Readable when TakeLost() has something to say. Owned by the engine.
  virtual int event_descriptor() const = 0;

  // Workers that ended since the last call.
  virtual std::vector<LostWorker> TakeLost() = 0;

  // Ends all workers and returns when nothing of them is left.
  virtual void StopAll() = 0;
};

}  // namespace elsewhere::engine
