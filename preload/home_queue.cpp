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

// False: there is nobody any more who could.
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

HomeQueueUse::HomeQueueUse(int fd) {
  const int before = errno;
  abi::Table* table = nullptr;
  abi::QueueCell* cell = CellOf(fd, &table);
  while (cell != nullptr) {
    cell->inside.fetch_add(1);
    if ((cell->state.load() & abi::kQueueAway) == 0) break;
    cell->inside.fetch_sub(1);
    if (!BringHome(cell)) cell = nullptr;
  }
  if (cell != nullptr) cell->uses.fetch_add(1, std::memory_order_relaxed);
  cell_ = cell;
  errno = before;
}

HomeQueueUse::~HomeQueueUse() {
  if (cell_ != nullptr) cell_->inside.fetch_sub(1);
}

void PinHomeQueue(int fd) {
  const int before = errno;
  abi::Table* table = nullptr;
  if (abi::QueueCell* cell = CellOf(fd, &table); cell != nullptr) {
    if ((cell->state.fetch_or(abi::kQueuePinned) & abi::kQueueAway) != 0) BringHome(cell);
  }
  errno = before;
}

bool KeepQueueHome(int fd, size_t, int) {
  PinHomeQueue(fd);
  return true;
}

}  // namespace elsewhere::preload
