#include "runtime/stream/moved_pipe.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "runtime/stream/origin_call.h"
#include "shim/wire/stream_call.h"

namespace elsewhere::runtime::stream {
namespace {

constexpr size_t kAhead = 64 << 10;

}  // namespace

std::vector<uint8_t> FirstBytes::Take(size_t most) {
  const auto end = bytes.begin() + static_cast<ptrdiff_t>(std::min(most, bytes.size()));
  std::vector<uint8_t> taken(bytes.begin(), end);
  bytes.erase(bytes.begin(), end);
  return taken;
}

void FirstBytes::Put(std::span<const uint8_t> more) {
  bytes.insert(bytes.begin(), more.begin(), more.end());
  if (bytes.empty() || awaited) return;
  for (const auto& each : on_more) each();
}

MovedPipe::MovedPipe(Agent& agent, wire::StreamId name, const ObjectId& stand_in, Descriptor pipe,
                     Descriptor read_end, std::vector<uint8_t> untaken, std::function<void(MovedPipe&)> gone)
    : agent_(agent),
      name_(name),
      pipe_(std::move(pipe)),
      read_end_(std::move(read_end)),
      untaken_(std::move(untaken)),
      gone_(std::move(gone)),
      stand_in_id_(stand_in) {}

MovedPipe::~MovedPipe() {
  Unregister();
  if (listens_) agent_.loop().Remove(pipe_.get());
}

void MovedPipe::PutBack(std::span<const uint8_t> returned) {
  if (awaited()) {
    returned_.insert(returned_.begin(), returned.begin(), returned.end());
  } else {
    first_->Put(returned);
  }
}

void MovedPipe::Open(std::unique_ptr<LocalObject> stand_in, const std::vector<Request>& requests,
                     const wire::StreamMoved& moved) {
  stand_in_ = std::move(stand_in);
  fcntl(read_end_.get(), F_SETFL, moved.status_flags & O_NONBLOCK);
  if (fcntl(read_end_.get(), F_GETPIPE_SZ) != moved.capacity)
    fcntl(read_end_.get(), F_SETPIPE_SZ, moved.capacity);  // what it holds already may be more
  first_->bytes = std::exchange(returned_, {});
  for (std::vector<uint8_t>* each : {&home_, &untaken_}) {
    first_->bytes.insert(first_->bytes.end(), each->begin(), each->end());
    each->clear();
  }
  first_->awaited = false;
  if (first_.use_count() > 1) ShareFirst();
  for (const auto& each : first_->on_more) each();
  if (stand_in_ == nullptr) return gone_(*this);
  Register();
  for (const Request& request : requests) Ask(request);
  for (const Request& request : std::exchange(waiting_, {})) {
    request.bytes == 0 ? Watch(request, !request.wait) : Ask(request);
  }
  for (const auto& [call, control] : std::exchange(controls_, {})) Control(call, control);
}

bool MovedPipe::Abandon() {
  for (const Request& request : std::exchange(waiting_, {})) agent_.Complete(request.call, -1, EBADF);
  for (const auto& [call, control] : std::exchange(controls_, {})) agent_.Complete(call, -1, EBADF);
  return first_.use_count() == 1;
}

// ---- Reading

void MovedPipe::Ask(const Request& request) {
  if (awaited()) return waiting_.push_back(request);
  Hide();
  Serve(request);
  if (watched()) Show();
}

void MovedPipe::Serve(const Request& request) {
  if (const size_t unread = stand_in_->Unread(); unread > 0) {
    agent_.Complete(request.call, static_cast<int64_t>(unread));
  } else if (!first_->bytes.empty()) {
    // All that have the stand-in are here: more than was asked for is nobody's loss.
    const size_t wanted = std::max<size_t>(request.bytes, first_.use_count() == 1 ? kAhead : 1);
    Give(request, first_->Take(std::max<size_t>(stand_in_->RoomFor(wanted), 1)));
  } else if (!request.stays) {
    HandOver(request);
  } else {
    carried_.push_back(request);
    Carry();
  }
}

// There is room for them.
void MovedPipe::Give(const Request& request, std::span<const uint8_t> bytes) {
  const auto given = stand_in_->Give(bytes);
  const size_t taken = given ? *given : 0;
  first_->Put(bytes.subspan(taken));
  if (taken == 0) return agent_.Complete(request.call, -1, EBADF);  // its reader is gone
  agent_.Complete(request.call, static_cast<int64_t>(taken));
}

void MovedPipe::HandOver(const Request& request) {
  auto copy = Open();
  if (!copy) return agent_.Complete(request.call, -1, copy.error().code);
  const wire::MovedPipe moved{agent_.Offer(store::UniqueFd(copy->Release()), request.call),
                              stand_in_id_.device, stand_in_id_.inode};
  agent_.Complete(request.call, -1, wire::kPipeHasMoved,
                  std::span(reinterpret_cast<const uint8_t*>(&moved), sizeof moved));
}

void MovedPipe::Carry() {
  while (!carried_.empty()) {
    const Request request = carried_.front();
    std::vector<uint8_t> bytes(std::max<size_t>(stand_in_->RoomFor(request.bytes), 1));
    const ssize_t got = read(pipe_.get(), bytes.data(), bytes.size());
    const int error = errno;
    if (got < 0 && error == EINTR) continue;
    const bool waits = request.wait && (fcntl(read_end_.get(), F_GETFL) & O_NONBLOCK) == 0;
    if (got < 0 && error == EAGAIN && waits) break;
    carried_.pop_front();
    if (got > 0) {
      bytes.resize(static_cast<size_t>(got));
      Give(request, bytes);
      continue;
    }
    if (got == 0) Show();  // a read of the stand-in must see the end
    agent_.Complete(request.call, got == 0 ? 0 : -1, got == 0 ? 0 : error);
  }
  Listen();
}

void MovedPipe::Listen() {
  const bool wanted = !carried_.empty() || wants_readiness_;
  if (listens_ == wanted) return;
  listens_ = wanted;
  if (!wanted) return agent_.loop().Remove(pipe_.get());
  listens_ = agent_.loop()
                 .Add(pipe_.get(), EPOLLIN,
                      [this](uint32_t) {
                        wants_readiness_ = false;
                        Hide();
                        Carry();
                        if (watched()) Show();
                      })
                 .ok();
}

// A reader was interrupted before it looked.
void MovedPipe::GiveBack() {
  if (awaited() || stand_in_ == nullptr) return;
  Hide();
  first_->Put(stand_in_->TakeUnread());
  if (watched()) Show();
}

const std::shared_ptr<FirstBytes>& MovedPipe::ShareFirst() {
  GiveBack();
  return first_;
}

void MovedPipe::End(CallId call, bool answer) {
  for (auto* calls : {&waiting_, &carried_}) {
    const size_t before = calls->size();
    std::erase_if(*calls, [call](const Request& request) { return request.call == call; });
    if (calls->size() == before) continue;
    if (answer) agent_.Complete(call, -1, EINTR);
    Listen();
  }
}

// ---- Watching

// As long as the agent has its end of the stand-in.
short MovedPipe::Readiness(const Request& request) const {
  if (stand_in_->Unread() > 0 || !first_->bytes.empty()) return POLLIN;
  return request.stays ? static_cast<short>(PollNow(pipe_.get(), POLLIN)) : short{0};
}

void MovedPipe::Watch(const Request& request, bool until_closed) {
  if (awaited()) {
    waiting_.push_back(request);
    waiting_.back().bytes = 0;
    waiting_.back().wait = !until_closed;
    return;
  }
  Hide();
  const short readiness = Readiness(request);
  if (readiness == 0 && !request.stays) {
    HandOver(request);
  } else {
    if (until_closed) {
      until_closed_.insert(request.process);
    } else {
      ++once_[request.process];
    }
    wants_readiness_ |= readiness == 0;
    agent_.Complete(request.call, readiness);
  }
  if (watched() && !wants_readiness_) Show();
  Listen();
}

void MovedPipe::EndWatch(const Request& request, bool until_closed, bool query) {
  if (awaited()) return agent_.Complete(request.call, 0);
  const auto once = once_.find(request.process);
  if (!query && until_closed) until_closed_.erase(request.process);
  if (!query && !until_closed && once != once_.end() && --once->second <= 0) once_.erase(once);
  Hide();
  const short readiness = Readiness(request);
  const bool leaves = readiness == 0 && !request.stays && (query || !until_closed);
  leaves ? HandOver(request) : agent_.Complete(request.call, readiness);
  wants_readiness_ = watched() && wants_readiness_;
  if (watched() && !wants_readiness_) Show();
  Listen();
}

void MovedPipe::ProcessGone(int32_t process) {
  if (awaited()) return;
  once_.erase(process);
  until_closed_.erase(process);
  if (!stand_in_->shows_readable()) return;
  Hide();  // whether any process has it is seen by an event, which needs the agent's end
  if (watched() && (PollNow(stand_in_->agent_end(), 0) & POLLERR) == 0) Show();
}

void MovedPipe::LookForHolders() {
  if (awaited()) return;
  const bool shown = stand_in_->shows_readable();
  Hide();  // the agent's end is needed to see it
  if ((PollNow(stand_in_->agent_end(), 0) & POLLERR) != 0) {
    first_->Put(stand_in_->TakeUnread());  // for readers elsewhere, if there are any
    if (std::exchange(listens_, false)) agent_.loop().Remove(pipe_.get());
    pipe_ = Descriptor();
    read_end_ = Descriptor();
    return gone_(*this);
  }
  if (shown) Show();
}

void MovedPipe::Show() {
  if (stand_in_->shows_readable()) return;
  Unregister();
  stand_in_->ShowReadable();
}

void MovedPipe::Hide() {
  if (stand_in_->shows_readable() && stand_in_->HideReadable()) Register();
}

void MovedPipe::Register() {
  if (registered_) return;
  registered_ = agent_.loop().Add(stand_in_->agent_end(), 0, [this](uint32_t) { LookForHolders(); }).ok();
}

void MovedPipe::Unregister() {
  if (std::exchange(registered_, false)) agent_.loop().Remove(stand_in_->agent_end());
}

// ---- Calls on the pipe

void MovedPipe::Control(CallId call, const wire::StreamControl& control) {
  if (awaited()) return controls_.emplace_back(call, control), void();
  if (control.operation == wire::StreamOperation::kAvailable) {
    const size_t there = first_->bytes.size() + BytesWaiting(read_end_.get());
    return agent_.Complete(call, static_cast<int64_t>(there));
  }
  if (control.operation != wire::StreamOperation::kCall) return agent_.Complete(call, -1, ENOTTY);
  RunCall(agent_.loop(), read_end_.get(), control,
          [&agent = agent_, call](const wire::StreamControlled& answer) {
            agent.Complete(call, answer.result, answer.error, answer.payload);
          });
}

}  // namespace elsewhere::runtime::stream
