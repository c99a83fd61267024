// LocalEngine: workers as processes of this machine, each a host of its own.
//
// Each worker is process 1 of new user, pid, IPC, UTS and mount namespaces with its own /proc, so that
// whatever it starts dies with it, by the kernel's hand. User and group ids mean what they mean outside. It
// works as an ordinary user, and in sandboxes without any capability as long as user namespaces are allowed.
// Where they are not, a worker is a plain process tree, a child subreaper, that shares pids and IPC names
// with home; note() then says why.
//
// Workers die with the thread that started them (PR_SET_PDEATHSIG).
#pragma once

#include <sys/types.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "shim/engine/engine.h"

namespace elsewhere::engine {

enum class Isolation { kNamespaces, kNone };

// Whether this machine lets this user make the namespaces above, found out by making them. On failure the
// error's message says what was refused.
Status ProbeNamespaces();

class LocalEngine final : public Engine {
 public:
  // kNamespaces becomes kNone at the first worker for which namespaces could not be made.
  static Result<std::unique_ptr<LocalEngine>> Make(Isolation isolation = Isolation::kNamespaces);

  ~LocalEngine() override;
  LocalEngine(const LocalEngine&) = delete;
  LocalEngine& operator=(const LocalEngine&) = delete;

  Status Start(uint32_t host, const WorkerCommand& command) override;
  void Stop(uint32_t host) override;
  int event_descriptor() const override { return epoll_; }
  std::vector<LostWorker> TakeLost() override;
  void StopAll() override;

  Isolation isolation() const { return isolation_; }
  // Why workers are not isolated although that was asked for; empty when they are.
  const std::string& note() const { return note_; }
  // Kernel pid at home of a worker's process 1; 0 when it is not running.
  pid_t pid(uint32_t host) const;

 private:
  struct Worker {
    pid_t pid = 0;
    int pidfd = -1;
  };

  LocalEngine(Isolation isolation, int epoll) : isolation_(isolation), epoll_(epoll) {}
  LostWorker Reap(uint32_t host, const Worker& worker);

  Isolation isolation_;
  std::string note_;
  int epoll_;  // of the workers' pidfds
  std::map<uint32_t, Worker> workers_;
};

}  // namespace elsewhere::engine
