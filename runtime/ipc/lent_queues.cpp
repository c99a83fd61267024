#include "runtime/ipc/lent_queues.h"

#include <sys/msg.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <set>
#include <utility>

namespace elsewhere::runtime {
namespace {

#ifndef MSG_COPY
constexpr int MSG_COPY = 040000;
#endif

using Buffer = std::unique_ptr<abi::LentMessage, decltype(&std::free)>;

Buffer MakeBuffer(uint32_t room) {
  return {static_cast<abi::LentMessage*>(std::calloc(1, sizeof(int64_t) + abi::LentMessageBytes(room))),
          &std::free};
}

// True: the limit is ours to say, so this namespace is.
bool RaiseLimit(const char* path, const char* to) {
  FILE* file = fopen(path, "we");
  if (file == nullptr) return false;
  const bool written = fputs(to, file) >= 0;
  return fclose(file) == 0 && written;
}

// No message enters from here on; those that are being sent have entered, or have not. Returns how many there
// are, at most.
int64_t CloseForSenders(int id) {
  msqid_ds state{};
  if (msgctl(id, IPC_STAT, &state) != 0) return 0;
  state.msg_qbytes = 0;
  msgctl(id, IPC_SET, &state);
  return msgctl(id, IPC_STAT, &state) == 0 ? static_cast<int64_t>(state.msg_qnum) : 0;
}

// Messages can be looked at without being taken.
bool CanLook() {
  const int id = msgget(IPC_PRIVATE, 0600);
  if (id < 0) return false;
  abi::LentMessage none{};
  const bool can = msgrcv(id, &none, 0, 0, IPC_NOWAIT | MSG_COPY) < 0 && errno == ENOMSG;
  msgctl(id, IPC_RMID, nullptr);
  return can;
}

uint64_t TimeNow() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return abi::LentTime(static_cast<uint64_t>(std::chrono::nanoseconds(now).count()));
}

}  // namespace

int MakeLentQueue(uint32_t room, uint32_t capacity) {
  // Whatever user the processes have become.
  const int id = msgget(IPC_PRIVATE, 0666);
  msqid_ds state{};
  if (id < 0 || msgctl(id, IPC_STAT, &state) != 0) return -1;
  state.msg_qbytes = uint64_t{capacity} * abi::LentMessageBytes(room);
  if (msgctl(id, IPC_SET, &state) == 0) return id;
  msgctl(id, IPC_RMID, nullptr);
  return -1;
}

bool PutIntoLentQueue(int id, uint32_t room, const wire::QueuedMessage& message, uint64_t time) {
  if (message.bytes.size() > room || message.priority >= abi::kLentPriorities) return false;
  const Buffer buffer = MakeBuffer(room);
  buffer->type = abi::LentType(message.priority, time);
  buffer->size = static_cast<uint32_t>(message.bytes.size());
  std::memcpy(buffer->bytes, message.bytes.data(), message.bytes.size());
  return msgsnd(id, buffer.get(), abi::LentMessageBytes(room), IPC_NOWAIT) == 0;
}

// Receivers go on meanwhile, and take the first in order. So the last one is taken first: none of them gets
// one that is behind one that is taken. Of what there is none is overlooked: as the list gets shorter at any
// place, those behind it come nearer to its beginning.
std::vector<wire::QueuedMessage> TakeLentQueue(int id, uint32_t room) {
  const uint32_t size = abi::LentMessageBytes(room);
  const Buffer buffer = MakeBuffer(room);
  std::set<int64_t, std::greater<>> types;
  for (int64_t place = CloseForSenders(id) - 1; place >= 0; --place) {
    if (msgrcv(id, buffer.get(), size, place, IPC_NOWAIT | MSG_COPY) >= 0) types.insert(buffer->type);
  }
  std::vector<wire::QueuedMessage> messages;
  for (const int64_t type : types) {
    if (msgrcv(id, buffer.get(), size, type, IPC_NOWAIT) < 0) continue;
    const uint8_t* bytes = buffer->bytes;
    messages.push_back({abi::LentPriority(type), {bytes, bytes + std::min(buffer->size, room)}});
  }
  msgctl(id, IPC_RMID, nullptr);
  std::reverse(messages.begin(), messages.end());
  return messages;
}

LentQueues::LentQueues(Agent& agent) : agent_(agent) {
  if (agent.is_home()) return;
  has_room_ = RaiseLimit("/proc/sys/kernel/msgmnb", "67108864") &&
              RaiseLimit("/proc/sys/kernel/msgmax", "131072") && CanLook();
  agent.OnMessage<wire::QueueOrder>([this](HostId, wire::QueueOrder&& order) { OnOrder(std::move(order)); });
}

void LentQueues::OnOrder(wire::QueueOrder&& order) {
  if (order.recall) return Return(order.lease);
  // On a worker without processes nobody would be there to give it back for.
  const bool refused = !processes_.empty() && !Take(order);
  if (!refused && !processes_.empty()) return;
  agent_.Send(wire::kHome, wire::QueueReturn{order.lease, refused, std::move(order.messages)});
}

bool LentQueues::Take(const wire::QueueOrder& order) {
  if (!has_room_) return false;
  const int id = MakeLentQueue(order.room, order.capacity);
  if (id < 0) return false;
  uint64_t time = TimeNow() - order.messages.size();  // before whatever is sent here
  for (const wire::QueuedMessage& message : order.messages) {
    if (PutIntoLentQueue(id, order.room, message, ++time)) continue;
    msgctl(id, IPC_RMID, nullptr);
    return false;
  }
  lent_[order.lease] = {id, order.room};
  return true;
}

void LentQueues::Return(uint64_t lease) {
  const auto found = lent_.extract(lease);
  if (found.empty()) return;  // it is on its way home
  agent_.Send(wire::kHome,
              wire::QueueReturn{lease, false, TakeLentQueue(found.mapped().id, found.mapped().room)});
}

void LentQueues::ProcessEnded(Incarnation process) {
  processes_.erase(process);
  if (!processes_.empty()) return;
  while (!lent_.empty()) Return(lent_.begin()->first);
}

bool LentQueues::Find(uint64_t lease, abi::LentQueue* queue) const {
  const auto found = lent_.find(lease);
  if (found == lent_.end()) return false;
  queue->id = found->second.id;
  queue->room = found->second.room;
  return true;
}

void LentQueues::Clear() {
  for (const auto& [lease, queue] : lent_) msgctl(queue.id, IPC_RMID, nullptr);
  lent_.clear();
}

}  // namespace elsewhere::runtime
