// Home: which host alone sends to a queue, and may do so without waiting for an answer (sending_right.h). The
// rest of QueueLeases is in queue_leases.cpp.
#include <mqueue.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>

#include "runtime/ipc/queue_leases.h"

namespace elsewhere::runtime {

void QueueLeases::SentBy(Queue& queue, HostId from) {
  const abi::QueueCell* cell = CellOf(queue.inode);
  const uint32_t home_sends = cell == nullptr ? 0 : cell->sends.load();
  if (std::exchange(queue.home_sends, home_sends) != home_sends) queue.senders.Used(wire::kHome);
  queue.senders.Used(from);
}

uint64_t QueueLeases::RightOf(uint64_t call) {
  const auto of = calls_.find(call);
  const auto found = of == calls_.end() ? queues_.end() : queues_.find(of->second);
  if (found == queues_.end()) return 0;
  Queue& queue = *found->second;
  const auto pending = queue.pending.find(call);
  if (pending == queue.pending.end() || queue.state != State::kHere) return 0;
  const HostId from = pending->second.from;
  if (queue.right_host == from) return queue.right_ends ? 0 : queue.right;
  if (queue.right_host != wire::kHome || !queue.senders.Deserves(from)) return 0;
  // Others that wait to send are before it.
  const bool others = std::any_of(queue.pending.begin(), queue.pending.end(), [from](const auto& item) {
    return item.second.sends && item.second.from != from;
  });
  const std::string path =
      "/proc/" + std::to_string(pending->second.deputy) + "/fd/" + std::to_string(pending->second.descriptor);
  const bool possible = !others && Open(queue, path) && IsAlone(queue, path);
  if (!possible || !Mark(queue, abi::kQueueRightAway, &abi::QueueCell::inside_sends)) {
    queue.senders.NotNow();
    return 0;
  }
  queue.right = ++last_lease_;
  queue.right_host = from;
  queue.right_ends = false;
  queue.arrived = 0;
  queue.told = UINT64_MAX;
  queue.senders.Began();
  rights_.push_back(queue.inode);
  return queue.right;
}

std::vector<wire::QueueRoom> QueueLeases::RoomsOf(HostId host) {
  std::vector<wire::QueueRoom> rooms;
  for (const uint64_t inode : rights_) {
    Queue& queue = *queues_.at(inode);
    mq_attr attributes{};
    if (queue.right_host != host || queue.right_ends || mq_getattr(queue.descriptor.get(), &attributes) != 0)
      continue;
    const uint64_t inside = static_cast<uint64_t>(attributes.mq_curmsgs) + queue.back.size();
    const uint64_t allowed = queue.arrived + (inside < queue.capacity ? queue.capacity - inside : 0);
    if (std::exchange(queue.told, allowed) != allowed) rooms.push_back({queue.right, allowed, queue.room});
  }
  return rooms;
}

QueueLeases::Queue* QueueLeases::FindRight(HostId host, uint64_t right) {
  for (const uint64_t inode : rights_) {
    Queue& queue = *queues_.at(inode);
    if (queue.right == right && queue.right_host == host) return &queue;
  }
  return nullptr;  // of a queue that was abandoned
}

void QueueLeases::OnSend(HostId from, wire::QueueSend&& message) {
  Queue* queue = FindRight(from, message.right);
  if (queue == nullptr) return;
  ++queue->arrived;
  home_.sent(queue->descriptor.get());
  queue->back.push_back(std::move(message.message));
  // Unless somebody sent who was not known to have it, there is room.
  if (queue->back.size() == 1) PutBack(*queue);
}

void QueueLeases::EndRight(Queue& queue) {
  if (queue.right_host == wire::kHome || std::exchange(queue.right_ends, true)) return;
  agent_.Send(queue.right_host, wire::QueueRightEnd{queue.right});
}

void QueueLeases::RightEnded(Queue& queue) {
  queue.senders.Ended(true);
  queue.right_host = wire::kHome;
  queue.right_ends = false;
  std::erase(rights_, queue.inode);
  if (abi::QueueCell* cell = CellOf(queue.inode); cell != nullptr)
    cell->state.fetch_and(~abi::kQueueRightAway);
  AskHeld(queue);
}

}  // namespace elsewhere::runtime
