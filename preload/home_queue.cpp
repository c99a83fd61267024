#include "preload/home_queue.h"

#include <errno.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "preload/agent.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {
namespace {

constexpr long kQueueFileSystem = 0x19800202;  // MQUEUE_MAGIC

bool IsQueueOfKernel(int fd) {
  struct statfs system {};
  return raw::Syscall(SYS_fstatfs, fd, raw::Address(&system)) == 0 && system.f_type == kQueueFileSystem;
}

void FindHomeQueue(int fd) {
  if (OnWorker() || KindOf(fd) != DescriptorKind::kNothing || !IsQueueOfKernel(fd)) return;
  SetKind(fd, DescriptorKind::kHomeQueue);
  has_home_queues.store(true, std::memory_order_relaxed);
}

// nullptr: nobody elsewhere can have it.
abi::QueueCell* CellOf(int fd, abi::Table** table) {
  if (OnWorker() || InVforkChild()) return nullptr;
  if (!self.in_session.load(std::memory_order_relaxed)) {
    if (self.may_start_session) queues_used_early.store(true, std::memory_order_relaxed);
    return nullptr;
  }
  if (!self.fork_remote) return nullptr;
  if (!IsHomeQueue(fd)) FindHomeQueue(fd);
  struct stat status {};
  const bool found =
      (IsHomeQueue(fd) || IsQueueOfKernel(fd)) && raw::Syscall(SYS_fstat, fd, raw::Address(&status)) == 0;
  *table = found ? AgentTable() : nullptr;
  if (*table == nullptr || (*table)->header.fork_remote == 0) return nullptr;
  abi::QueueCell* cell = abi::FindQueueCell(*table, status.st_ino);
  if (cell != nullptr) return cell;
  (*table)->header.queues_stay.store(1);
  CallAgent(abi::Operation::kQueueHome, {static_cast<int64_t>(status.st_ino)});
  return nullptr;
}

// Whatever of it is elsewhere. False: there is nobody any more who could.
bool BringHome(const abi::QueueCell* cell) {
  return CallAgent(abi::Operation::kQueueHome, {static_cast<int64_t>(cell->inode.load())}) == 0 ||
         errno == EAGAIN;
}

}  // namespace

constinit std::atomic<bool> has_home_queues{false};
constinit std::atomic<bool> queues_used_early{false};

// The agent must know whoever has one, to see that all who do ask it.
void HomeQueueOpened(int fd) {
  const int before = errno;
  FindHomeQueue(fd);
  if (IsHomeQueue(fd) && self.in_session.load(std::memory_order_relaxed) && self.fork_remote) AgentTable();
  errno = before;
}

HomeQueueUse::HomeQueueUse(int fd, Kind kind) : sends_(kind == Kind::kSend) {
  const int before = errno;
  const uint32_t away = abi::kQueueAway | (sends_ ? abi::kQueueRightAway : 0);
  abi::Table* table = nullptr;
  cell_ = CellOf(fd, &table);
  while (cell_ != nullptr) {
    Enter();
    if ((cell_->state.load() & away) == 0) break;
    Leave();
    if (!BringHome(cell_)) cell_ = nullptr;
  }
  if (cell_ != nullptr) cell_->uses.fetch_add(1, std::memory_order_relaxed);
  if (cell_ != nullptr && sends_) cell_->sends.fetch_add(1, std::memory_order_relaxed);
  errno = before;
}

HomeQueueUse::~HomeQueueUse() {
  if (cell_ != nullptr) Leave();
}

void HomeQueueUse::Enter() {
  cell_->inside.fetch_add(1);
  if (sends_) cell_->inside_sends.fetch_add(1);
}

void HomeQueueUse::Leave() {
  if (sends_) cell_->inside_sends.fetch_sub(1);
  cell_->inside.fetch_sub(1);
}

void PinHomeQueue(int fd) {
  const int before = errno;
  abi::Table* table = nullptr;
  if (abi::QueueCell* cell = CellOf(fd, &table); cell != nullptr) {
    constexpr uint32_t kElsewhere = abi::kQueueAway | abi::kQueueRightAway;
    if ((cell->state.fetch_or(abi::kQueuePinned) & kElsewhere) != 0) BringHome(cell);
  }
  errno = before;
}

bool KeepQueueHome(int fd, size_t, int) {
  PinHomeQueue(fd);
  return true;
}

}  // namespace elsewhere::preload
