#include "runtime/event_loop.h"

#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <system_error>

namespace elsewhere::runtime {
namespace {

// An event carries the generation of its watch beside the descriptor: a number that was closed and opened
// again within one round must not receive the old one's event.
uint64_t Tag(int descriptor, uint32_t generation) {
  return (static_cast<uint64_t>(generation) << 32) | static_cast<uint32_t>(descriptor);
}

Error SystemError(const char* what) {
  const int code = errno;
  return Error{code, std::string(what) + ": " + std::generic_category().message(code)};
}

}  // namespace

Result<std::unique_ptr<EventLoop>> EventLoop::Create() {
  std::unique_ptr<EventLoop> loop(new EventLoop);
  sigemptyset(&loop->signal_set_);
  loop->epoll_ = epoll_create1(EPOLL_CLOEXEC);
  if (loop->epoll_ < 0) return SystemError("epoll_create1");
  loop->timer_ = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  if (loop->timer_ < 0) return SystemError("timerfd_create");
  loop->posted_event_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (loop->posted_event_ < 0) return SystemError("eventfd");
  EventLoop* self = loop.get();
  if (auto added = loop->Add(loop->timer_, EPOLLIN, [self](uint32_t) { self->RunTimers(); }); !added) {
    return added.error();
  }
  if (auto added = loop->Add(loop->posted_event_, EPOLLIN, [self](uint32_t) { self->TakePosted(); });
      !added) {
    return added.error();
  }
  return loop;
}

EventLoop::~EventLoop() {
  for (int descriptor : {epoll_, timer_, signals_, posted_event_}) {
    if (descriptor >= 0) close(descriptor);
  }
}

Status EventLoop::Add(int descriptor, uint32_t events, Ready ready) {
  const uint32_t generation = next_generation_++;
  epoll_event event{};
  event.events = events;
  event.data.u64 = Tag(descriptor, generation);
  if (epoll_ctl(epoll_, EPOLL_CTL_ADD, descriptor, &event) != 0) return SystemError("epoll_ctl");
  watches_[descriptor] = Watch{generation, std::make_shared<Ready>(std::move(ready))};
  return Ok{};
}

void EventLoop::Modify(int descriptor, uint32_t events) {
  auto watch = watches_.find(descriptor);
  if (watch == watches_.end()) return;
  epoll_event event{};
  event.events = events;
  event.data.u64 = Tag(descriptor, watch->second.generation);
  epoll_ctl(epoll_, EPOLL_CTL_MOD, descriptor, &event);
}

void EventLoop::Remove(int descriptor) {
  if (watches_.erase(descriptor) == 0) return;
  epoll_ctl(epoll_, EPOLL_CTL_DEL, descriptor, nullptr);
}

EventLoop::TimerId EventLoop::After(std::chrono::nanoseconds delay, Action action) {
  const TimerId id = next_timer_++;
  const auto deadline = std::chrono::steady_clock::now() + delay;
  deadlines_[id] = deadline;
  const auto place = timers_.emplace(std::pair{deadline, id}, std::move(action)).first;
  if (place == timers_.begin()) ArmTimer();
  return id;
}

void EventLoop::Cancel(TimerId timer) {
  const auto deadline = deadlines_.find(timer);
  if (deadline == deadlines_.end()) return;
  timers_.erase({deadline->second, timer});
  deadlines_.erase(deadline);
}

void EventLoop::ArmTimer() {
  itimerspec when{};
  if (!timers_.empty()) {
    const auto since_epoch = std::max<int64_t>(1, std::chrono::duration_cast<std::chrono::nanoseconds>(
                                                      timers_.begin()->first.first.time_since_epoch())
                                                      .count());
    when.it_value.tv_sec = since_epoch / 1'000'000'000;
    when.it_value.tv_nsec = since_epoch % 1'000'000'000;
  }
  timerfd_settime(timer_, TFD_TIMER_ABSTIME, &when, nullptr);
}

void EventLoop::RunTimers() {
  uint64_t expirations;
  const struct ArmAtEnd {  // also when a callback throws
    EventLoop& loop;
    ~ArmAtEnd() { loop.ArmTimer(); }
  } arm{*this};
  (void)!read(timer_, &expirations, sizeof expirations);
  const auto now = std::chrono::steady_clock::now();
  while (!timers_.empty() && timers_.begin()->first.first <= now) {
    auto node = timers_.extract(timers_.begin());
    deadlines_.erase(node.key().second);
    node.mapped()();
  }
}

void EventLoop::Defer(Action action) {
  deferred_.push_back(std::move(action));
}

void EventLoop::Post(Action action) {
  {
    const std::lock_guard lock(posted_mutex_);
    posted_.push_back(std::move(action));
  }
  const uint64_t one = 1;
  (void)!write(posted_event_, &one, sizeof one);
}

void EventLoop::TakePosted() {
  uint64_t count;
  (void)!read(posted_event_, &count, sizeof count);
  std::vector<Action> actions;
  {
    const std::lock_guard lock(posted_mutex_);
    actions.swap(posted_);
  }
  for (auto& action : actions) action();
}

Status EventLoop::OnSignal(int signal, SignalAction action) {
  sigaddset(&signal_set_, signal);
  if (sigprocmask(SIG_BLOCK, &signal_set_, nullptr) != 0) return SystemError("sigprocmask");
  const int descriptor = signalfd(signals_, &signal_set_, SFD_CLOEXEC | SFD_NONBLOCK);
  if (descriptor < 0) return SystemError("signalfd");
  signal_actions_[signal] = std::move(action);
  if (signals_ >= 0) return Ok{};
  signals_ = descriptor;
  return Add(signals_, EPOLLIN, [this](uint32_t) { ReadSignals(); });
}

void EventLoop::ReadSignals() {
  signalfd_siginfo info;
  while (read(signals_, &info, sizeof info) == sizeof info) {
    const auto action = signal_actions_.find(static_cast<int>(info.ssi_signo));
    if (action != signal_actions_.end()) action->second(info);
  }
}

void EventLoop::RunDeferred() {
  while (!deferred_.empty()) {
    std::vector<Action> actions;
    actions.swap(deferred_);
    for (auto& action : actions) action();
  }
}

int EventLoop::Fetch(Events& events, bool sleeps) const {
  return epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), sleeps ? -1 : 0);
}

void EventLoop::Run() {
  running_ = true;
  Events events;
  while (running_) {
    RunDeferred();
    if (!running_) break;
    int count = 0;
    linger_.Until([&] { return has_come_() || (count = Fetch(events, false)) > 0; });
    const bool sleeps = count <= 0 && falls_asleep_();
    if (count <= 0) count = Fetch(events, sleeps);
    linger_.WaitEnded();
    wakes_();
    for (int i = 0; i < count; ++i) {
      const uint64_t tag = events[static_cast<size_t>(i)].data.u64;
      const auto watch = watches_.find(static_cast<int>(tag & 0xffffffffU));
      if (watch == watches_.end() || watch->second.generation != static_cast<uint32_t>(tag >> 32)) continue;
      const std::shared_ptr<Ready> ready = watch->second.ready;  // survives its own removal
      (*ready)(events[static_cast<size_t>(i)].events);
    }
    if (!sleeps) stays_awake_();
  }
}

void EventLoop::Run(const std::function<void(const std::string&)>& failed) {
  for (bool again = true; again;) {
    again = false;
    try {
      Run();
    } catch (const std::system_error& error) {
      failed(std::string("a thread cannot be started: ") + std::strerror(error.code().value()));
      again = running_;
    }
  }
}

void EventLoop::Stop() {
  running_ = false;
}

}  // namespace elsewhere::runtime
