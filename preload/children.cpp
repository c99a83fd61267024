#include "preload/children.h"

#include <atomic>
#include <cstdint>

#include "preload/agent.h"
#include "preload/kernel_call.h"
#include "preload/self.h"

namespace elsewhere::preload {
namespace {

struct Child {
  std::atomic<int32_t> kernel_pid;  // 0: free
  std::atomic<int32_t> session_pid;
};
// Beyond this many children at once, pids are looked up in the host's table alone.
constexpr uint32_t kMaxChildren = 8192;
constinit Child children[kMaxChildren] = {};
// One past the highest slot in use since the last ForgetChildren.
constinit std::atomic<uint32_t> used = 0;

uint32_t Used() {
  const uint32_t count = used.load(std::memory_order_acquire);
  return count < kMaxChildren ? count : kMaxChildren;
}

pid_t InTable(pid_t kernel_pid) {
  const abi::Table* table = AgentTable();
  if (table == nullptr) return 0;
  uint32_t place = abi::ProcessHash(kernel_pid);
  for (uint32_t i = 0; i < abi::kProcessCount; ++i, place = (place + 1) % abi::kProcessCount) {
    const abi::ProcessEntry& entry = table->processes[place];
    const int32_t found = entry.kernel_pid.load(std::memory_order_acquire);
    if (found == 0) return 0;
    if (found == kernel_pid) return entry.session_pid.load(std::memory_order_relaxed);
  }
  return 0;
}

pid_t InTableBySession(pid_t session_pid) {
  const abi::Table* table = AgentTable();
  if (table == nullptr) return 0;
  for (const abi::ProcessEntry& entry : table->processes) {
    const int32_t kernel_pid = entry.kernel_pid.load(std::memory_order_acquire);
    if (kernel_pid > 0 && entry.session_pid.load(std::memory_order_relaxed) == session_pid) return kernel_pid;
  }
  return 0;
}

}  // namespace

void AddChild(pid_t kernel_pid, pid_t session_pid) {
  for (uint32_t i = 0; i < kMaxChildren; ++i) {
    Child& child = children[i];
    int32_t free_slot = 0;
    if (!child.kernel_pid.compare_exchange_strong(free_slot, -1)) continue;
    child.session_pid.store(session_pid, std::memory_order_relaxed);
    child.kernel_pid.store(kernel_pid, std::memory_order_release);
    uint32_t count = used.load(std::memory_order_relaxed);
    while (count <= i && !used.compare_exchange_weak(count, i + 1, std::memory_order_release)) {
    }
    return;
  }
}

void RemoveChild(pid_t kernel_pid) {
  for (uint32_t i = 0; i < Used(); ++i) {
    if (children[i].kernel_pid.load(std::memory_order_relaxed) != kernel_pid) continue;
    NoteReaped(children[i].session_pid.load(std::memory_order_relaxed));
    children[i].kernel_pid.store(0);
  }
}

uint32_t ListChildren(pid_t* to, uint32_t room) {
  uint32_t count = 0;
  for (uint32_t i = 0; i < Used() && count < room; ++i) {
    if (children[i].kernel_pid.load(std::memory_order_acquire) <= 0) continue;
    to[count++] = children[i].session_pid.load(std::memory_order_relaxed);
  }
  return count;
}

void ForgetChildren() {
  for (uint32_t i = 0; i < Used(); ++i) children[i].kernel_pid.store(0, std::memory_order_relaxed);
  used.store(0, std::memory_order_relaxed);
  ForgetReaped();
}

pid_t SessionPidOf(pid_t kernel_pid) {
  for (uint32_t i = 0; i < Used(); ++i) {
    if (children[i].kernel_pid.load(std::memory_order_acquire) == kernel_pid)
      return children[i].session_pid.load();
  }
  if (kernel_pid == self.kernel_pid.load(std::memory_order_relaxed)) return SessionPid();
  return kernel_pid > 0 ? InTable(kernel_pid) : 0;
}

pid_t KernelPidOf(pid_t session_pid) {
  if (session_pid <= 0) return 0;
  for (uint32_t i = 0; i < Used(); ++i) {
    const pid_t kernel_pid = children[i].kernel_pid.load(std::memory_order_acquire);
    if (kernel_pid > 0 && children[i].session_pid.load() == session_pid) return kernel_pid;
  }
  if (session_pid == SessionPid()) return self.kernel_pid;
  return InTableBySession(session_pid);
}

}  // namespace elsewhere::preload
