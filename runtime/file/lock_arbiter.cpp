#include "runtime/file/lock_arbiter.h"

#include <algorithm>
#include <cerrno>

namespace elsewhere::runtime {

using abi::FileLockCommand;
using abi::FileLockKind;
using file::LockKind;
using file::LockOwner;
using file::LockRequest;
using file::LockType;
using wire::HostId;

namespace {

LockOwner HostOwner(HostId host) {
  return {LockKind::kDescription, host};
}

LockType TypeOf(abi::FileLockType type) {
  return static_cast<LockType>(type);
}

}  // namespace

// Also by those who wait for hosts' answers, and will lock it under this number.
bool LockArbiter::IsUsed(uint64_t file) const {
  const auto is_it = [file](const LockRequest& request) { return (request.file & ~uint64_t{1}) == file; };
  return table_.Knows(file) || table_.Knows(file + 1) ||
         std::any_of(asked_.begin(), asked_.end(), [&](auto& each) { return is_it(each.second.right); }) ||
         std::any_of(asking_.begin(), asking_.end(),
                     [&](auto& each) { return is_it(each.second.first.wanted); });
}

uint64_t LockArbiter::FileOf(HostId host, const wire::FileLock& lock) {
  uint64_t file = lock.file;
  if (file == 0 || !IsUsed(file)) {
    auto& known = names_[{lock.map, lock.key}];
    if (known == 0 || lock.key.empty()) known = last_file_ += 2;
    file = known;
    if (lock.key.empty()) names_.erase({lock.map, lock.key});
  }
  // Home's processes have locked it without asking until now.
  if (lock.kind == FileLockKind::kFlock && host != wire::kHome && !table_.Knows(file + 1))
    (void)table_.Try({file + 1, HostOwner(wire::kHome), LockType::kExclusive, {}});
  return file;
}

void LockArbiter::AnswerTo(const Request& request, int error) {
  wire::FileLockAnswer answer{.number = request.lock.number,
                              .file = request.wanted.file & ~uint64_t{1},
                              .error = error,
                              .memory = request.lock.mapped};
  if (request.lock.command == FileLockCommand::kGet && error == 0) {
    if (const auto conflict = table_.Find(request.wanted)) {
      answer.type = static_cast<abi::FileLockType>(conflict->type);
      answer.pid = conflict->pid;
      answer.from = conflict->range.from;
      answer.to = conflict->range.to;
    }
  }
  answer_(request.host, answer);
}

void LockArbiter::Take(HostId host, const wire::FileLock& lock) {
  const uint64_t file = FileOf(host, lock);
  if (lock.command == FileLockCommand::kClose) {
    table_.ReleaseOnClose(static_cast<uint64_t>(lock.pid), file);
    answer_(host, {.number = lock.number, .file = file, .memory = lock.mapped});
    return Settle();
  }
  Request request{host, lock, {}};
  request.wanted.file = lock.kind == FileLockKind::kFlock ? file + 1 : file;
  request.wanted.owner = lock.kind == FileLockKind::kProcess
                             ? LockOwner{LockKind::kProcess, static_cast<uint64_t>(lock.pid)}
                             : HostOwner(host);
  request.wanted.type = TypeOf(lock.type);
  request.wanted.range = {lock.from, lock.to};
  const uint64_t number = ++last_number_;
  if (lock.command != FileLockCommand::kWait && AskWithoutWaiting(request, number)) return;
  Decide(std::move(request));
  Settle();
}

bool LockArbiter::AskWithoutWaiting(const Request& request, uint64_t number) {
  const auto blockers = table_.Blockers(request.wanted);
  // What a process has locked is in the way whatever hosts say.
  if (blockers.empty() || std::any_of(blockers.begin(), blockers.end(), [](const LockOwner& owner) {
        return owner.kind == LockKind::kProcess;
      }))
    return false;
  asking_[number].first = request;
  for (const LockOwner& owner : blockers) Ask(static_cast<HostId>(owner.id), request, number);
  return true;
}

void LockArbiter::Ask(HostId host, const Request& request, uint64_t for_whom) {
  const uint64_t number = ++last_number_;
  LockRequest right = request.wanted;
  right.owner = HostOwner(host);
  right.type = request.wanted.type == LockType::kShared ? LockType::kShared : LockType::kUnlock;
  asked_[number] = {host, right, for_whom};
  if (for_whom != 0) asking_[for_whom].second.insert(number);
  const bool flock = (right.file & 1) != 0;
  want_(host, {.number = number,
               .file = right.file & ~uint64_t{1},
               .map = request.lock.map,
               .key = request.lock.key,
               .kind = flock ? FileLockKind::kFlock : FileLockKind::kDescription,
               .type = request.lock.type,
               .from = right.range.from,
               .to = right.range.to,
               .wait = for_whom == 0});
}

std::vector<int32_t> LockArbiter::Lockers(HostId host, wire::FileLock lock) {
  lock.kind = FileLockKind::kProcess;
  constexpr LockOwner kNobody{LockKind::kProcess, 0};
  std::vector<int32_t> lockers;
  for (const LockOwner& owner : table_.Blockers({FileOf(host, lock), kNobody, LockType::kExclusive, {}}))
    if (owner.kind == LockKind::kProcess) lockers.push_back(static_cast<int32_t>(owner.id));
  return lockers;
}

void LockArbiter::Decide(Request request) {
  if (request.lock.command == FileLockCommand::kGet) return AnswerTo(request, 0);
  if (request.lock.command == FileLockCommand::kTry) {
    const auto tried = table_.Try(request.wanted);
    return AnswerTo(request, tried ? 0 : tried.error().code);
  }
  const uint64_t waiter = ++last_number_;
  const auto waits = table_.Wait(request.wanted, waiter);
  if (!waits) return AnswerTo(request, waits.error().code);
  if (*waits) return AnswerTo(request, 0);
  waiting_[waiter] = std::move(request);
}

void LockArbiter::Given(HostId host, uint64_t number, bool given) {
  const auto found = asked_.find(number);
  if (found == asked_.end() || found->second.host != host) return;
  const Asked asked = found->second;
  asked_.erase(found);
  if (given) (void)table_.Try(asked.right);
  if (!given && asked.for_whom == 0) Refuse(asked);
  if (const auto whom = asking_.find(asked.for_whom); whom != asking_.end()) {
    whom->second.second.erase(number);
    if (whom->second.second.empty()) {
      Request request = std::move(whom->second.first);
      asking_.erase(whom);
      Decide(std::move(request));
    }
  }
  Settle();
}

// It could not even wait for its processes.
void LockArbiter::Refuse(const Asked& asked) {
  std::vector<uint64_t> refused;
  for (const auto& [waiter, request] : waiting_) {
    const auto blockers = table_.Blockers(request.wanted);
    if (request.wanted.file == asked.right.file &&
        std::find(blockers.begin(), blockers.end(), asked.right.owner) != blockers.end())
      refused.push_back(waiter);
  }
  for (const uint64_t waiter : refused) {
    const Request request = std::move(waiting_.extract(waiter).mapped());
    table_.Cancel(waiter);
    AnswerTo(request, ENOLCK);
  }
}

// Tells those whose waiting has ended, and asks hosts for what keeps the others waiting.
void LockArbiter::Settle() {
  for (const file::LockAnswer& answer : table_.TakeAnswers()) {
    const auto waiter = waiting_.find(answer.waiter);
    if (waiter == waiting_.end()) continue;
    const Request request = std::move(waiter->second);
    waiting_.erase(waiter);
    AnswerTo(request, answer.code);
  }
  std::vector<std::pair<HostId, const Request*>> wanted;
  for (const auto& [name, request] : waiting_) {
    for (const LockOwner& owner : table_.Blockers(request.wanted)) {
      if (owner.kind == LockKind::kProcess) continue;
      const auto host = static_cast<HostId>(owner.id);
      const bool known = std::any_of(asked_.begin(), asked_.end(), [&, &request = request](const auto& each) {
        const Asked& asked = each.second;
        return asked.for_whom == 0 && asked.host == host && asked.right.file == request.wanted.file &&
               asked.right.range == request.wanted.range &&
               (asked.right.type == LockType::kUnlock || request.wanted.type == LockType::kShared);
      });
      if (!known) wanted.emplace_back(host, &request);
    }
  }
  for (const auto& [host, request] : wanted) Ask(host, *request, 0);
  std::erase_if(names_, [this](const auto& name) { return !IsUsed(name.second); });
}

void LockArbiter::Cancel(HostId host, uint64_t number) {
  const auto found = std::find_if(waiting_.begin(), waiting_.end(), [&](const auto& each) {
    return each.second.host == host && each.second.lock.number == number;
  });
  if (found == waiting_.end()) return;
  const Request request = std::move(found->second);
  table_.Cancel(found->first);
  waiting_.erase(found);
  AnswerTo(request, EINTR);
  Settle();
}

void LockArbiter::ReleaseProcess(int32_t pid) {
  table_.ReleaseProcess(static_cast<uint64_t>(pid));
  Settle();
}

void LockArbiter::HostGone(HostId host) {
  std::erase_if(waiting_, [&](const auto& each) {
    if (each.second.host == host) table_.Cancel(each.first);
    return each.second.host == host;
  });
  std::erase_if(asking_, [host](const auto& each) { return each.second.first.host == host; });
  table_.ReleaseDescription(host);
  std::vector<uint64_t> given;
  for (const auto& [number, asked] : asked_) {
    if (asked.host == host) given.push_back(number);
  }
  for (const uint64_t number : given) Given(host, number, true);
  Settle();
}

void LockArbiter::NameGone(uint32_t map, const std::string& from, const std::string& to) {
  std::map<std::pair<uint32_t, std::string>, uint64_t> kept;
  for (const auto& [name, file] : names_) {
    const auto& [on, key] = name;
    const auto is_below = [&key = key](const std::string& other) {
      return !other.empty() && (key == other || key.starts_with(other + "/"));
    };
    if (on != map || (!is_below(from) && !is_below(to))) {
      kept[name] = file;
    } else if (is_below(from) && !to.empty()) {
      kept[{on, to + key.substr(from.size())}] = file;
    }
  }
  names_ = std::move(kept);
}

}  // namespace elsewhere::runtime
