#include "runtime/worker_pool.h"

#include <algorithm>
#include <fstream>

namespace elsewhere::runtime {
namespace {

// What a restored child costs before it does anything (page tables, kernel structures, first touched pages),
// and what a machine keeps for itself.
constexpr uint64_t kChildBytes = 1 << 20;
constexpr uint64_t kReserveBytes = 256 << 20;

}  // namespace

std::string MachineName() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string name;
  std::getline(file, name);
  return name;
}

bool WorkerPool::OnThisMachine(wire::HostId host) const {
  const auto worker = workers_.find(host);
  return worker != workers_.end() && worker->second.same_machine;
}

void WorkerPool::Ready(wire::HostId host, const wire::HostHello& hello) {
  Worker& worker = workers_[host];
  worker.ready = true;
  worker.silent = 0;
  worker.slots = std::max(hello.slots, 1U);
  worker.memory_free = hello.memory_free;
  worker.cpu_features = hello.cpu_features;
  worker.same_machine = hello.machine == MachineName();
}

void WorkerPool::Report(wire::HostId host, const wire::Heartbeat& heartbeat) {
  const auto worker = workers_.find(host);
  if (worker == workers_.end()) return;
  worker->second.silent = 0;
  worker->second.memory_free = heartbeat.memory_free;
  worker->second.promised = 0;
}

std::vector<wire::HostId> WorkerPool::Silent(uint32_t limit) {
  std::vector<wire::HostId> silent;
  for (auto& [host, worker] : workers_) {
    if (++worker.silent > limit) silent.push_back(host);
  }
  return silent;
}

void WorkerPool::Began(wire::HostId host) {
  const auto worker = workers_.find(host);
  if (worker != workers_.end()) ++worker->second.children;
}

void WorkerPool::Ended(wire::HostId host) {
  const auto worker = workers_.find(host);
  if (worker != workers_.end() && worker->second.children > 0) --worker->second.children;
}

Result<wire::HostId> WorkerPool::Choose(const image::CpuFeatures& features, uint64_t image_bytes) {
  Worker* best = nullptr;
  wire::HostId best_host = 0;
  bool any_ready = false;
  bool any_compatible = false;
  // A child shares what it does not write with its siblings through the host's cache: an eighth is a guess
  // that the heartbeat corrects.
  const uint64_t cost = kChildBytes + image_bytes / 8;
  const auto better = [&](wire::HostId host, const Worker& worker) {
    if (best == nullptr) return true;
    const uint64_t mine = uint64_t{worker.children} * best->slots;
    const uint64_t other = uint64_t{best->children} * worker.slots;
    if (mine != other) return mine < other;
    const bool mine_later = host > last_choice_;
    const bool best_later = best_host > last_choice_;
    return mine_later && !best_later;
  };
  for (auto& [host, worker] : workers_) {
    if (!worker.ready) continue;
    any_ready = true;
    if (!image::Runs(features, worker.cpu_features)) continue;
    any_compatible = true;
    if (worker.memory_free < worker.promised + cost + kReserveBytes) continue;
    if (better(host, worker)) {
      best = &worker;
      best_host = host;
    }
  }
  if (best != nullptr) {
    best->promised += cost;
    last_choice_ = best_host;
    return best_host;
  }
  if (Starting()) return Error{EAGAIN, "workers are starting"};
  if (!any_ready) return Error{ENOENT, "no worker is running"};
  if (!any_compatible) return Error{ENOEXEC, "no worker has the processor features of this machine"};
  return Error{ENOMEM, "no memory left on workers"};
}

bool WorkerPool::Starting() const {
  return std::any_of(workers_.begin(), workers_.end(), [](const auto& entry) { return !entry.second.ready; });
}

}  // namespace elsewhere::runtime
