#include "runtime/ipc/semaphore_names.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "runtime/object_counts.h"
#include "shim/wire/semaphore_lease.h"

namespace elsewhere::runtime {
namespace {

constexpr size_t kRecentlyGone = 256;
constexpr size_t kMostWordsPerObject = 1 << 20;

// Of a word that is not promoted.
uint32_t CountOf(const wire::Semaphore* word) {
  int count = 0;
  wire::SemaphoreGetValue(word, &count);
  return static_cast<uint32_t>(count);
}

std::string PayloadText(const Call& call) {
  return {call.payload.begin(), call.payload.end()};
}

}  // namespace

SemaphoreNames::SemaphoreNames(Agent& agent, SemaphoreCalls& calls, Segments& segments)
    : agent_(agent), calls_(calls), segments_(segments) {
  agent.OnCall(abi::Operation::kSemOpen, [this](CallId id, const Call& call) { OnOpen(id, call); });
  agent.OnCall(abi::Operation::kSemClose, [this](CallId id, const Call& call) { OnClose(id, call); });
  agent.OnCall(abi::Operation::kSemUnlink, [this](CallId id, const Call& call) { OnUnlink(id, call); });
  agent.OnCall(abi::Operation::kSemInherit, [this](CallId id, const Call& call) { OnInherit(id, call); });
  agent.OnCall(abi::Operation::kSemInit, [this](CallId id, const Call& call) { OnInit(id, call); });
  if (agent.is_home()) {
    agent.OnMessage<wire::SemaphoreName>(
        [this](HostId from, wire::SemaphoreName&& request) { OnRequest(from, std::move(request)); });
  } else {
    agent.OnMessage<wire::SemaphoreNamed>(
        [this](HostId, wire::SemaphoreNamed&& answer) { OnAnswer(answer); });
  }
}

namespace {

// The effective one, which a process may have changed since it was made. Nobody's where it cannot be told: it
// is gone, and nobody hears the answer.
uint32_t UserOf(int32_t kernel_pid) {
  char path[32], line[256];
  snprintf(path, sizeof path, "/proc/%d/status", kernel_pid);
  FILE* file = fopen(path, "re");
  unsigned user = UINT32_MAX;
  while (file != nullptr && fgets(line, sizeof line, file) != nullptr) {
    if (sscanf(line, "Uid: %*u %u", &user) == 1) break;
  }
  if (file != nullptr) fclose(file);
  return user;
}

wire::SemaphoreName RequestOf(const Call& call, bool unlink) {
  wire::SemaphoreName request;
  request.caller = call.incarnation;
  request.user = UserOf(call.kernel_pid);
  request.unlink = unlink;
  request.flags = call.arguments[0];
  request.mode = static_cast<uint32_t>(call.arguments[1]);
  request.value = static_cast<uint32_t>(call.arguments[2]);
  request.name = PayloadText(call);
  return request;
}

}  // namespace

wire::Semaphore* SemaphoreNames::Word(uint32_t cell) {
  return reinterpret_cast<wire::Semaphore*>(agent_.table().cells[cell].word);
}

// ---- Names and cells, at home ----

SemaphoreNames::Opened SemaphoreNames::Open(int32_t holder, const wire::SemaphoreName& request) {
  const std::string& name = request.name;
  const uint32_t value = request.value;
  const bool create = (request.flags & O_CREAT) != 0;
  if (const auto known = names_.find(name); known != names_.end()) {
    if (create && (request.flags & O_EXCL) != 0) return {EEXIST, 0};
    const Named& named = cells_[known->second];
    const uint32_t needed = request.user == named.owner ? 0600 : 0006;
    if (request.user != 0 && (named.mode & needed) != needed) return {EACCES, 0};
    Hold(holder, known->second);
    return {0, known->second};
  }
  if (!create) return {ENOENT, 0};
  if (value > wire::kSemaphoreMaximum) return {EINVAL, 0};
  uint32_t cell = never_used_;
  if (!free_cells_.empty()) {
    cell = free_cells_.back();
    free_cells_.pop_back();
  } else if (never_used_ == wire::kFirstLeaseCell) {
    return {ENOSPC, 0};
  } else {
    ++never_used_;
  }
  wire::SemaphoreInit(Word(cell), value);
  cells_[cell] = Named{
      .name = name, .linked = true, .mode = request.mode, .owner = request.user, .object = 0, .holders = 0};
  names_[name] = cell;
  if (ObjectCounts* counts = agent_.object_counts()) counts->CellNamed(cell, name);
  Hold(holder, cell);
  return {0, cell};
}

// As in a directory that everybody may write and in which only owners remove.
int SemaphoreNames::Unlink(const wire::SemaphoreName& request) {
  const auto known = names_.find(request.name);
  if (known == names_.end()) return ENOENT;
  const uint32_t cell = known->second;
  if (request.user != 0 && request.user != cells_[cell].owner) return EACCES;
  names_.erase(known);
  cells_[cell].linked = false;
  FreeIfUnused(cell);
  return 0;
}

uint64_t SemaphoreNames::PromoteCell(uint32_t cell) {
  Named& named = cells_[cell];
  if (named.object == 0) {
    uint32_t count = 0;
    named.object = calls_.Reserve(CountOf(Word(cell)));
    wire::SemaphorePromote(Word(cell), named.object, &count);
    calls_.Create(named.object, count);
  }
  return named.object;
}

void SemaphoreNames::Hold(int32_t holder, uint32_t cell) {
  if (holders_[holder].cells.insert(cell).second) ++cells_[cell].holders;
}

void SemaphoreNames::LetGo(uint32_t cell) {
  const auto found = cells_.find(cell);
  if (found == cells_.end()) return;
  --found->second.holders;
  FreeIfUnused(cell);
}

void SemaphoreNames::FreeIfUnused(uint32_t cell) {
  const Named& named = cells_[cell];
  if (named.linked || named.holders != 0) return;
  if (named.object != 0) calls_.Destroy(named.object);
  Word(cell)->magic = 0;
  cells_.erase(cell);
  free_cells_.push_back(cell);
}

// ---- Holders ----

void SemaphoreNames::Inherit(int32_t child, int32_t parent) {
  if (const auto known = holders_.find(child); known != holders_.end() && known->second.complete) return;
  const auto found = holders_.find(parent);
  if (found == holders_.end()) return;
  const std::set<uint32_t> cells = found->second.cells;
  for (const uint32_t cell : cells) Hold(child, cell);
}

void SemaphoreNames::OnInherit(CallId id, const Call& call) {
  agent_.Complete(id, 0);
  const auto child = static_cast<int32_t>(call.arguments[0]);
  if (!agent_.is_home() || recently_gone_.contains(child)) return;
  Holder& holder = holders_[child];
  for (size_t at = 0; at + sizeof(uint32_t) <= call.payload.size(); at += sizeof(uint32_t)) {
    uint32_t cell = 0;
    std::copy_n(call.payload.data() + at, sizeof cell, reinterpret_cast<uint8_t*>(&cell));
    // Of what the parent does not hold itself it has nothing to say.
    if (holders_[call.kernel_pid].cells.contains(cell)) holder.told.insert(cell);
  }
  if (call.arguments[1] == 0) return;
  Holder& complete = holders_[child];
  complete.complete = true;
  const std::set<uint32_t> told = std::exchange(complete.told, {});
  const std::set<uint32_t> closed = std::exchange(complete.closed, {});
  for (const uint32_t cell : told) {
    if (!closed.contains(cell)) Hold(child, cell);
  }
  const std::set<uint32_t> cells = holders_[child].cells;
  for (const uint32_t cell : cells) {
    if (told.contains(cell)) continue;
    holders_[child].cells.erase(cell);
    LetGo(cell);
  }
}

void SemaphoreNames::ProcessGone(int32_t kernel_pid) {
  if (!agent_.is_home()) return;
  if (recently_gone_.insert(kernel_pid).second) recently_gone_order_.push_back(kernel_pid);
  if (recently_gone_order_.size() > kRecentlyGone) {
    recently_gone_.erase(recently_gone_order_.front());
    recently_gone_order_.erase(recently_gone_order_.begin());
  }
  const auto found = holders_.find(kernel_pid);
  if (found == holders_.end()) return;
  const Holder holder = std::move(found->second);
  holders_.erase(found);
  for (const uint32_t cell : holder.cells) {
    // It may have died between being woken and taking what it was woken for.
    if (cells_[cell].object == 0) wire::SemaphoreWakeAll(Word(cell));
    LetGo(cell);
  }
}

// ---- Jobs and segments ----

std::vector<wire::SharedState::Semaphore> SemaphoreNames::Capture(int32_t deputy, int32_t parent) {
  Inherit(deputy, parent);
  std::vector<wire::SharedState::Semaphore> semaphores;
  const auto holder = holders_.find(deputy);
  if (holder == holders_.end()) return semaphores;
  for (const uint32_t cell : holder->second.cells) semaphores.push_back({cell, PromoteCell(cell)});
  return semaphores;
}

void SemaphoreNames::Adopt(const std::vector<wire::SharedState::Semaphore>& semaphores) {
  for (const auto& [cell, object] : semaphores) {
    if (cell >= wire::kFirstLeaseCell || object == 0) continue;
    wire::Semaphore* word = Word(cell);
    if (wire::IsOurs(word) && word->object.load() == object) continue;
    uint32_t nothing = 0;
    wire::SemaphoreInit(word, 0);
    wire::SemaphorePromote(word, object, &nothing);
  }
}

void SemaphoreNames::Promote(const ObjectKey& key, Segment& segment) {
  const auto found = made_in_.find(key);
  if (found == made_in_.end()) return;
  agent_.SharedMemoryChanged();
  for (const uint64_t offset : found->second) {
    if (offset + sizeof(wire::Semaphore) > segment.size()) continue;
    auto* word = reinterpret_cast<wire::Semaphore*>(segment.live() + offset);
    if (!wire::IsOurs(word) || wire::IsPromoted(word)) continue;
    const uint64_t object = calls_.Reserve(CountOf(word));
    uint32_t count = 0;
    if (wire::SemaphorePromote(word, object, &count)) calls_.Create(object, count);
  }
  made_in_.erase(found);
}

// ---- Calls of this host's processes ----

void SemaphoreNames::OnOpen(CallId id, const Call& call) {
  if (!agent_.is_home()) return Forward(id, call, false);
  const Opened opened = Open(call.kernel_pid, RequestOf(call, false));
  agent_.Complete(id, opened.error == 0 ? static_cast<int64_t>(opened.cell) : -1, opened.error);
}

void SemaphoreNames::OnClose(CallId id, const Call& call) {
  agent_.Complete(id, 0);
  if (!agent_.is_home()) return;
  const auto cell = static_cast<uint32_t>(call.arguments[0]);
  Holder& holder = holders_[call.kernel_pid];
  if (!holder.complete) holder.closed.insert(cell);
  if (holder.cells.erase(cell) != 0) LetGo(cell);
}

void SemaphoreNames::OnUnlink(CallId id, const Call& call) {
  if (!agent_.is_home()) return Forward(id, call, true);
  const int error = Unlink(RequestOf(call, true));
  agent_.Complete(id, error == 0 ? 0 : -1, error);
}

void SemaphoreNames::OnInit(CallId id, const Call& call) {
  const auto host = static_cast<HostId>(call.arguments[0]);
  const ObjectKey key{static_cast<uint64_t>(call.arguments[1]), static_cast<uint64_t>(call.arguments[2])};
  const auto offset = static_cast<uint64_t>(call.arguments[3]);
  // Segments are home's objects; what was mapped anew on a worker stays there.
  if (host == wire::kHome && segments_.Find(key) != nullptr) {
    const auto count = static_cast<uint32_t>(call.arguments[4]);
    const uint64_t object = calls_.Reserve(count);
    calls_.Create(object, count);
    return agent_.Complete(id, static_cast<int64_t>(object));
  }
  if (agent_.is_home() && host == wire::kHome) {
    auto& offsets = made_in_[key];
    if (offsets.size() >= kMostWordsPerObject) return agent_.Complete(id, -1, ENOSPC);
    offsets.insert(offset);
  }
  agent_.Complete(id, 0);
}

// ---- Names from workers ----

void SemaphoreNames::Forward(CallId id, const Call& call, bool unlink) {
  wire::SemaphoreName request = RequestOf(call, unlink);
  request.request = ++last_request_;
  requests_[request.request] = id;
  agent_.Send(wire::kHome, request);
}

void SemaphoreNames::OnRequest(HostId from, wire::SemaphoreName&& request) {
  wire::SemaphoreNamed answer;
  answer.request = request.request;
  const Process* deputy = agent_.FindProcess(request.caller);
  if (deputy == nullptr) {
    answer.error = ESRCH;  // fenced: nobody reads this
  } else if (request.unlink) {
    answer.error = Unlink(request);
  } else {
    const Opened opened = Open(deputy->kernel_pid, request);
    answer.error = opened.error;
    answer.cell = opened.cell;
    if (opened.error == 0) answer.object = PromoteCell(opened.cell);
  }
  agent_.Send(from, answer);
}

void SemaphoreNames::OnAnswer(const wire::SemaphoreNamed& answer) {
  const auto found = requests_.find(answer.request);
  if (found == requests_.end()) return;
  const CallId id = found->second;
  requests_.erase(found);
  if (answer.error != 0) return agent_.Complete(id, -1, answer.error);
  if (answer.object != 0) Adopt({{answer.cell, answer.object}});
  agent_.Complete(id, static_cast<int64_t>(answer.cell));
}

void SemaphoreNames::CallDropped(CallId id) {
  std::erase_if(requests_, [id](const auto& request) { return request.second == id; });
}

}  // namespace elsewhere::runtime
