// The home agent: owns redis-server, the engine and its workers, the deputies, and the end of the session.
//
// Start: the sockets are served first (processes may wait), then Redis, the store, the workers; then "ready".
// End, whichever comes first:
//   - the last process is gone: the lifeline's end of file, and no deputy and no registered process left;
//   - "end", a root killed by a signal, the launcher's death, a fatal error: everything is killed.
// Either way: workers stop, processes of the session are killed (there are none in the first case), keys and
// directory are removed, "ended" is sent, the agent leaves.
// Thread-safety: one loop.
#pragma once

#include <memory>
#include <string>

#include "runtime/agent_core.h"
#include "runtime/deputies.h"
#include "runtime/file/maps.h"
#include "runtime/worker_pool.h"
#include "shim/broker/private_redis.h"
#include "shim/engine/engine.h"
#include "shim/store/async_store.h"

namespace elsewhere::runtime {

class HomeSession {
 public:
  struct Options {
    std::string session;
    std::string directory;
    int listener = -1;
    int control = -1;
    int lifeline = -1;
    uint32_t workers = 1;
    std::string redis;  // empty: a private one
    std::string store;  // empty: a directory of the session's
    FileOptions files;  // the cache's directory: home's, the workers' are beside it
    bool fork_remote = true;
    bool count_objects = false;
    bool direct = true;     // messages to workers travel over links; else through the broker
    bool colocate = false;  // children that share memory run at home
    bool strict = false;
    bool verbose = false;
  };

  // Answers the exit status of the process.
  static int Run(const Options& options);

 private:
  explicit HomeSession(const Options& options) : options_(options), layout_(options.directory) {}
  Status Start();
  Status StartCore();
  Status StartBroker();
  void StopBroker();
  void KeepKeys();
  Status StartStore();
  Status StartWorkers();
  Status StartOneWorker(HostId host);
  void ReplaceWorker(HostId lost);
  void LookForSilentWorkers();
  void CountSilentInterval();
  void RegisterCalls();
  void OnPacket(ConnectionId connection, Connections::Packet packet);
  void OnControl();
  void OnControlMessage(const std::string& word, const std::string& text);
  void OnEngine();
  void OnWorkerGone(HostId host, const std::string& reason);
  void TellReport();
  void Tell(const std::string& message);
  void FinishIfEmpty();
  void Fail(const std::string& reason);
  void KillEverything();
  void Finish(bool kill_everything);
  SessionReport& report() { return core_->report(); }

  const Options options_;
  const SessionLayout layout_;
  std::string redis_url_;
  std::string store_url_;
  std::unique_ptr<AgentCore> core_;
  std::unique_ptr<broker::PrivateRedis> redis_;
  std::shared_ptr<store::ObjectStore> store_;
  std::unique_ptr<store::AsyncStore> async_store_;
  std::unique_ptr<engine::Engine> engine_;
  WorkerPool workers_;
  store::UniqueFd key_;  // memfd that workers inherit
  HostId last_host_ = 0;
  std::unique_ptr<Deputies> deputies_;
  bool root_ended_ = false;
  bool command_settled_ = false;  // it has ended, and what was put off is done
  bool lifeline_ended_ = false;
  bool finished_ = false;
  bool session_created_ = false;
};

}  // namespace elsewhere::runtime
