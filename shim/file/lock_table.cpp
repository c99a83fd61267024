#include "shim/file/lock_table.h"

#include <algorithm>
#include <set>

namespace elsewhere::file {
namespace {

bool Overlap(const LockRange& a, const LockRange& b) {
  return a.from < b.to && b.from < a.to;
}

bool IsProcess(const LockOwner& owner, uint64_t process) {
  return owner == LockOwner{LockKind::kProcess, process};
}

bool IsDescription(const LockOwner& owner, uint64_t description) {
  return owner.kind != LockKind::kProcess && owner.id == description;
}

}  // namespace

bool LockTable::Excludes(const Held& held, const LockRequest& request) {
  bool excludes = held.type == LockType::kExclusive || request.type == LockType::kExclusive;
  return excludes && held.owner != request.owner && Overlap(held.range, request.range);
}

const LockTable::Held* LockTable::FindHeld(const LockRequest& request) const {
  auto file = files_.find(request.file);
  if (file == files_.end() || request.type == LockType::kUnlock) return nullptr;
  for (auto& held : file->second.held)
    if (Excludes(held, request)) return &held;
  return nullptr;
}

std::vector<LockOwner> LockTable::Blockers(const LockRequest& request) const {
  std::vector<LockOwner> owners;
  auto file = files_.find(request.file);
  if (file == files_.end() || request.type == LockType::kUnlock) return owners;
  for (auto& held : file->second.held)
    if (Excludes(held, request) && std::find(owners.begin(), owners.end(), held.owner) == owners.end())
      owners.push_back(held.owner);
  return owners;
}

bool LockTable::Holds(uint64_t process) const {
  return std::any_of(files_.begin(), files_.end(), [process](auto& entry) {
    auto& [held, waiters] = entry.second;
    return std::any_of(held.begin(), held.end(),
                       [process](auto& lock) { return IsProcess(lock.owner, process); }) ||
           std::any_of(waiters.begin(), waiters.end(),
                       [process](auto& waiter) { return IsProcess(waiter.request.owner, process); });
  });
}

std::optional<LockConflict> LockTable::Find(const LockRequest& request) const {
  const Held* held = FindHeld(request);
  if (!held) return std::nullopt;
  return LockConflict{held->type, held->range,
                      held->owner.kind == LockKind::kProcess ? pid_t(held->owner.id) : pid_t(-1)};
}

// Cuts the range out of what the owner has, then puts the new lock in.
Status LockTable::Set(File& file, const LockRequest& request) {
  LockRange range = request.range;
  std::vector<Held> kept;
  for (auto& held : file.held) {
    bool own = held.owner == request.owner;
    bool touches = held.range.from <= range.to && range.from <= held.range.to;
    if (own && held.type == request.type && touches) {
      range = {std::min(range.from, held.range.from), std::max(range.to, held.range.to)};
    } else if (own && Overlap(held.range, request.range)) {
      Held before = held, after = held;
      before.range.to = request.range.from;
      after.range.from = request.range.to;
      for (auto& part : {before, after})
        if (part.range.from < part.range.to) kept.push_back(part);
    } else {
      kept.push_back(held);
    }
  }
  if (request.type != LockType::kUnlock) kept.push_back({request.owner, request.type, range});
  // Giving up may split a lock in two; that is never refused, else nobody could.
  if (kept.size() > file.held.size() && request.type != LockType::kUnlock &&
      count_ + kept.size() - file.held.size() > most_locks_)
    return Error{ENOLCK, "there are too many locks on mapped files"};
  std::stable_sort(kept.begin(), kept.end(), [](auto& a, auto& b) { return a.range.from < b.range.from; });
  count_ += kept.size() - file.held.size();
  file.held = std::move(kept);
  return Ok{};
}

Status LockTable::Try(const LockRequest& request) {
  const Held* conflict = FindHeld(request);
  Status status = Ok{};
  if (!conflict) status = Set(files_[request.file], request);
  TryWaitersOf(request.file);
  if (conflict) return Error{EAGAIN, "somebody else has the lock"};
  return status;
}

Result<bool> LockTable::Wait(const LockRequest& request, uint64_t waiter) {
  auto tried = Try(request);
  if (tried) return true;
  if (tried.error().code != EAGAIN) return tried.error();
  if (WouldWaitForItself(request)) return Error{EDEADLK, "waiting for this lock would never end"};
  files_[request.file].waiters.push_back({waiter, request});
  return false;
}

// Who has what the request wants, for what do those wait, and so on; only POSIX locks are followed.
bool LockTable::WouldWaitForItself(const LockRequest& request) const {
  if (request.owner.kind != LockKind::kProcess) return false;
  std::vector<const LockRequest*> wanted{&request};
  std::set<uint64_t> seen;
  while (!wanted.empty()) {
    const LockRequest& next = *wanted.back();
    wanted.pop_back();
    auto file = files_.find(next.file);
    if (file == files_.end()) continue;
    for (auto& held : file->second.held) {
      bool excludes = held.type == LockType::kExclusive || next.type == LockType::kExclusive;
      if (!excludes || held.owner == next.owner || held.owner.kind != LockKind::kProcess ||
          !Overlap(held.range, next.range))
        continue;
      if (held.owner == request.owner) return true;
      if (!seen.insert(held.owner.id).second) continue;
      for (auto& [name, other] : files_)
        for (auto& waiter : other.waiters)
          if (waiter.request.owner == held.owner) wanted.push_back(&waiter.request);
    }
  }
  return false;
}

void LockTable::TryWaitersOf(LockedFile name) {
  auto found = files_.find(name);
  if (found == files_.end()) return;
  File& file = found->second;
  for (bool again = true; again;) {
    again = false;
    for (auto waiter = file.waiters.begin(); waiter != file.waiters.end();) {
      auto next = std::next(waiter);
      bool free = !FindHeld(waiter->request);
      if (free || WouldWaitForItself(waiter->request)) {
        Status status = free ? Set(file, waiter->request) : Status(Error{EDEADLK, ""});
        answers_.push_back({waiter->name, status ? 0 : status.error().code});
        file.waiters.erase(waiter);
        again = true;  // an upgrade or downgrade may have freed a part for those before
      }
      waiter = next;
    }
  }
  if (file.held.empty() && file.waiters.empty()) files_.erase(found);
}

void LockTable::Cancel(uint64_t waiter) {
  for (auto& [name, file] : files_) {
    auto found = std::find_if(file.waiters.begin(), file.waiters.end(),
                              [&](auto& entry) { return entry.name == waiter; });
    if (found == file.waiters.end()) continue;
    file.waiters.erase(found);
    return TryWaitersOf(name);
  }
}

template <class Condition>
void LockTable::Drop(LockedFile name, const Condition& condition) {
  File& file = files_.at(name);
  count_ -= std::erase_if(file.held, [&](auto& held) { return condition(held.owner); });
  file.waiters.remove_if([&](auto& waiter) { return condition(waiter.request.owner); });
}

void LockTable::Release(bool (*matches)(const LockOwner&, uint64_t), uint64_t id) {
  std::vector<LockedFile> names;
  for (auto& [name, file] : files_) names.push_back(name);
  for (auto name : names) Drop(name, [&](const LockOwner& owner) { return matches(owner, id); });
  for (auto name : names) TryWaitersOf(name);
}

void LockTable::ReleaseProcess(uint64_t process) {
  Release(IsProcess, process);
}

void LockTable::ReleaseDescription(uint64_t description) {
  Release(IsDescription, description);
}

// A close in another thread leaves the calls that wait alone.
void LockTable::ReleaseOnClose(uint64_t process, LockedFile name) {
  auto file = files_.find(name);
  if (file == files_.end()) return;
  count_ -= std::erase_if(file->second.held, [&](auto& held) { return IsProcess(held.owner, process); });
  TryWaitersOf(name);
}

std::vector<LockAnswer> LockTable::TakeAnswers() {
  return std::exchange(answers_, {});
}

}  // namespace elsewhere::file
