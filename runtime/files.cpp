// What needs the store runs on threads of its own, for nothing in the agent's loop may block; answers go back
// through the loop. Threads end with the component: a call that waits for the store is given up by
// interrupting the store.
#include "runtime/files.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/mman.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <set>

#include "runtime/file/file_locks.h"
#include "runtime/file/inherited_files.h"
#include "runtime/file/leaving_names.h"
#include "runtime/file/open_files.h"
#include "runtime/file/path_calls.h"
#include "shim/wire/file_message.h"
#include "shim/wire/image_view.h"

namespace elsewhere::runtime {
namespace {

constexpr unsigned kCallsAtOnce = 64;
constexpr uint64_t kOpensBetweenSweeps = 128;

using abi::Operation;

class Files final : public Component {
 public:
  Files(Agent& agent, std::unique_ptr<Maps> maps, bool write_back)
      : agent_(agent),
        maps_(std::move(maps)),
        write_back_(write_back ? std::make_unique<file::WriteBack>() : nullptr),
        open_(agent.table(), write_back_.get()),
        locks_(
            agent, open_,
            [this](const std::shared_ptr<OpenFile>& file, std::function<void(const Status&)> done) {
              StoreOf(file, std::move(done));
            },
            [this] { NoteNeeded(); }),
        leaving_(agent, *maps_, [this](const wire::NameLeaves& names) { locks_.NameGone(names); }),
        paths_(*maps_, open_),
        threads_(std::make_unique<file::Workers>(kCallsAtOnce)),
        inherited_(
            *maps_, open_, paths_, locks_, agent.layout().Tree() + "/",
            [this](std::function<Status()> work, std::function<void(const Status&)> done) {
              InBackground(std::move(work), std::move(done));
            },
            [this](const std::string& key, const Error& error) { NotStored(key, error); }) {
    PutOff(write_back);
    agent.SetMappedFiles(&inherited_);
    agent.OnMessage<wire::FilesChanged>([this](HostId from, wire::FilesChanged&& changed) {
      if (changed.map >= maps_->count()) return;
      file::FileSystem::DirectoryTimes times;
      for (auto& time : changed.times) times.emplace_back(time.path, time.changed_ns);
      (*maps_)[changed.map].files->NoteDirectoryTimes(times);
      (*maps_)[changed.map].files->ForgetAll();
      RefreshShared(changed.map);
      if (!agent_.is_home()) return;
      for (const HostId host : agent_.OtherHosts())
        if (host != from) agent_.Send(host, changed);
    });
    agent.OnPacket(abi::Packet::kFileCall, [this](uint64_t connection, std::span<const uint8_t> packet) {
      OnPathCall(connection, packet);
    });
    OnFile(Operation::kFileFind, [](OpenFile& file, const Call&) -> Result<int64_t> { return file.entry; });
    OnFileBlocking(Operation::kFileFetch, [this](OpenFile& file, const Call& call) {
      return open_.Fetch(file, static_cast<uint64_t>(call.arguments[2]),
                         static_cast<uint64_t>(call.arguments[3]));
    });
    OnFileBlocking(Operation::kFileWritten, [this](OpenFile& file, const Call& call) -> Status {
      open_.Written(file, static_cast<uint64_t>(call.arguments[2]), static_cast<uint64_t>(call.arguments[3]));
      return Ok{};
    });
    OnFileBlocking(Operation::kFileGrew, [this](OpenFile& file, const Call&) -> Status {
      open_.Absorb(file);
      return Ok{};
    });
    OnFileBlocking(Operation::kFileFlush, [this](OpenFile& file, const Call& call) {
      // What grew is known to be changed only when it is looked at.
      const uint64_t before = file.object->times_sent();
      auto sent = call.arguments[2] == abi::kFileClosing ? open_.FlushByClose(file) : open_.Flush(file);
      if (file.object->times_sent() != before) agent_.loop().Post([this, map = file.map] { Tell(map); });
      return sent;
    });
    OnFileBlocking(Operation::kFileTruncate, [this](OpenFile& file, const Call& call) {
      return open_.Truncate(file, static_cast<uint64_t>(call.arguments[2]));
    });
    agent.OnCall(Operation::kFileUnseen, [this](CallId id, const Call& call) {
      const auto file = FileOf(call);
      if (file == nullptr) return agent_.Complete(id, -1, EBADF);
      const auto fetch = [this, id, file](bool refused) {
        if (refused) return agent_.Complete(id, -1, ENODEV);
        InBackground([this, file] { return open_.SetUnseen(*file); },
                     [this, id](const Status& done) { Complete(id, done); });
      };
      call.arguments[2] == MAP_SHARED ? locks_.Maps(file, call.kernel_pid, fetch) : fetch(false);
    });
    OnFileBlocking(Operation::kFileSetMode, [this](OpenFile& file, const Call& call) {
      return FilesOf(file).SetMode(file.object, static_cast<mode_t>(call.arguments[2]));
    });
    OnFileBlocking(Operation::kFileSetOwner, [this](OpenFile& file, const Call& call) {
      return FilesOf(file).SetOwner(file.object, static_cast<uid_t>(call.arguments[2]),
                                    static_cast<gid_t>(call.arguments[3]));
    });
    OnFileBlocking(Operation::kFileSetTimes, [this](OpenFile& file, const Call& call) {
      file::FileSystem::Times times;
      if (call.arguments[2] != abi::kTimeOmitted) times.atime_ns = call.arguments[2];
      if (call.arguments[3] != abi::kTimeOmitted) times.mtime_ns = call.arguments[3];
      return FilesOf(file).SetTimes(file.object, times);
    });
    agent.OnCall(Operation::kFileStatus, [this](CallId id, const Call& call) { StatusOfFile(id, call); });
    agent.OnCall(Operation::kFileFlushAll, [this](CallId id, const Call& call) {
      // Before a fork: what was closed and not yet sent.
      if (call.arguments[0] == abi::kFileClosing && write_back_ == nullptr) return agent_.Complete(id, 0);
      FlushAll([this, id](const Status& done) { Complete(id, done); });
    });
    agent.OnCall(Operation::kFileClosed, [this](CallId, const Call&) { SweepSoon(); });
  }

  ~Files() override {
    agent_.SetMappedFiles(nullptr);
    leaving_.End();
    locks_.End();
    threads_.reset();
  }

  Status Captured(const Process& deputy, std::span<const uint8_t> manifest, std::vector<HeldDescriptor>&,
                  wire::Job&) override {
    image::View view;
    if (const char* wrong = image::View::Open(manifest.data(), manifest.size(), &view))
      return Error{EPROTO, wrong};
    if (auto leaves = inherited_.MayLeave(view); !leaves) return leaves;
    Leaves(deputy.incarnation);
    if (write_back_ == nullptr) return Ok{};
    // A close or unlink on a thread has put it off, or sees that somebody leaves.
    if (write_back_->Unsent() == 0 && !RemovalsWait()) return Ok{};
    Returned(deputy.incarnation);
    return Error{ENOTSUP, "a child cannot leave while closed files are being sent or removed ones deleted"};
  }

  void Prepare(const wire::Job& job, std::vector<HeldDescriptor>& descriptors, Done done) override {
    inherited_.Open(job, descriptors, std::move(done));
  }

  void Drain(const Process& process, DrainReason, std::function<void()> done) override {
    // What a child elsewhere wrote to a file that is open here, too, is seen here before its end is.
    if (agent_.is_home()) return WhenRefreshed(std::move(done));
    // What an ended process left, or what is to be seen elsewhere from now on, is in the store first.
    (void)process;
    FlushAll([done = std::move(done)](const Status&) { done(); });
  }

  // A nested child, which may outlive the one that left.
  void ProcessRegistered(const Process& process, const Process*) override {
    if (process.runs_on != wire::kHome && agent_.is_home()) Leaves(process.incarnation);
  }

  void JobWithdrawn(const wire::Job& job) override { Returned(job.incarnation); }

  void ProcessGone(const Process& process) override {
    Returned(process.incarnation);
    locks_.ProcessGone(process);
    SweepSoon();
  }

  void CommandEnded(std::function<void()> done) override {
    if (write_back_ == nullptr) return done();
    InBackground([this] { return SendPutOff(); }, [done = std::move(done)](const Status&) { done(); });
  }

  void HostGone(HostId host) override {
    leaving_.HostGone(host);
    locks_.HostGone(host);
  }
  void CallDropped(CallId id) override { locks_.CallDropped(id); }
  void CallCancelled(CallId id) override { locks_.CallCancelled(id); }

  void SessionEnding() override {
    leaving_.End();
    threads_.reset();  // what is queued is carried out
    if (write_back_ != nullptr) (void)SendPutOff();
    if (auto flushed = open_.FlushAll(); !flushed)
      spdlog::error("a mapped file could not be stored: {}", flushed.error().message);
  }

 private:
  void Leaves(Incarnation incarnation) {
    elsewhere_.insert(incarnation);
    NoteNeeded();
    PutOff(false);
  }

  void NoteNeeded() { leaving_.SetNeeded(!elsewhere_.empty() || !locks_.empty()); }

  void Returned(Incarnation incarnation) {
    elsewhere_.erase(incarnation);
    NoteNeeded();
    PutOff(write_back_ != nullptr && elsewhere_.empty());
  }

  void PutOff(bool allowed) {
    open_.PutOff(allowed);
    for (size_t map = 0; map < maps_->count(); ++map) (*maps_)[map].files->PutOffRemovals(allowed);
  }

  bool RemovalsWait() {
    for (size_t map = 0; map < maps_->count(); ++map)
      if ((*maps_)[map].files->removals().Waiting() > 0) return true;
    return false;
  }

  void AwaitRemovals() {
    for (size_t map = 0; map < maps_->count(); ++map) (*maps_)[map].files->removals().Wait("");
  }

  // All that closes and unlinks left to be done, and who is to blame if it cannot be.
  Status SendPutOff() {
    auto flushed = open_.FlushAll();
    for (const auto& failure : write_back_->Finish()) NotStored(failure.key, failure.error);
    for (size_t map = 0; map < maps_->count(); ++map)
      for (const auto& failure : (*maps_)[map].files->removals().Finish())
        Note(failure.key, "could not be removed", failure.error);
    return flushed;
  }

  using FileCall = std::function<Result<int64_t>(OpenFile&, const Call&)>;

  static uint64_t Word(int64_t argument) { return static_cast<uint64_t>(argument); }

  std::shared_ptr<OpenFile> FileOf(const Call& call) {
    return open_.Find(Word(call.arguments[0]), Word(call.arguments[1]));
  }

  void Complete(CallId id, const Status& status) {
    if (status) return agent_.Complete(id, 0);
    spdlog::debug("a file call fails: {}", status.error().message);
    agent_.Complete(id, -1, status.error().code);
  }

  void OnFile(Operation operation, FileCall run) {
    agent_.OnCall(operation, [this, run = std::move(run)](CallId id, const Call& call) {
      const auto file = FileOf(call);
      if (file == nullptr) return agent_.Complete(id, -1, EBADF);
      const auto result = run(*file, call);
      result ? agent_.Complete(id, *result) : agent_.Complete(id, -1, result.error().code);
    });
  }

  void OnFileBlocking(Operation operation, std::function<Status(OpenFile&, const Call&)> run) {
    agent_.OnCall(operation, [this, run = std::move(run)](CallId id, const Call& call) {
      const auto file = FileOf(call);
      if (file == nullptr) return agent_.Complete(id, -1, EBADF);
      InBackground([run, file, call] { return run(*file, call); },
                   [this, id](const Status& done) { Complete(id, done); });
    });
  }

  // `work` on a thread, then `done` on the loop's.
  void InBackground(std::function<Status()> work, std::function<void(const Status&)> done) {
    if (threads_ == nullptr) return done(Error{EIO, "the session is ending"});
    threads_->Start([this, work = std::move(work), done = std::move(done)] {
      auto status = std::make_shared<Status>(work());
      agent_.loop().Post([status, done] { done(*status); });
    });
  }

  void FlushAll(std::function<void(const Status&)> done) {
    auto sent = std::make_shared<std::set<size_t>>();
    InBackground(
        [this, sent] {
          AwaitRemovals();
          return open_.FlushAll(sent.get());
        },
        [this, sent, done = std::move(done)](const Status& flushed) {
          // With a write-back, other files of any map were sent since.
          for (size_t map = 0; map < maps_->count(); ++map)
            if (write_back_ != nullptr || sent->contains(map)) Tell(map);
          done(flushed);
        });
  }

  void StatusOfFile(CallId id, const Call& call) {
    const auto file = FileOf(call);
    if (file == nullptr) return agent_.Complete(id, -1, EBADF);
    if (!open_.IsStale(*file)) return AnswerStatus(id, *file);
    InBackground([this, file] { return open_.Refresh(*file); },
                 [this, id, file](const Status&) { AnswerStatus(id, *file); });
  }

  void AnswerStatus(CallId id, OpenFile& file) {
    open_.Absorb(file);
    const file::Attributes attributes = file.object->attributes();
    auto status =
        StatusOf(attributes, file.map, (*maps_)[file.map].files->InodeOf(file.object->key(), attributes));
    if (file.object->unlinked()) status.links = 0;
    agent_.Complete(id, 0, 0, {reinterpret_cast<const uint8_t*>(&status), sizeof status});
  }

  file::FileSystem& FilesOf(OpenFile& file) {
    open_.Absorb(file);
    return *(*maps_)[file.map].files;
  }

  void OnPathCall(uint64_t connection, std::span<const uint8_t> packet) {
    auto call = ParsePathCall(packet, maps_->count());
    if (!call || threads_ == nullptr) {
      PathAnswer answer;
      answer.answer.result = -1;
      answer.answer.error = EIO;
      return agent_.SendPacket(connection, answer.bytes(), {});
    }
    // A walk's calls are too many to change threads for each.
    if (const auto known = paths_.RunAtOnce(*call)) return agent_.SendPacket(connection, known->bytes(), {});
    threads_->Start([this, connection, call = std::move(*call), sender = agent_.SenderTo(connection)] {
      auto answer = std::make_shared<PathAnswer>(paths_.Run(call));
      // Nobody else has to hear of it before the caller: he need not wait for the loop's turn.
      if (!IsChange(call) && answer->SendBy(sender)) return Sent(*answer);
      agent_.loop().Post([this, connection, call, answer] {
        if (answer->answer.result >= 0 && IsChange(call)) Tell(call.request.map);
        answer->SendBy([this, connection](auto... packet) { agent_.SendPacket(connection, packet...); });
        Sent(*answer);
      });
    });
  }

  // On any thread.
  void Sent(PathAnswer& answer) {
    answer.descriptor.Reset();
    if (answer.pinned == nullptr) return;
    open_.Unpin(answer.pinned);
    // Who only reads closes without a word.
    if (++opened_ % kOpensBetweenSweeps == 0) agent_.loop().Post([this] { SweepSoon(); });
  }

  // Other hosts are told before the caller hears of it.
  static bool IsChange(const PathCall& call) {
    switch (static_cast<abi::FileOperation>(call.request.operation)) {
      case abi::FileOperation::kOpen:
        return (call.request.arguments[0] & (O_CREAT | O_TRUNC)) != 0;
      case abi::FileOperation::kStatus:
      case abi::FileOperation::kAccess:
      case abi::FileOperation::kReadLink:
      case abi::FileOperation::kEnter:
      case abi::FileOperation::kResolve:
      case abi::FileOperation::kName:
      case abi::FileOperation::kSocketPath:
      case abi::FileOperation::kLongestPath:
      case abi::FileOperation::kWatch:
      case abi::FileOperation::kSettle:
      case abi::FileOperation::kGetXattr:
      case abi::FileOperation::kListXattr:
        return false;
      default:
        return true;
    }
  }

  // A worker tells home, home everybody.
  void Tell(size_t map) {
    const auto hosts = agent_.OtherHosts();
    if (hosts.empty()) return;
    wire::FilesChanged changed{.map = static_cast<uint32_t>(map), .times = {}};
    for (auto& [path, changed_ns] : (*maps_)[map].files->TakeDirectoryTimes())
      changed.times.push_back({path, changed_ns});
    for (const HostId host : hosts) {
      if (agent_.is_home() || host == wire::kHome) agent_.Send(host, changed);
    }
  }

  void StoreOf(const std::shared_ptr<OpenFile>& file, std::function<void(const Status&)> done) {
    if (file == nullptr) return FlushAll(std::move(done));
    InBackground([this, file] { return open_.Flush(*file); },
                 [this, file, done = std::move(done)](const Status& stored) {
                   // Whoever sent it may not have told yet.
                   const uint64_t sent = file->object->times_sent();
                   if (std::exchange(file->told_sent, sent) != sent) Tell(file->map);
                   done(stored);
                 });
  }

  void RefreshShared(size_t map) {
    for (const auto& file : open_.NoteStale(map)) {
      ++refreshing_;
      // Who uses it next is told if it cannot be had.
      InBackground([this, file] { return open_.Refresh(*file); },
                   [this](const Status&) {
                     if (--refreshing_ > 0) return;
                     for (const auto& done : std::exchange(refreshed_, {})) done();
                   });
    }
  }

  void WhenRefreshed(std::function<void()> done) {
    if (refreshing_ == 0) return done();
    refreshed_.push_back(std::move(done));
  }

  void NotStored(const std::string& key, const Error& error) { Note(key, "could not be stored", error); }

  void Note(const std::string& key, const char* what, const Error& error) {
    const std::string text = key + " " + what + ": " + error.message;
    spdlog::error("{}", text);
    agent_.loop().Post([this, text] { ++agent_.report().notes[text]; });
  }

  void Sweep() {
    open_.Sweep([this](const std::string& key, const Error& error) { NotStored(key, error); });
  }

  // Of many closes one after the other, the first and the last count.
  void SweepSoon() {
    if (sweeping_ || open_.empty()) {
      again_ = sweeping_;
      return;
    }
    sweeping_ = true;
    InBackground(
        [this]() -> Status {
          Sweep();
          return Ok{};
        },
        [this](const Status&) {
          sweeping_ = false;
          if (std::exchange(again_, false)) SweepSoon();
        });
  }

  Agent& agent_;
  std::unique_ptr<Maps> maps_;
  std::unique_ptr<file::WriteBack> write_back_;  // nullptr: a close waits
  std::set<Incarnation> elsewhere_;              // home: children that left or are about to
  OpenFiles open_;
  FileLocks locks_;
  LeavingNames leaving_;
  PathCalls paths_;
  std::unique_ptr<file::Workers> threads_;
  InheritedFiles inherited_;
  unsigned refreshing_ = 0;  // shared files
  std::vector<std::function<void()>> refreshed_;
  std::atomic<uint64_t> opened_ = 0;
  bool sweeping_ = false;
  bool again_ = false;
};

}  // namespace

Result<std::unique_ptr<Component>> MakeFiles(Agent& agent, const FileOptions& options) {
  auto maps = Maps::Open(options, agent.layout().Tree());
  if (!maps) return maps.error();
  return std::unique_ptr<Component>(
      std::make_unique<Files>(agent, std::move(*maps), options.write_back && agent.is_home()));
}

}  // namespace elsewhere::runtime
