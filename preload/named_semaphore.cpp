// Names belong to the session: the home agent keeps them, and hands out the cell of its host's table in which
// the word lies. Opening a name twice gives the same address; the agent knows of the first open and the last
// close only.
//
// A cell must not be given to another name while any process may still use it. The agent keeps who holds
// which cell: it learns of opens and closes, of deaths, and of what a child inherits from its parent,
// synchronously after the fork, so that no close of the parent's can come before.
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include <atomic>

#include "preload/agent.h"
#include "preload/hooks.h"
#include "preload/ipc.h"
#include "preload/real.h"
#include "preload/self.h"
#include "preload/semaphore.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {
namespace {

constexpr size_t kNameLimit = 251;  // NAME_MAX less "sem." of libc's file name

constinit std::atomic<uint32_t> open_counts[abi::kCellCount] =
    {};  // how often this process has the cell open
constinit std::atomic<uint32_t> open_cells{0};
constinit std::atomic<abi::Table*> table{nullptr};  // where the cells are; the same address for life
constinit std::atomic<bool> busy{
    false};  // opens and closes one after the other: the agent must hear them in order

class Turn {
 public:
  Turn() {
    while (busy.exchange(true, std::memory_order_acquire)) raw::Syscall(SYS_sched_yield);
  }
  ~Turn() { busy.store(false, std::memory_order_release); }
};

// As libc looks at names: leading slashes do not count, there must be something, and no further slash.
int CheckName(const char** name, size_t* length, int invalid) {
  while (**name == '/') ++*name;
  *length = strlen(*name);
  if (*length == 0 || *length > 255 || strchr(*name, '/') != nullptr) return invalid;
  return *length > kNameLimit ? ENAMETOOLONG : 0;
}

bool CellOf(const sem_t* semaphore, uint32_t* cell) {
  const abi::Table* home = table.load(std::memory_order_acquire);
  if (home == nullptr) return false;
  const auto first = reinterpret_cast<uintptr_t>(home->cells);
  const auto at = reinterpret_cast<uintptr_t>(semaphore);
  if (at < first || at >= first + sizeof home->cells) return false;
  *cell = static_cast<uint32_t>((at - first) / sizeof(abi::Cell));
  return (at - first) % sizeof(abi::Cell) == 0;
}

template <class Action>
void ForEachOpenCell(Action action) {
  uint32_t left = open_cells.load(std::memory_order_relaxed);
  for (uint32_t cell = 0; cell < abi::kCellCount && left > 0; ++cell) {
    if (open_counts[cell].load(std::memory_order_relaxed) == 0) continue;
    action(cell);
    --left;
  }
}

}  // namespace

namespace named {

bool IsCell(const sem_t* semaphore) {
  uint32_t cell;
  return CellOf(semaphore, &cell);
}

bool FindCell(const sem_t* semaphore, SharedPlace* place) {
  uint32_t cell;
  if (!CellOf(semaphore, &cell)) return false;
  *place = {abi::kNamedCell, 0, 0, cell};
  return true;
}

void AfterForkInParent(int child) {
  constexpr size_t kAtOnce = abi::kSlotPayload / sizeof(uint32_t);
  if (OnWorker() || open_cells.load(std::memory_order_relaxed) == 0) return;  // of nested children home knows
  const int before = errno;
  uint32_t cells[kAtOnce];
  size_t count = 0;
  const auto tell = [&](bool last) {
    CallAgent(abi::Operation::kSemInherit, {child, last}, {cells, count * sizeof(uint32_t)});
    count = 0;
  };
  ForEachOpenCell([&](uint32_t cell) {
    if (count == kAtOnce) tell(false);
    cells[count++] = cell;
  });
  tell(true);
  errno = before;
}

void AfterForkInChild(bool deputy) {
  busy.store(false, std::memory_order_relaxed);  // the thread that held it is not here
  if (!deputy && open_cells.load(std::memory_order_relaxed) != 0) AgentTable();
}

}  // namespace named

namespace hooks {

sem_t* sem_open(const char* given, int flags, mode_t mode, unsigned value) {
  abi::Table* home = AgentTable();
  if (home == nullptr) return real::sem_open(given, flags, mode, value);
  const char* name = given;
  size_t length = 0;
  if (const int wrong = CheckName(&name, &length, EINVAL); wrong != 0) {
    errno = wrong;
    return SEM_FAILED;
  }
  if (OnWorker()) SessionPid();  // home must know of this process before it hears a name from it
  const Turn turn;
  table.store(home, std::memory_order_release);
  const int64_t cell =
      CallAgent(abi::Operation::kSemOpen, {flags & (O_CREAT | O_EXCL), static_cast<int64_t>(mode), value},
                {name, length});
  if (cell < 0) return SEM_FAILED;
  if (open_counts[cell].fetch_add(1) == 0) open_cells.fetch_add(1);
  return reinterpret_cast<sem_t*>(home->cells[cell].word);
}

int sem_close(sem_t* semaphore) {
  uint32_t cell;
  if (!CellOf(semaphore, &cell)) return real::sem_close(semaphore);
  const Turn turn;
  if (open_counts[cell].load() == 0) {
    errno = EINVAL;
    return -1;
  }
  if (open_counts[cell].fetch_sub(1) > 1) return 0;
  open_cells.fetch_sub(1);
  const int before = errno;
  CallAgent(abi::Operation::kSemClose, {cell});
  errno = before;
  return 0;
}

int sem_unlink(const char* given) {
  if (AgentTable() == nullptr) return real::sem_unlink(given);
  const char* name = given;
  size_t length = 0;
  if (const int wrong = CheckName(&name, &length, ENOENT); wrong != 0) {
    errno = wrong;
    return -1;
  }
  return static_cast<int>(CallAgent(abi::Operation::kSemUnlink, {}, {name, length}));
}

}  // namespace hooks
}  // namespace elsewhere::preload
