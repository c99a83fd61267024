#include "runtime/worker_jobs.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>

#include "runtime/clock.h"
#include "runtime/exit_status.h"
#include "shim/broker/session_keys.h"
#include "shim/wire/forwarded_signal.h"
#include "shim/wire/image_view.h"

namespace elsewhere::runtime {
namespace {

std::string ClaimantName(HostId host) {
  return "host " + std::to_string(host);
}

// The lowest number of ours that the image does not use.
int32_t DoorbellNumber(const image::View& view) {
  const uint64_t limit = view.header().identity.limits[RLIMIT_NOFILE].soft;
  std::unordered_set<int32_t> used;
  for (const image::Descriptor& descriptor : view.descriptors()) used.insert(descriptor.number);
  int32_t number = abi::kFirstOwnDescriptor;
  if (limit <= static_cast<uint64_t>(number)) number = static_cast<int32_t>(limit / 2);
  while (used.contains(number)) ++number;
  return number;
}

Result<store::UniqueFd> WriteMemfd(std::span<const uint8_t> bytes) {
  store::UniqueFd memfd(memfd_create("elsewhere-manifest", MFD_CLOEXEC));
  if (!memfd) return Error{errno, "no memory for the manifest"};
  size_t written = 0;
  while (written < bytes.size()) {
    const ssize_t size = write(memfd.get(), bytes.data() + written, bytes.size() - written);
    if (size <= 0) return Error{ENOSPC, "no memory for the manifest"};
    written += static_cast<size_t>(size);
  }
  return memfd;
}

}  // namespace

void WorkerJobs::Starting::CloseDescriptors() {
  for (const HeldDescriptor& held : descriptors) {
    if (held.descriptor >= 0) close(held.descriptor);
  }
  descriptors.clear();
}

WorkerJobs::WorkerJobs(AgentCore& core, image::PackCache& packs,
                       std::function<void(const std::string&)> on_broken)
    : core_(core), packs_(packs), on_broken_(std::move(on_broken)) {
  core_.OnMessage<wire::Job>([this](HostId, wire::Job&& job) { OnJob(std::move(job)); });
  core_.OnMessage<wire::Kill>([this](HostId, wire::Kill&& kill) { OnKill(kill); });
  core_.OnMessage<wire::Signal>([this](HostId, wire::Signal&& signal) { OnSignal(signal); });
  core_.OnMessage<wire::NestedForked>([this](HostId, wire::NestedForked&& m) { OnNestedForked(m); });
  core_.calls().SetIncarnationOf([this](int32_t kernel_pid) { return CallerOf(kernel_pid); });
  RegisterCalls();
}

Status WorkerJobs::Start(const std::string& restorer) {
  auto zygote = Zygote::Start(
      core_.loop(), restorer, [this](const restore::RestoreReport& report) { OnReport(report); },
      [this] { on_broken_("the restorer died"); });
  if (!zygote) return zygote.error();
  zygote_ = std::move(*zygote);
  core_.OnHearOfStarts([this] {
    if (!starting_.empty()) zygote_->ReadReports();
  });
  return Ok{};
}

WorkerJobs::Starting* WorkerJobs::FindStarting(Incarnation incarnation) {
  const auto found = starting_.find(incarnation);
  return found == starting_.end() ? nullptr : found->second.get();
}

void WorkerJobs::OnJob(wire::Job&& job) {
  const Incarnation incarnation = job.incarnation;
  if (starting_.contains(incarnation) || running_.contains(incarnation)) return;
  auto owned = std::make_unique<Starting>();
  Starting& starting = *owned;
  starting.received = Now();
  starting.job = std::move(job);
  starting_[incarnation] = std::move(owned);
  if (!core_.room().ForChild()) return Reject(incarnation, core_.room().NoChild());
  image::View view;
  if (const char* wrong =
          image::View::Open(starting.job.manifest.data(), starting.job.manifest.size(), &view)) {
    return Reject(incarnation, std::string("the image arrived damaged: ") + wrong);
  }
  starting.packs.resize(view.packs().size());
  // Counted first: packs that are here already answer at once.
  starting.packs_missing = view.packs().size() + 1;
  const std::vector<image::Pack> packs(view.packs().begin(), view.packs().end());
  for (size_t i = 0; i < packs.size(); ++i) {
    packs_.Get(packs[i], [this, incarnation, i](Result<image::PackFile> file) {
      Starting* waiting = FindStarting(incarnation);
      if (waiting == nullptr) return;
      if (file) {
        waiting->fetched_bytes += file->fetched_bytes;
        waiting->packs[i] = std::move(*file);
      } else {
        waiting->failure = "cannot fetch the image: " + file.error().message;
      }
      if (--waiting->packs_missing == 0) PrepareNext(incarnation, 0);
    });
  }
  if (Starting* waiting = FindStarting(incarnation); waiting != nullptr && --waiting->packs_missing == 0) {
    PrepareNext(incarnation, 0);
  }
}

void WorkerJobs::PrepareNext(Incarnation incarnation, size_t component) {
  Starting* starting = FindStarting(incarnation);
  if (starting == nullptr) return;
  if (!starting->failure.empty()) return Reject(incarnation, starting->failure);
  if (component == 0) starting->fetched = Now();
  if (component == core_.components().size()) return ClaimStart(incarnation);
  core_.components()[component]->Prepare(starting->job, starting->descriptors,
                                         [this, incarnation, component](const Status& prepared) {
                                           Starting* waiting = FindStarting(incarnation);
                                           if (waiting == nullptr) return;
                                           if (!prepared)
                                             return Reject(incarnation, prepared.error().message);
                                           PrepareNext(incarnation, component + 1);
                                         });
}

void WorkerJobs::ClaimStart(Incarnation incarnation) {
  const std::string self = ClaimantName(core_.host());
  broker::Claim(core_.broker(), core_.keys(), incarnation, self,
                [this, incarnation, self](Result<std::string> winner) {
                  Starting* starting = FindStarting(incarnation);
                  if (starting == nullptr) return;
                  if (!winner) return on_broken_("cannot claim a job: " + winner.error().message);
                  if (*winner != self) {
                    Withdraw(incarnation);  // somebody else runs it
                    return;
                  }
                  if (auto asked = AskZygote(*starting); !asked) Reject(incarnation, asked.error().message);
                });
}

// Names every descriptor that the restorer needs, patches the manifest accordingly and sends it all.
Status WorkerJobs::AskZygote(Starting& starting) {
  image::View view;
  if (const char* wrong =
          image::View::Open(starting.job.manifest.data(), starting.job.manifest.size(), &view)) {
    return Error{EPROTO, wrong};
  }
  const image::Editor editor(view);
  std::vector<int> given{-1};  // the manifest comes first
  const auto give = [&given](int descriptor) {
    given.push_back(descriptor);
    return static_cast<uint32_t>(given.size() - 1);
  };
  std::vector<uint32_t> pack_sources;
  for (const image::PackFile& pack : starting.packs) pack_sources.push_back(give(pack.descriptor->get()));
  for (image::Chunk& chunk : editor.chunks()) {
    if (chunk.source >= starting.packs.size()) return Error{EPROTO, "a chunk names an unknown pack"};
    chunk.offset += starting.packs[chunk.source].offset;
    chunk.source = pack_sources[chunk.source];
  }
  for (image::Descriptor& descriptor : editor.descriptors()) descriptor.source = image::kNone;
  for (image::Object& object : editor.objects()) object.source = image::kNone;
  for (const HeldDescriptor& held : starting.descriptors) {
    if (held.number <= MappedObject(0)) {
      const auto index = static_cast<uint32_t>(MappedObject(0) - held.number);
      if (index < editor.objects().size()) editor.objects()[index].source = give(held.descriptor);
      continue;
    }
    const auto all = editor.descriptors();
    const auto place = std::lower_bound(all.begin(), all.end(), held.number,
                                        [](const image::Descriptor& d, int32_t n) { return d.number < n; });
    if (place == all.end() || place->number != held.number) continue;
    place->source = give(held.descriptor);
    place->descriptor_flags = static_cast<uint32_t>(held.flags);
  }

  restore::RestoreRequest request{};
  request.flags = starting.job.same_machine ? restore::kApplyAffinity : 0U;
  request.id = starting.job.incarnation;
  request.manifest_size = starting.job.manifest.size();
  request.table_source = give(core_.calls().memfd());
  const int32_t doorbell = DoorbellNumber(view);
  request.install_count = 1;
  request.installs[0] = {doorbell, give(core_.calls().doorbell()), 1, 0};
  abi::RestoreNote note{};
  note.magic = abi::kRestoreNoteMagic;
  note.version = abi::kAbiVersion;
  note.incarnation = starting.job.incarnation;
  note.host = core_.host();
  note.session_pid = starting.job.session_pid;
  note.parent_session_pid = starting.job.parent_pid;
  note.doorbell = doorbell;
  const std::string socket = core_.layout().AgentSocket(core_.host());
  std::memcpy(note.agent_socket, socket.c_str(), std::min(socket.size(), sizeof note.agent_socket - 1));
  static_assert(sizeof note <= sizeof request.note);
  std::memcpy(request.note, &note, sizeof note);
  request.note_size = sizeof note;

  auto manifest = WriteMemfd(starting.job.manifest);
  if (!manifest) return manifest.error();
  given[0] = manifest->get();
  if (given.size() > restore::kMaxDescriptors) return Error{EMFILE, "too many descriptors"};
  starting.asked_zygote = true;
  // The process's ends are its own when it begins. The last descriptor is the doorbell, which is ours.
  return zygote_->Restore(request, given, [&starting] { starting.CloseDescriptors(); });
}

// A job that will not start here after all.
void WorkerJobs::Withdraw(Incarnation incarnation) {
  const auto found = starting_.find(incarnation);
  if (found == starting_.end()) return;
  const std::unique_ptr<Starting> starting = std::move(found->second);
  starting_.erase(found);
  for (auto& component : core_.components()) component->JobWithdrawn(starting->job);
}

// `reason` may be the job's own, which is forgotten here.
void WorkerJobs::Reject(Incarnation incarnation, std::string reason) {
  spdlog::warn("job {:x} rejected: {}", incarnation, reason);
  Withdraw(incarnation);
  if (!core_.ending()) core_.Send(wire::kHome, wire::JobRejected{incarnation, reason});
}

void WorkerJobs::OnReport(const restore::RestoreReport& report) {
  Starting* starting = FindStarting(report.id);
  switch (static_cast<restore::Event>(report.event)) {
    case restore::Event::kForked:
      return Forked(report.id, report.value);
    case restore::Event::kEntered:
      return Entered(report.id);
    case restore::Event::kFailed:
      spdlog::error("restore of {:x} failed at {}: {} (address {:x})", report.id, report.text,
                    strerror(report.value), report.address);
      if (starting != nullptr) {
        Reject(report.id,
               std::string("the restorer failed at ") + report.text + ": " + strerror(report.value));
      } else if (killed_early_.erase(report.id) > 0) {
        SayKilled(report.id);
      }
      return;
  }
}

void WorkerJobs::Forked(Incarnation incarnation, int32_t kernel_pid) {
  Starting* starting = FindStarting(incarnation);
  if (starting == nullptr) {  // fenced meanwhile
    kill(kernel_pid, SIGKILL);
    by_kernel_pid_[kernel_pid] = incarnation;
    return;
  }
  starting->kernel_pid = kernel_pid;
  by_kernel_pid_[kernel_pid] = incarnation;
  const Process process{.kernel_pid = kernel_pid,
                        .session_pid = starting->job.session_pid,
                        .incarnation = incarnation,
                        .runs_on = core_.host()};
  // Its end is seen by waiting for it (ReapChildren).
  const auto registered = core_.Register(process, [](const Process&) {});
  if (!registered) spdlog::error("{}", registered.error().message);
}

void WorkerJobs::Entered(Incarnation incarnation) {
  Starting* starting = FindStarting(incarnation);
  if (starting == nullptr) return;
  const uint64_t now = Now();
  core_.SendAlone(wire::kHome, wire::Started{.incarnation = incarnation,
                                             .kernel_pid = starting->kernel_pid,
                                             .received_nanoseconds = starting->received,
                                             .fetch_nanoseconds = starting->fetched - starting->received,
                                             .restore_nanoseconds = now - starting->fetched,
                                             .fetched_bytes = starting->fetched_bytes});
  running_[incarnation] = Running{.kernel_pid = starting->kernel_pid};
  starting_.erase(incarnation);
  const Process* process = core_.FindProcess(incarnation);
  if (process == nullptr) return;
  for (auto& component : core_.components()) component->ProcessStarted(*process, nullptr);
}

void WorkerJobs::OnKill(const wire::Kill& fenced) {
  if (Starting* starting = FindStarting(fenced.incarnation)) {
    if (starting->kernel_pid != 0) kill(starting->kernel_pid, SIGKILL);
    if (starting->asked_zygote) {
      killed_early_.insert(fenced.incarnation);
    } else {
      SayKilled(fenced.incarnation);
    }
    return Withdraw(fenced.incarnation);
  }
  const auto running = running_.find(fenced.incarnation);
  if (running == running_.end()) return;
  running->second.kill_expected = true;
  kill(running->second.kernel_pid, SIGKILL);
}

// Of a job whose process had not entered its program, as far as is known.
void WorkerJobs::SayKilled(Incarnation incarnation) {
  core_.Send(wire::kHome, wire::Exited{.incarnation = incarnation, .status = SIGKILL});
}

void WorkerJobs::OnSignal(const wire::Signal& signal) {
  const auto running = running_.find(signal.incarnation);
  if (running == running_.end() || running->second.ended) return;
  const int32_t pid = running->second.kernel_pid;
  if (signal.signal == SIGKILL) running->second.kill_expected = true;
  if (signal.signal == SIGCONT) ++running->second.continues;
  siginfo_t info{};
  info.si_signo = signal.signal;
  info.si_code = SI_QUEUE;
  info.si_errno = wire::ForwardedErrno(signal.code);
  info.si_pid = signal.sender;
  info.si_uid = signal.user;
  info.si_value.sival_ptr = reinterpret_cast<void*>(signal.value);
  if (syscall(SYS_rt_sigqueueinfo, pid, info.si_signo, &info) != 0) kill(pid, info.si_signo);
}

void WorkerJobs::ReapChildren() {
  for (;;) {
    siginfo_t waiting{};
    if (waitid(P_ALL, 0, &waiting, WEXITED | WSTOPPED | WCONTINUED | WNOHANG | WNOWAIT) != 0) return;
    if (waiting.si_pid == 0) return;
    // It may have lived so shortly that Forked is still unread. It can be registered only as long as it is
    // not waited for: afterwards there is nothing to watch.
    if (zygote_ != nullptr && !by_kernel_pid_.contains(waiting.si_pid)) zygote_->ReadReports();
    int status = 0;
    rusage usage{};
    const pid_t pid = wait4(waiting.si_pid, &status, WNOHANG | WUNTRACED | WCONTINUED, &usage);
    if (pid <= 0) continue;
    if (zygote_ != nullptr && pid == zygote_->pid()) {
      if (WIFEXITED(status) || WIFSIGNALED(status)) return on_broken_("the restorer died");
      continue;
    }
    const auto place = by_kernel_pid_.find(pid);
    const Incarnation incarnation = place == by_kernel_pid_.end() ? 0 : place->second;
    if (WIFSTOPPED(status)) {
      if (incarnation != 0)
        core_.Send(wire::kHome, wire::Stopped{incarnation, WSTOPSIG(status), ContinuesOf(incarnation)});
    } else if (WIFCONTINUED(status)) {
      if (incarnation != 0) core_.Send(wire::kHome, wire::Continued{incarnation});
    } else {
      Ended(pid, status, usage);
    }
  }
}

uint32_t WorkerJobs::ContinuesOf(Incarnation incarnation) const {
  const auto running = running_.find(incarnation);
  return running == running_.end() ? 0 : running->second.continues;
}

void WorkerJobs::NestedEnded(const Process& process) {
  const auto status = StatusOfEnded(process.kernel_pid, process.pidfd);
  if (!status) {
    return on_broken_("cannot learn how process " + std::to_string(process.session_pid) +
                      " ended (this kernel does not tell; see runtime/README.md)");
  }
  Ended(process.kernel_pid, status->status, status->usage);
}

void WorkerJobs::Ended(int32_t kernel_pid, int status, const rusage& usage) {
  const uint64_t now = Now();
  zygote_->ReadReports();  // Entered may still be unread
  const auto place = by_kernel_pid_.find(kernel_pid);
  if (place == by_kernel_pid_.end()) {
    FailOrphanedQuestions();
    return core_.Forget(kernel_pid);  // an orphan that was no process of ours
  }
  const Incarnation incarnation = place->second;
  by_kernel_pid_.erase(place);
  if (FindStarting(incarnation) != nullptr) {  // neither Entered nor Failed: nothing of the image ran
    core_.Forget(kernel_pid);
    return Reject(incarnation,
                  "the restored process died before it began (status " + std::to_string(status) + ")");
  }
  const auto running = running_.find(incarnation);
  const Process* process = core_.FindProcess(incarnation);
  if (running == running_.end() || process == nullptr) {
    if (killed_early_.erase(incarnation) > 0) SayKilled(incarnation);
    return core_.Forget(kernel_pid);
  }
  running->second.ended = true;
  const bool killed = WIFSIGNALED(status);
  const bool expected = !killed || WTERMSIG(status) != SIGKILL || running->second.kill_expected;
  core_.Drain(*process, {.ended = true, .killed = killed},
              [this, incarnation, kernel_pid, expected, status, usage, now] {
                if (!core_.ending()) {
                  core_.Send(wire::kHome, wire::Exited{.incarnation = incarnation,
                                                       .status = status,
                                                       .expected = expected,
                                                       .usage = wire::PackUsage(usage),
                                                       .ended_nanoseconds = now});
                }
                running_.erase(incarnation);
                const Process* kept = core_.FindKernelPid(kernel_pid);
                if (kept != nullptr && kept->incarnation == incarnation) core_.Forget(kernel_pid);
                FailOrphanedQuestions();
              });
}

void WorkerJobs::KillAll() {
  for (const auto& [incarnation, running] : running_) kill(running.kernel_pid, SIGKILL);
  for (const auto& [incarnation, starting] : starting_) {
    if (starting->kernel_pid != 0) kill(starting->kernel_pid, SIGKILL);
  }
}

}  // namespace elsewhere::runtime
