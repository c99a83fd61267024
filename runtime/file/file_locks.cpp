#include "runtime/file/file_locks.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <thread>

#include "shim/store/unique_fd.h"
#include "shim/wire/local_lock.h"

namespace elsewhere::runtime {

using abi::FileLockCommand;
using abi::FileLockKind;
using abi::FileLockType;

namespace {

// A description of our own of the local file, which has the lock that nobody else may have then.
int LockLocally(int fd, const wire::FileLockWanted& wanted) {
  const bool shared = wanted.type == FileLockType::kShared;
  if (wanted.kind == FileLockKind::kFlock) {
    const int operation = (shared ? LOCK_SH : LOCK_EX) | (wanted.wait != 0 ? 0 : LOCK_NB);
    while (flock(fd, operation) != 0)
      if (errno != EINTR) return errno;
    return 0;
  }
  struct flock lock = {};
  lock.l_type = shared ? F_RDLCK : F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = static_cast<off_t>(wanted.from);
  lock.l_len = static_cast<off_t>(std::min<uint64_t>(wanted.to, abi::kLocalLocksEnd) - wanted.from);
  while (fcntl(fd, wanted.wait != 0 ? F_OFD_SETLKW : F_OFD_SETLK, &lock) != 0)
    if (errno != EINTR) return errno;
  return 0;
}

}  // namespace

FileLocks::FileLocks(Agent& agent, OpenFiles& open, Store store, std::function<void()> changed)
    : agent_(agent),
      open_(open),
      store_(std::move(store)),
      changed_(std::move(changed)),
      arbiter_([this](HostId host, const wire::FileLockAnswer& answer) { AnswerTo(host, answer); },
               [this](HostId host, const wire::FileLockWanted& wanted) {
                 if (host != wire::kHome) return agent_.Send(host, wanted);
                 // The arbiter is in the middle of something.
                 agent_.loop().Post([this, wanted] { OnWanted(wanted); });
               }) {
  link_->locks = this;
  if (!agent.is_home()) agent.table().header.flocks_ask.store(1);
  agent.OnCall(abi::Operation::kFileLock, [this](CallId id, const Call& call) { OnLock(id, call); });
  agent.OnMessage<wire::FileLock>([this](HostId from, wire::FileLock&& lock) { Take(from, lock); });
  agent.OnMessage<wire::FileLockAnswer>([this](HostId, wire::FileLockAnswer&& answer) { OnAnswer(answer); });
  agent.OnMessage<wire::FileLockCancel>(
      [this](HostId from, wire::FileLockCancel&& cancel) { arbiter_.Cancel(from, cancel.number); });
  agent.OnMessage<wire::FileLockWanted>([this](HostId, wire::FileLockWanted&& wanted) { OnWanted(wanted); });
  agent.OnMessage<wire::FileLockGiven>([this](HostId from, wire::FileLockGiven&& given) {
    arbiter_.Given(from, given.number, given.given != 0);
  });
  agent.OnMessage<wire::FileLocksLeft>([this](HostId, wire::FileLocksLeft&& left) { OnLeft(left.pid); });
  agent.OnMessage<wire::FileLocksStored>(
      [this](HostId from, wire::FileLocksStored&& stored) { Stored(from, stored.pid); });
}

void FileLocks::OnLock(CallId id, const Call& call) {
  const auto file =
      open_.Find(static_cast<uint64_t>(call.arguments[0]), static_cast<uint64_t>(call.arguments[1]));
  if (file == nullptr) return agent_.Complete(id, -1, EBADF);
  const Process* process = agent_.FindKernelPid(call.kernel_pid);
  if (process == nullptr || process->session_pid == 0) return agent_.Complete(id, -1, ENOLCK);
  wire::FileLock lock;
  lock.pid = process->session_pid;
  lock.command = static_cast<FileLockCommand>(call.arguments[2]);
  lock.kind = static_cast<FileLockKind>(call.arguments[3]);
  lock.type = static_cast<FileLockType>(call.arguments[4]);
  lock.from = static_cast<uint64_t>(call.arguments[5]);
  lock.to = static_cast<uint64_t>(call.arguments[6]);
  const bool gives_up = lock.command != FileLockCommand::kGet && lock.type != FileLockType::kExclusive;
  const bool closes = lock.command == FileLockCommand::kClose;
  if (lock.kind != FileLockKind::kProcess || !gives_up || (closes && !file->memory)) {
    if (!closes) open_.SetLocked(*file, lock.kind == FileLockKind::kProcess);
    return Send(id, file, lock, [this, id](const wire::FileLockAnswer& answer) { Complete(id, answer, 0); });
  }
  // An exclusive lock that becomes a shared one gives up, too.
  if (!closes) open_.SetLocked(*file, true);
  StoreAround(file, [this, id, file, lock](const Status& stored) {
    const int error = stored ? 0 : stored.error().code;
    Send(id, file, lock,
         [this, id, error](const wire::FileLockAnswer& answer) { Complete(id, answer, error); });
  });
}

// `error`: of what was to be stored before.
void FileLocks::Complete(CallId id, const wire::FileLockAnswer& answer, int error) {
  if (answer.error != 0) error = answer.error;
  const abi::FileLock conflict{answer.type, answer.pid, answer.from, answer.to};
  agent_.Complete(id, error == 0 ? 0 : -1, error,
                  {reinterpret_cast<const uint8_t*>(&conflict), sizeof conflict});
}

void FileLocks::Take(HostId host, const wire::FileLock& lock) {
  if (lock.command == FileLockCommand::kGet && lock.kind == FileLockKind::kFlock)
    return TellOfOthers(host, lock);
  const bool takes = lock.command == FileLockCommand::kTry || lock.command == FileLockCommand::kWait;
  if (takes && lock.kind == FileLockKind::kProcess && lock.type != FileLockType::kNone &&
      IsMemoryOfOthers(host, lock))
    return AnswerTo(host, {.number = lock.number,
                           .file = lock.file,
                           .error = lock.command == FileLockCommand::kTry ? EAGAIN : ENOLCK});
  wire::FileLock known = lock;
  known.mapped = memories_.contains({lock.map, lock.key}) ? 1 : 0;
  arbiter_.Take(host, known);
  changed_();
}

void FileLocks::AnswerTo(HostId host, wire::FileLockAnswer answer) {
  host == wire::kHome ? OnAnswer(answer) : agent_.Send(host, answer);
}

// Of those that are gone, whose locks go when what they wrote is stored, too.
HostId FileLocks::HostOf(int32_t pid) const {
  if (const Process* process = agent_.FindSessionPid(pid)) return process->runs_on;
  const auto left = left_.find(pid);
  return left == left_.end() ? wire::kHome : left->second;
}

bool FileLocks::IsMemoryOfOthers(HostId host, const wire::FileLock& lock) {
  const std::pair name{lock.map, lock.key};
  if (lock.mapped != 0) memories_.insert(name);
  if (lock.key.empty() || !memories_.contains(name)) return false;
  const auto lockers = arbiter_.Lockers(host, lock);
  return std::any_of(lockers.begin(), lockers.end(), [&](int32_t pid) { return HostOf(pid) != host; });
}

// What is written under a lock on memory is in the files beside it.
void FileLocks::StoreAround(const std::shared_ptr<OpenFile>& file, std::function<void(const Status&)> done) {
  if (!file->memory) return store_(file, std::move(done));
  auto all = open_.Beside(*file);
  all.push_back(file);
  struct Waiting {
    size_t count;
    Status first = Ok{};
  };
  auto waiting = std::make_shared<Waiting>(Waiting{all.size()});
  for (const auto& each : all) {
    store_(each, [waiting, done](const Status& stored) {
      if (!stored && waiting->first) waiting->first = stored;
      if (--waiting->count == 0) done(waiting->first);
    });
  }
}

void FileLocks::Send(std::optional<CallId> call, std::shared_ptr<OpenFile> file, wire::FileLock lock,
                     Answered answered) {
  lock.number = ++last_;
  lock.map = static_cast<uint32_t>(file->map);
  lock.file = file->lock;
  lock.key = file->object->unlinked() ? "" : file->object->key();
  lock.mapped = file->mapped ? 1 : 0;
  waiting_[lock.number] = {call, std::move(file), std::move(answered)};
  agent_.is_home() ? Take(wire::kHome, lock) : agent_.Send(wire::kHome, lock);
}

void FileLocks::OnAnswer(const wire::FileLockAnswer& answer) {
  const auto found = waiting_.find(answer.number);
  if (found == waiting_.end()) return;
  const Waiting waiting = std::move(found->second);
  waiting_.erase(found);
  waiting.file->lock = answer.file;
  if (answer.memory != 0) {
    waiting.file->memory = true;
    for (const auto& beside : open_.Beside(*waiting.file)) open_.SetLocked(*beside, false);
  }
  waiting.answered(answer);
}

void FileLocks::Cancel(CallId id) {
  for (const auto& [number, waiting] : waiting_) {
    if (waiting.call != id) continue;
    const uint64_t cancelled = number;
    return agent_.is_home() ? arbiter_.Cancel(wire::kHome, cancelled)
                            : agent_.Send(wire::kHome, wire::FileLockCancel{cancelled});
  }
}

void FileLocks::OnWanted(const wire::FileLockWanted& wanted) {
  // From here on home's processes ask: those who have the lock without having asked are waited for.
  if (wanted.kind == FileLockKind::kFlock) agent_.table().header.flocks_ask.store(1);
  const auto file = open_.FindLocked(wanted.map, wanted.file, wanted.key);
  const std::string path = file == nullptr ? "" : "/proc/self/fd/" + std::to_string(file->object->fd());
  const bool shared = wanted.type == FileLockType::kShared;
  const int own = file == nullptr ? -1 : open(path.c_str(), (shared ? O_RDONLY : O_RDWR) | O_CLOEXEC);
  if (own < 0) return Give(wanted.number, file == nullptr);
  if (wanted.wait == 0) {
    if (LockLocally(own, wanted) == 0) return Locked(wanted, file, own);
    close(own);
    return Give(wanted.number, false);
  }
  Apart([wanted, own] { return LockLocally(own, wanted); },
        [this, wanted, file, own](int error) {
          if (error == 0) return Locked(wanted, file, own);
          close(own);
          Give(wanted.number, false);
        });
}

void FileLocks::Apart(std::function<int()> work, std::function<void(int)> done) {
  std::thread([link = link_, work = std::move(work), done = std::move(done)] {
    const int result = work();
    std::lock_guard lock(link->mutex);
    if (link->locks == nullptr) return;
    link->locks->agent_.loop().Post([link, done, result] {
      if (link->locks != nullptr) done(result);
    });
  }).detach();
}

void FileLocks::AskForFlock(const std::shared_ptr<OpenFile>& file, int operation, FileLockCommand command,
                            std::function<void(int error)> done) {
  wire::FileLock lock;
  lock.command = command;
  lock.kind = FileLockKind::kFlock;
  lock.type = (operation & LOCK_EX) != 0 ? FileLockType::kExclusive : FileLockType::kShared;
  lock.to = UINT64_MAX;
  open_.SetLocked(*file, false);
  Send(std::nullopt, file, lock,
       [done = std::move(done)](const wire::FileLockAnswer& answer) { done(answer.error); });
}

void FileLocks::Maps(const std::shared_ptr<OpenFile>& file, int32_t kernel_pid,
                     std::function<void(bool)> done) {
  const Process* process = agent_.FindKernelPid(kernel_pid);
  if (process == nullptr || (agent_.is_home() && arbiter_.empty())) {
    file->mapped = true;
    return done(false);
  }
  wire::FileLock lock;
  lock.pid = process->session_pid;
  lock.command = FileLockCommand::kGet;
  lock.kind = FileLockKind::kFlock;
  Send(std::nullopt, file, lock, [this, file, done = std::move(done)](const wire::FileLockAnswer& answer) {
    const bool elsewhere = answer.type != FileLockType::kNone;
    if (elsewhere)
      ++agent_.report()
            .notes[file->object->key() + " was not mapped: processes of another host have locks on it"];
    file->mapped = file->mapped || !elsewhere;
    done(elsewhere);
  });
}

// Maps asks so: nobody wants to know a flock's owner.
void FileLocks::TellOfOthers(HostId host, const wire::FileLock& lock) {
  wire::FileLockAnswer answer;
  answer.number = lock.number;
  answer.file = lock.file;
  for (const int32_t pid : arbiter_.Lockers(host, lock)) {
    answer.memory = 1;
    if (HostOf(pid) == host) continue;
    answer.type = FileLockType::kExclusive;
    answer.pid = pid;
  }
  if (answer.memory != 0 && !lock.key.empty()) memories_.insert({lock.map, lock.key});
  AnswerTo(host, answer);
}

// The steps of preload/file_locks.cpp.
void FileLocks::LockOutput(const std::shared_ptr<OpenFile>& file,
                           const std::shared_ptr<store::UniqueFd>& descriptor, int operation,
                           std::function<void(int error)> done) {
  if ((operation & (LOCK_SH | LOCK_EX)) == 0)
    return done(flock(descriptor->get(), operation) == 0 ? 0 : errno);
  if (agent_.table().header.flocks_ask.load() == 0) return FlockWithRight(file, descriptor, operation, done);
  AskForFlock(file, operation, FileLockCommand::kTry, [=, this](int error) {
    if (error == 0) return FlockWithRight(file, descriptor, operation, done);
    if (error != EAGAIN) return done(error);
    flock(descriptor->get(), LOCK_UN);
    if ((operation & LOCK_NB) != 0) return done(EWOULDBLOCK);
    AskForFlock(file, operation, FileLockCommand::kWait, [=, this](int refused) {
      refused == 0 ? FlockWithRight(file, descriptor, operation, done) : done(refused);
    });
  });
}

void FileLocks::FlockWithRight(const std::shared_ptr<OpenFile>& file,
                               const std::shared_ptr<store::UniqueFd>& descriptor, int operation,
                               std::function<void(int error)> done) {
  Apart([descriptor, operation] { return flock(descriptor->get(), operation) == 0 ? 0 : errno; },
        [=, this](int error) {
          if (error != 0 || agent_.table().header.flocks_ask.load() == 0) return done(error);
          AskForFlock(file, operation, FileLockCommand::kTry, [=, this](int refused) {
            if (refused == 0) return done(0);
            flock(descriptor->get(), LOCK_UN);
            LockOutput(file, descriptor, operation, done);
          });
        });
}

// Nobody here has the lock that is wanted, and nobody gets it before what they wrote is stored and the right
// is gone.
void FileLocks::Locked(const wire::FileLockWanted& wanted, const std::shared_ptr<OpenFile>& file,
                       int descriptor) {
  open_.SetLocked(*file, false);
  store_(file, [this, number = wanted.number, descriptor](const Status& stored) {
    Give(number, stored.ok());
    close(descriptor);
  });
}

void FileLocks::Give(uint64_t number, bool given) {
  if (agent_.is_home()) return arbiter_.Given(wire::kHome, number, given);
  agent_.Send(wire::kHome, wire::FileLockGiven{number, given});
}

void FileLocks::ProcessGone(const Process& process) {
  const int32_t pid = process.session_pid;
  if (!agent_.is_home()) {
    if (ending_.erase(pid) != 0) StoreLeft(pid);
    return;
  }
  if (!arbiter_.HoldsAny(pid)) return;
  if (process.runs_on != wire::kHome) {
    left_[pid] = process.runs_on;
    return agent_.Send(process.runs_on, wire::FileLocksLeft{pid});
  }
  store_(nullptr, [this, pid](const Status&) { arbiter_.ReleaseProcess(pid); });
}

void FileLocks::OnLeft(int32_t pid) {
  agent_.FindSessionPid(pid) != nullptr ? (void)ending_.insert(pid) : StoreLeft(pid);
}

void FileLocks::StoreLeft(int32_t pid) {
  store_(nullptr, [this, pid](const Status&) { agent_.Send(wire::kHome, wire::FileLocksStored{pid}); });
}

void FileLocks::Stored(HostId host, int32_t pid) {
  const auto found = left_.find(pid);
  if (found == left_.end() || found->second != host) return;
  left_.erase(found);
  arbiter_.ReleaseProcess(pid);
}

void FileLocks::HostGone(HostId host) {
  std::vector<int32_t> pids;
  for (const auto& [pid, where] : left_) {
    if (where == host) pids.push_back(pid);
  }
  for (const int32_t pid : pids) Stored(host, pid);
  arbiter_.HostGone(host);
}

void FileLocks::End() {
  std::lock_guard lock(link_->mutex);
  link_->locks = nullptr;
}

}  // namespace elsewhere::runtime
