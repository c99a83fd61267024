// A worker's processes, from the job to the exit report.
//
//   job -> packs fetched -> components prepare descriptors -> claim `start` -> zygote -> Forked -> Entered ->
//   Started end -> components drain -> Exited
//
// Rules:
//  - The claim is the last thing before the zygote: whoever lost it must not have run anything. A job that
//  fails before
//    or in the restorer is rejected, which promises that nothing of it ran.
//  - Restored processes are this agent's children and are waited for here. Nested ones are their parents'
//  children:
//    their end is seen by pidfd, their status is read from the zombie or, reaped already, from the pidfd.
//    When the parent dies first, they become this agent's as pid 1.
//  - After Kill an incarnation is fenced: its process is killed and nothing of it is reported but its end,
//  which
//    somebody may wait for.
//  - SIGKILL that no process of the session sent is unexpected, and said so in Exited.
// Thread-safety: one loop.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "runtime/agent_core.h"
#include "runtime/zygote.h"
#include "shim/image/pack_cache.h"

namespace elsewhere::runtime {

class WorkerJobs {
 public:
  // `on_broken`: this worker cannot go on.
  WorkerJobs(AgentCore& core, image::PackCache& packs, std::function<void(const std::string&)> on_broken);
  Status Start(const std::string& restorer);

  size_t running() const { return running_.size() + starting_.size(); }
  void ReapChildren();  // on SIGCHLD
  void KillAll();

 private:
  struct Starting {
    wire::Job job;
    std::vector<image::PackFile> packs;
    size_t packs_missing = 0;
    size_t components_missing = 0;
    std::vector<HeldDescriptor> descriptors;
    uint64_t received = 0;
    uint64_t fetched = 0;
    uint64_t fetched_bytes = 0;
    std::string failure;
    bool asked_zygote = false;
    int32_t kernel_pid = 0;
    ~Starting() { CloseDescriptors(); }
    void CloseDescriptors();
  };
  struct Running {
    int32_t kernel_pid = 0;
    bool nested = false;
    bool kill_expected = false;
    bool ended = false;
    uint32_t continues = 0;  // SIGCONTs from home
  };
  struct WaitingForDeputy {  // the call of a parent that forked
    CallId call;
    Incarnation child = 0;
  };

  Starting* FindStarting(Incarnation incarnation);
  void OnJob(wire::Job&& job);
  void PrepareNext(Incarnation incarnation, size_t component);
  void Prepared(Incarnation incarnation);
  void ClaimStart(Incarnation incarnation);
  Status AskZygote(Starting& starting);
  void Withdraw(Incarnation incarnation);
  void Reject(Incarnation incarnation, std::string reason);
  void OnReport(const restore::RestoreReport& report);
  void Forked(Incarnation incarnation, int32_t kernel_pid);
  void Entered(Incarnation incarnation);

  void OnKill(const wire::Kill& kill);
  void SayKilled(Incarnation incarnation);
  void OnSignal(const wire::Signal& signal);
  uint32_t ContinuesOf(Incarnation incarnation) const;
  void NestedEnded(const Process& process);
  void Ended(int32_t kernel_pid, int status, const rusage& usage);

  Agent& agent() { return core_; }
  AgentCore& core_;
  image::PackCache& packs_;
  std::function<void(const std::string&)> on_broken_;
  std::unique_ptr<Zygote> zygote_;
  std::unordered_map<Incarnation, std::unique_ptr<Starting>> starting_;
  std::unordered_map<Incarnation, Running> running_;
  std::unordered_map<int32_t, Incarnation> by_kernel_pid_;
  std::unordered_set<Incarnation> killed_early_;  // fenced while the zygote made their process

  // worker_calls.cpp
  void RegisterCalls();
  Incarnation CallerOf(int32_t kernel_pid);
  void NestedFork(CallId id, const Call& call);
  void ForkedAndGone(CallId id, Incarnation parent, Incarnation child, int32_t kernel_pid);
  void OnNestedForked(const wire::NestedForked& forked);
  // What a process asks that home must answer; a nested child's waits until its deputy exists.
  struct Question {
    CallId call;
    bool who_am_i = false;
    int64_t number = 0;
    std::array<int64_t, 6> arguments{};
  };
  void Ask(const Call& call, Question question);
  void AskHome(Incarnation incarnation, const Question& question);
  void AnswerQuestions(const Process& process);
  void FailQuestions(int32_t kernel_pid, int error);
  void FailOrphanedQuestions();
  std::unordered_map<uint64_t, CallId> home_calls_;
  uint64_t last_home_call_ = 0;
  std::unordered_map<Incarnation, CallId> forking_;       // by child
  std::unordered_multimap<int32_t, Question> questions_;  // by kernel pid of the asker
};

}  // namespace elsewhere::runtime
