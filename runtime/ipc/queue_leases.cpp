#include "runtime/ipc/queue_leases.h"

#include <dirent.h>
#include <fcntl.h>
#include <mqueue.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <utility>

namespace elsewhere::runtime {
namespace {

constexpr long kQueueFileSystem = 0x19800202;  // MQUEUE_MAGIC
// What a host keeps of one, and looks through for the next message in order.
constexpr uint32_t kMostRoom = 65536;
constexpr uint32_t kMostMessages = 1024;
constexpr uint64_t kMostBytes = 16 << 20;

bool Moves(int64_t number) {
  return number == SYS_mq_timedsend || number == SYS_mq_timedreceive;
}
bool Points(const abi::KernelCall& call, int argument) {
  return (call.pointers >> argument & 1) != 0;
}
bool OnlyLooks(const abi::KernelCall& call) {
  return call.number == SYS_mq_getsetattr && !Points(call, 1);
}
// Home's kernel has to know of it from now on.
bool Stays(const abi::KernelCall& call) {
  return call.number == SYS_mq_notify || call.number == static_cast<int64_t>(abi::DeputyCall::kWatchQueue);
}

std::string PathOf(int32_t process, const char* what, int64_t descriptor) {
  return "/proc/" + std::to_string(process) + what + std::to_string(descriptor);
}

// O_ACCMODE and O_NONBLOCK of somebody's descriptor; -1: it is gone.
int32_t FlagsOf(int32_t process, int64_t descriptor) {
  std::ifstream file(PathOf(process, "/fdinfo/", descriptor));
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("flags:", 0) == 0)
      return static_cast<int32_t>(std::strtoul(line.c_str() + 6, nullptr, 8)) & (O_ACCMODE | O_NONBLOCK);
  }
  return -1;
}

bool Notifies(int queue) {
  char text[128] = "";
  if (pread(queue, text, sizeof text - 1, 0) <= 0) return true;
  const char* field = std::strstr(text, "NOTIFY_PID:");
  return field == nullptr || std::atol(field + std::strlen("NOTIFY_PID:")) != 0;
}

bool Holds(int32_t process, const struct stat& queue) {
  DIR* listing = opendir(("/proc/" + std::to_string(process) + "/fd").c_str());
  // Those of other users, which cannot have opened what is only ours.
  if (listing == nullptr) return errno == EACCES && (queue.st_mode & 077) != 0;
  bool holds = false;
  struct stat status {};
  while (const dirent* entry = holds ? nullptr : readdir(listing)) {
    holds = fstatat(dirfd(listing), entry->d_name, &status, 0) == 0 && status.st_ino == queue.st_ino &&
            status.st_dev == queue.st_dev;
  }
  closedir(listing);
  return holds;
}

// By a process that is none of ours, and so does not ask where the queue is.
bool IsHeldByOthers(const Agent& agent, const struct stat& queue) {
  DIR* listing = opendir("/proc");
  if (listing == nullptr) return true;
  bool held = false;
  while (const dirent* entry = held ? nullptr : readdir(listing)) {
    const auto pid = static_cast<int32_t>(std::atol(entry->d_name));
    if (pid > 0 && pid != getpid() && agent.FindKernelPid(pid) == nullptr) held = Holds(pid, queue);
  }
  closedir(listing);
  return held;
}

// Neither open anywhere else nor by name.
bool IsAbandoned(int queue) {
  struct stat status {};
  if (fstat(queue, &status) != 0 || status.st_nlink != 0) return false;
  // A lease that excludes writers is given to who alone has it open.
  const bool alone = fcntl(queue, F_SETLEASE, F_WRLCK) == 0;
  if (alone) fcntl(queue, F_SETLEASE, F_UNLCK);
  return alone;
}

}  // namespace

QueueLeases::QueueLeases(Agent& agent, Home home) : agent_(agent), home_(std::move(home)) {
  agent_.OnMessage<wire::QueueReturn>(
      [this](HostId from, wire::QueueReturn&& message) { OnReturn(from, std::move(message)); });
  agent_.OnMessage<wire::QueueSend>(
      [this](HostId from, wire::QueueSend&& message) { OnSend(from, std::move(message)); });
  agent_.OnMessage<wire::QueueRightEnd>([this](HostId from, wire::QueueRightEnd&& message) {
    if (Queue* queue = FindRight(from, message.right)) RightEnded(*queue);
  });
  agent_.OnCall(abi::Operation::kQueueHome, [this](CallId id, const Call& call) { OnHomeCall(id, call); });
}

QueueLeases::~QueueLeases() {
  if (inotify_) agent_.loop().Remove(inotify_.get());
  for (const auto& [inode, queue] : queues_) {
    if (queue->descriptor) agent_.loop().Remove(queue->descriptor.get());
  }
}

QueueLeases::Queue* QueueLeases::Find(int32_t deputy, int64_t descriptor) {
  const std::string path = PathOf(deputy, "/fd/", descriptor);
  struct stat status {};
  if (stat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) return nullptr;
  if (device_ == 0) {
    struct statfs system {};
    if (statfs(path.c_str(), &system) == 0 && system.f_type == kQueueFileSystem) device_ = status.st_dev;
  }
  if (status.st_dev != device_) return nullptr;
  std::unique_ptr<Queue>& queue = queues_[status.st_ino];
  if (queue == nullptr) queue = std::make_unique<Queue>();
  queue->inode = status.st_ino;
  return queue.get();
}

abi::QueueCell* QueueLeases::CellOf(uint64_t inode) {
  return abi::FindQueueCell(&agent_.table(), inode);
}

void QueueLeases::Used(Queue& queue, HostId from, int64_t number) {
  const abi::QueueCell* cell = CellOf(queue.inode);
  const uint32_t home_uses = cell == nullptr ? 0 : cell->uses.load();
  if (std::exchange(queue.home_uses, home_uses) != home_uses) queue.history.Used(wire::kHome);
  if (std::exchange(queue.user, from) != from) queue.sent = queue.received = false;
  (number == SYS_mq_timedsend ? queue.sent : queue.received) = true;
  queue.history.Used(from);
}

void QueueLeases::Pin(Queue& queue) {
  if (abi::QueueCell* cell = CellOf(queue.inode); cell != nullptr) cell->state.fetch_or(abi::kQueuePinned);
}

bool QueueLeases::IsThere(const Queue& queue, HostId from, const abi::KernelCall& what) const {
  return queue.state == State::kThere && queue.host == from &&
         (OnlyLooks(what) || (Moves(what.number) && what.waits == 0));
}

QueueLeases::Where QueueLeases::Ask(HostId from, int32_t deputy, uint64_t call,
                                    const wire::KernelCall& message, const abi::KernelCall& what,
                                    abi::LentQueue* there) {
  const bool moves = Moves(what.number);
  if (!moves && !Stays(what) && what.number != SYS_mq_getsetattr && what.number != SYS_read)
    return Where::kHere;
  Queue* queue = Find(deputy, what.arguments[0]);
  if (queue == nullptr) return Where::kHere;
  if (IsThere(*queue, from, what)) {
    there->lease = queue->lease;
    there->flags = FlagsOf(deputy, what.arguments[0]);
    if (there->flags >= 0) return Where::kThere;
  }
  if (Stays(what)) Pin(*queue);
  const bool sends = what.number == SYS_mq_timedsend;
  if (moves && queue->state == State::kHere) Used(*queue, from, what.number);
  if (sends && queue->state == State::kHere) SentBy(*queue, from);
  const bool others_right = queue->right_host != wire::kHome && queue->right_host != from;
  if ((sends && others_right) || (Stays(what) && queue->right_host != wire::kHome)) {
    queue->held.push_back({from, message});
    EndRight(*queue);
    return Where::kHeld;
  }
  if (moves && what.waits == 0 && Begin(*queue, from, PathOf(deputy, "/fd/", what.arguments[0]))) {
    queue->held.push_back({from, message});
    if (queue->pending.empty()) Lend(*queue);
    return Where::kHeld;
  }
  if (queue->state == State::kHere) {
    queue->pending[call] = {from, deputy, what.arguments[0], sends, !moves || Points(what, 4)};
    calls_[call] = queue->inode;
    return Where::kHere;
  }
  queue->held.push_back({from, message});
  // Calls of its host need not call the lending off.
  if (queue->state != State::kClearing || queue->host != from || !moves || what.waits != 0) Fetch(*queue);
  return Where::kHeld;
}

// ---- Lending

bool QueueLeases::Open(Queue& queue, const std::string& path) {
  if (queue.descriptor) return true;
  store::UniqueFd opened(open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));
  mq_attr attributes{};
  if (!opened || mq_getattr(opened.get(), &attributes) != 0) return false;
  queue.room = static_cast<uint32_t>(std::clamp(attributes.mq_msgsize, 0L, long{kMostRoom} + 1));
  queue.capacity = static_cast<uint32_t>(std::clamp(attributes.mq_maxmsg, 0L, long{kMostMessages} + 1));
  if (queue.room > kMostRoom || queue.capacity > kMostMessages ||
      uint64_t{queue.capacity} * abi::LentMessageBytes(queue.room) > kMostBytes)
    return false;
  queue.descriptor = std::move(opened);
  return true;
}

// From here on we hear of whoever opens it; we have.
bool QueueLeases::IsAlone(Queue& queue, const std::string& path) {
  if (!inotify_) {
    inotify_.Reset(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
    if (!inotify_ || !agent_.loop().Add(inotify_.get(), EPOLLIN, [this](uint32_t) { ReadInotify(); }))
      return false;
  }
  ReadInotify();
  if (queue.watch < 0) {
    queue.watch = inotify_add_watch(inotify_.get(), path.c_str(), IN_OPEN);
    if (queue.watch < 0) return false;
    watches_[queue.watch] = queue.inode;
    queue.alone = false;
  }
  struct stat status {};
  if (!queue.alone) queue.alone = stat(path.c_str(), &status) == 0 && !IsHeldByOthers(agent_, status);
  return queue.alone;
}

// Processes at home look at the mark behind their own: none of them is inside, and those to come ask.
bool QueueLeases::Mark(Queue& queue, uint32_t mark, std::atomic<uint32_t> abi::QueueCell::*inside) {
  abi::QueueCell* cell = CellOf(queue.inode);
  if (cell == nullptr || agent_.table().header.queues_stay.load() != 0) return false;
  const bool pinned = (cell->state.fetch_or(mark) & abi::kQueuePinned) != 0;
  if (!pinned && (cell->*inside).load() == 0) return true;
  cell->state.fetch_and(~mark);
  return false;
}

bool QueueLeases::Begin(Queue& queue, HostId to, const std::string& path) {
  if (queue.state != State::kHere || !queue.history.Deserves(to) || !queue.sent || !queue.received)
    return false;
  if (queue.right_host != wire::kHome) return EndRight(queue), false;  // the next call may find it ended
  for (const auto& [id, pending] : queue.pending) {
    if (pending.from != to || pending.limited || home_.is_stopped(pending.deputy)) return false;
  }
  const bool lendable = Open(queue, path) && IsAlone(queue, path) && !Notifies(queue.descriptor.get());
  if (!lendable || !Mark(queue, abi::kQueueAway, &abi::QueueCell::inside)) {
    queue.history.NotNow();
    return false;
  }
  queue.state = State::kClearing;
  queue.host = to;
  for (auto& [id, pending] : queue.pending) {
    pending.called_off = true;
    home_.call_off(id);
  }
  return true;
}

void QueueLeases::Lend(Queue& queue) {
  wire::QueueOrder order;
  order.lease = queue.lease = ++last_lease_;
  order.room = queue.room;
  order.capacity = queue.capacity;
  std::vector<char> buffer(queue.room);
  for (;;) {
    unsigned priority = 0;
    const ssize_t size = mq_receive(queue.descriptor.get(), buffer.data(), buffer.size(), &priority);
    if (size < 0) break;
    order.messages.push_back({priority, std::vector<uint8_t>(buffer.begin(), buffer.begin() + size)});
  }
  queue.state = State::kThere;
  queue.history.Began();
  agent_.Send(queue.host, order);
  for (Held& held : std::exchange(queue.held, {})) home_.ask(held.from, std::move(held.message));
}

// ---- Having it back

void QueueLeases::Fetch(Queue& queue) {
  EndRight(queue);
  if (queue.state == State::kClearing) {
    queue.history.NotNow();
    return Arrived(queue);
  }
  if (queue.state != State::kThere) return;
  queue.state = State::kRecalled;
  wire::QueueOrder order;
  order.lease = queue.lease;
  order.recall = true;
  agent_.Send(queue.host, order);
}

void QueueLeases::OnReturn(HostId from, wire::QueueReturn&& message) {
  const auto found = std::find_if(queues_.begin(), queues_.end(), [&](const auto& item) {
    const Queue& queue = *item.second;
    return queue.lease == message.lease && queue.host == from &&
           (queue.state == State::kThere || queue.state == State::kRecalled);
  });
  if (found == queues_.end()) return;  // of a queue that was abandoned
  Queue& queue = *found->second;
  if (message.refused) {
    queue.history.Refused();
  } else {
    queue.history.Ended(queue.state == State::kRecalled);
  }
  queue.state = State::kReturning;
  queue.back.assign(std::make_move_iterator(message.messages.begin()),
                    std::make_move_iterator(message.messages.end()));
  PutBack(queue);
}

// There is room for all, unless somebody sent who was not known to have it.
void QueueLeases::PutBack(Queue& queue) {
  const int descriptor = queue.descriptor.get();
  for (; !queue.back.empty(); queue.back.pop_front()) {
    const wire::QueuedMessage& message = queue.back.front();
    if (mq_send(descriptor, reinterpret_cast<const char*>(message.bytes.data()), message.bytes.size(),
                message.priority) == 0)
      continue;
    if (errno != EAGAIN)
      return agent_.Fatal(std::string("a message cannot go back into its queue: ") + std::strerror(errno));
    // Where it waits already this is an error, and right.
    (void)agent_.loop().Add(descriptor, EPOLLOUT, [this, inode = queue.inode](uint32_t) {
      if (const auto found = queues_.find(inode); found != queues_.end()) PutBack(*found->second);
    });
    return;
  }
  agent_.loop().Remove(descriptor);
  if (queue.state == State::kReturning) Arrived(queue);
}

void QueueLeases::Arrived(Queue& queue) {
  queue.state = State::kHere;
  queue.sent = queue.received = false;
  if (abi::QueueCell* cell = CellOf(queue.inode); cell != nullptr) cell->state.fetch_and(~abi::kQueueAway);
  AskHeld(queue);
}

void QueueLeases::AskHeld(Queue& queue) {
  const auto waiting = std::exchange(queue.waiting, {});
  auto held = std::exchange(queue.held, {});
  for (const auto& then : waiting) then();
  for (Held& each : held) home_.ask(each.from, std::move(each.message));
}

bool QueueLeases::WaitUntilHere(int32_t deputy, int64_t descriptor, std::function<void()> then) {
  Queue* queue = Find(deputy, descriptor);
  if (queue == nullptr || queue->state == State::kHere) return false;
  queue->waiting.push_back(std::move(then));
  Fetch(*queue);
  return true;
}

void QueueLeases::OnHomeCall(CallId id, const Call& call) {
  const auto found = queues_.find(static_cast<uint64_t>(call.arguments[0]));
  if (found == queues_.end() ||
      (found->second->state == State::kHere && found->second->right_host == wire::kHome))
    return agent_.Complete(id, 0);
  found->second->waiting.push_back([this, id] { agent_.Complete(id, 0); });
  Fetch(*found->second);
}

// Nobody knows which.
void QueueLeases::SomebodyOpened() {
  std::vector<Queue*> all;
  for (const auto& [inode, queue] : queues_) all.push_back(queue.get());
  for (Queue* queue : all) {
    queue->alone = false;
    Fetch(*queue);
  }
}

void QueueLeases::ReadInotify() {
  alignas(inotify_event) char events[4096];
  for (;;) {
    const ssize_t size = read(inotify_.get(), events, sizeof events);
    if (size <= 0) return;
    for (ssize_t at = 0; at < size;) {
      inotify_event event{};
      std::memcpy(&event, events + at, sizeof event);
      at += static_cast<ssize_t>(sizeof event + event.len);
      if ((event.mask & IN_Q_OVERFLOW) != 0) SomebodyOpened();
      const auto watched = watches_.find(event.wd);
      if (watched == watches_.end()) continue;
      const auto found = queues_.find(watched->second);
      if ((event.mask & IN_IGNORED) != 0) {
        watches_.erase(watched);
        if (found == queues_.end()) continue;
        found->second->watch = -1;
        if (found->second->state == State::kHere && found->second->pending.empty() &&
            !found->second->descriptor)
          queues_.erase(found);
        continue;
      }
      if (found == queues_.end()) continue;
      Queue& queue = *found->second;
      queue.alone = false;
      Fetch(queue);
    }
  }
}

// ---- Calls and processes that end

bool QueueLeases::MayNotify(uint64_t call) {
  const auto of = calls_.find(call);
  const auto found = of == calls_.end() ? queues_.end() : queues_.find(of->second);
  if (found == queues_.end()) return true;
  Queue& queue = *found->second;
  const Pending& pending = queue.pending[call];
  return !Open(queue, PathOf(pending.deputy, "/fd/", pending.descriptor)) || Notifies(queue.descriptor.get());
}

bool QueueLeases::Ended(uint64_t call, int64_t result) {
  const auto of = calls_.extract(call);
  if (of.empty()) return false;
  const auto found = queues_.find(of.mapped());
  if (found == queues_.end()) return false;
  Queue& queue = *found->second;
  const auto pending = queue.pending.extract(call);
  if (pending.empty()) return false;
  const Pending& was = pending.mapped();
  if (queue.state == State::kClearing && queue.pending.empty()) Lend(queue);
  return was.called_off && !was.interrupted && result == -EINTR;
}

void QueueLeases::Interrupted(uint64_t call) {
  const auto of = calls_.find(call);
  if (of == calls_.end()) return;
  const auto found = queues_.find(of->second);
  if (found == queues_.end()) return;
  if (const auto pending = found->second->pending.find(call); pending != found->second->pending.end())
    pending->second.interrupted = true;
}

bool QueueLeases::Withdraw(HostId from, uint64_t id) {
  for (const auto& [inode, queue] : queues_) {
    const auto held = std::find_if(queue->held.begin(), queue->held.end(), [&](const Held& each) {
      return each.from == from && each.message.id == id;
    });
    if (held == queue->held.end()) continue;
    queue->held.erase(held);
    return true;
  }
  return false;
}

void QueueLeases::DeputyStopped(int32_t deputy) {
  std::vector<Queue*> stuck;
  for (const auto& [inode, queue] : queues_) {
    const bool waits = std::any_of(queue->pending.begin(), queue->pending.end(),
                                   [deputy](const auto& item) { return item.second.deputy == deputy; });
    if (queue->state == State::kClearing && waits) stuck.push_back(queue.get());
  }
  for (Queue* queue : stuck) Fetch(*queue);
}

void QueueLeases::ProcessGone(Incarnation process) {
  for (const auto& [inode, queue] : queues_) {
    std::erase_if(queue->held, [process](const Held& each) { return each.message.incarnation == process; });
  }
}

void QueueLeases::HostGone(HostId host) {
  std::vector<Queue*> without;
  for (const auto& [inode, queue] : queues_) {
    const bool there = queue->state == State::kThere || queue->state == State::kRecalled;
    if (there && queue->host == host && !agent_.ending())
      return agent_.Fatal("a worker is lost that had the messages of a queue");
    if (queue->right_host == host) without.push_back(queue.get());
  }
  for (Queue* queue : without) RightEnded(*queue);
}

void QueueLeases::LookForAbandoned() {
  for (auto at = queues_.begin(); at != queues_.end();) {
    Queue& queue = *at->second;
    const bool settled = queue.state == State::kThere || queue.state == State::kHere;
    const bool abandoned =
        settled && queue.descriptor && queue.pending.empty() && IsAbandoned(queue.descriptor.get());
    if (abandoned) Fetch(queue);  // nobody waits for what comes
    if (abandoned) std::erase(rights_, queue.inode);
    at = abandoned ? queues_.erase(at) : std::next(at);
  }
}

}  // namespace elsewhere::runtime
