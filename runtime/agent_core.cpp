#include "runtime/agent_core.h"

#include <spdlog/spdlog.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "shim/broker/session_keys.h"

namespace elsewhere::runtime {
namespace {

constexpr char kMessageContext[] = "message";
constexpr std::chrono::seconds kLongestSilence{30};
// Messages that could wait do so for this many times what goes before them took, unless that is as short as
// this: for the larger number as long as nobody notices, so that most go with others.
constexpr int kFirstShare = 8, kSmallFirstShare = 49;
constexpr std::chrono::microseconds kShortFirst{100};
constexpr std::chrono::milliseconds kUnnoticed{50};
// What a process that ends closes is seen before its end is, of which a message tells anyway.
constexpr std::chrono::microseconds kUntilEnded{300};

std::span<const uint8_t> BytesOf(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

}  // namespace

AgentCore::AgentCore(const Options& options, store::SessionKey key)
    : options_(options), layout_(options.directory), keys_(options.session), key_(std::move(key)) {}

Result<std::unique_ptr<AgentCore>> AgentCore::Create(const Options& options, store::SessionKey key) {
  std::unique_ptr<AgentCore> core(new AgentCore(options, std::move(key)));
  AgentCore* self = core.get();
  auto loop = EventLoop::Create();
  if (!loop) return loop.error();
  core->loop_ = std::move(*loop);
  auto calls = CallTable::Create({.session = options.session,
                                  .host = options.host,
                                  .agent_socket = self->layout_.AgentSocket(options.host),
                                  .fork_remote = options.fork_remote,
                                  .count_objects = options.count_objects});
  if (!calls) return calls.error();
  core->calls_ = std::move(*calls);
  if (options.count_objects) core->object_counts_ = std::make_unique<ObjectCounts>(core->calls_->table());
  core->calls_->SetCancelled([self](CallId id) {
    for (auto& component : self->components_) component->CallCancelled(id);
  });
  core->calls_->SetDropped([self](CallId id) {
    for (auto& component : self->components_) component->CallDropped(id);
  });
  core->calls_->SetIncarnationOf([self](int32_t pid) {
    const Process* process = self->FindKernelPid(pid);
    return process == nullptr ? Incarnation{0} : process->incarnation;
  });
  core->connections_ = std::make_unique<Connections>(
      *core->loop_,
      [self](ConnectionId id, Connections::Packet packet) {
        const auto receiver = self->packet_receivers_.find(packet.type);
        if (receiver != self->packet_receivers_.end()) return receiver->second(id, packet.bytes);
        if (packet.is_cut && packet.type != abi::Packet::kCapture) return self->Fatal(self->room_.NoMore());
        self->on_packet_(id, std::move(packet));
      },
      [self](ConnectionId id) { self->on_closed_(id); }, [self] { self->Fatal(self->room_.NoMore()); });
  if (auto added =
          core->loop_->Add(core->calls_->doorbell(), EPOLLIN, [self](uint32_t) { self->calls_->Rung(); });
      !added) {
    return added.error();
  }
  core->loop_->OnSleep([self] { return self->calls_->HasCalls(); },
                       [self] { return self->calls_->FallAsleep(); }, [self] { self->calls_->WakeUp(); },
                       [self] { self->calls_->TakeCalls(); });
  return core;
}

AgentCore::~AgentCore() {
  components_.clear();
  for (auto& [pid, entry] : by_kernel_pid_) {
    if (entry->process.pidfd >= 0) close(entry->process.pidfd);
  }
}

Status AgentCore::Join(const broker::RedisUrl& url, const std::string& secret,
                       std::chrono::milliseconds patience, bool with_inbox) {
  const auto lost = [this](const Error& error) { Fatal(error.message); };
  broker::ConnectionOptions options{.url = url,
                                    .patience = patience,
                                    .marker_key = secret.empty() ? "" : keys_.marker(),
                                    .marker_value = secret,
                                    .scripts = {}};
  if (with_inbox) {
    auto inbox = broker::InboxReader::Open(
        options, keys_, host(), [this](const broker::InboxReader::Message& message) { OpenMessage(message); },
        lost);
    if (!inbox) return inbox.error();
    inbox_ = std::move(*inbox);
    if (auto added = loop_->Add(inbox_->fd(), EPOLLIN, [this](uint32_t) { inbox_->OnReadable(); }); !added) {
      return added;
    }
  }
  options.scripts = broker::SessionScripts();
  options.silence = kLongestSilence;
  auto commands = broker::RedisConnection::Open(options, lost);
  if (!commands) return commands.error();
  commands_ = std::move(*commands);
  if (with_inbox) {
    sender_ =
        std::make_unique<broker::InboxSender>(*commands_, keys_, host(), [this](HostId to, const Error& why) {
          // The inboxes go with the session, and not before it.
          if (why.code == EPIPE && ending()) return;
          Fatal("cannot send to host " + std::to_string(to) + ": " + why.message);
        });
  }
  return loop_->Add(commands_->fd(), EPOLLIN, [this](uint32_t) { commands_->OnReadable(); });
}

Status AgentCore::AddLink(HostId host, store::UniqueFd socket) {
  auto link = std::make_unique<Link>(
      *loop_, std::move(socket), [this, host](std::span<const uint8_t> message) { Deliver(host, message); },
      [this, host](const std::string& what) { Fatal("host " + std::to_string(host) + ": " + what); });
  if (auto started = link->Start(); !started) return started;
  links_[host] = std::move(link);
  return Ok{};
}

bool AgentCore::ReadLink(HostId host) {
  const auto link = links_.find(host);
  if (link == links_.end()) return false;
  link->second->ReadAll();
  return true;
}

void AgentCore::OpenMessage(const broker::InboxReader::Message& message) {
  if (!options_.sealed) return Deliver(message.sender, BytesOf(message.bytes));
  const auto opened = key_.Open(message.bytes, kMessageContext);
  if (!opened) return RefuseMessage(message.sender, "what is not of this session");
  Deliver(message.sender, BytesOf(*opened));
}

void AgentCore::Deliver(HostId from, std::span<const uint8_t> bytes) {
  if (ending_) return;
  const auto opened = wire::OpenEnvelope(bytes);
  if (!opened) return RefuseMessage(from, "a " + opened.error().message);
  if (opened->envelope.sender != from) {
    return RefuseMessage(from, "a message of host " + std::to_string(opened->envelope.sender));
  }
  const auto handler = message_handlers_.find(opened->envelope.type);
  if (handler == message_handlers_.end()) {
    return spdlog::error("message of type {} from host {} has no receiver",
                         static_cast<int>(opened->envelope.type), from);
  }
  handler->second(from, opened->body);
}

void AgentCore::RefuseMessage(HostId from, const std::string& what) {
  const bool linked = links_.contains(from);
  Fatal("host " + std::to_string(from) + " sent " + what +
        (linked ? "" : " (Redis key '" + keys_.inbox(host()) + "')"));
}

void AgentCore::SendEncoded(HostId to, std::vector<uint8_t> message) {
  const auto began = std::chrono::steady_clock::now();
  calls_->TakeUnheard();  // what is sent may have been written after them
  // What goes ahead of it to the same host goes with it, and wakes that host once.
  const auto link = links_.find(to);
  const bool holds = link != links_.end() && holding_.insert(to).second;
  if (holds) link->second->Hold();
  for (auto& component : components_) component->BeforeSend(to);
  if (!published()) {
    first_sent_ = std::chrono::steady_clock::now();
    first_took_ = first_sent_ - began;
  }
  Post(to, std::move(message));
  if (!holds) return;
  holding_.erase(to);
  if (const auto still = links_.find(to); still != links_.end()) still->second->Release();
}

void AgentCore::SendSoon(std::function<void()> action) {
  if (first_took_ <= kShortFirst) return loop_->Defer(std::move(action));
  const auto apart = std::max<std::chrono::nanoseconds>(
      kFirstShare * first_took_,
      std::min<std::chrono::nanoseconds>(kSmallFirstShare * first_took_, kUnnoticed));
  const std::chrono::nanoseconds rest = first_sent_ + apart - std::chrono::steady_clock::now();
  loop_->After(std::max<std::chrono::nanoseconds>(rest, kUntilEnded), std::move(action));
}

void AgentCore::Post(HostId to, std::vector<uint8_t> message) {
  if (ended_) return;
  if (const auto link = links_.find(to); link != links_.end()) return link->second->Send(std::move(message));
  if (sender_ == nullptr) return spdlog::debug("host {} takes no messages", to);
  const std::vector<uint8_t> sent = Seal(std::move(message));
  sender_->Send(to, std::string_view(reinterpret_cast<const char*>(sent.data()), sent.size()));
}

std::vector<uint8_t> AgentCore::Seal(std::vector<uint8_t> message) const {
  if (!options_.sealed) return message;
  std::vector<uint8_t> sealed(message.size() + store::kSealOverhead);
  const auto done =
      key_.SealInto(std::string_view(reinterpret_cast<const char*>(message.data()), message.size()),
                    kMessageContext, std::span(reinterpret_cast<char*>(sealed.data()), sealed.size()));
  return done ? sealed : std::vector<uint8_t>{};  // an empty message is refused by its receiver
}

void AgentCore::SetMessageHandler(wire::MessageType type, MessageHandler handler) {
  message_handlers_[type] = std::move(handler);
}

void AgentCore::AddHost(HostId host) {
  if (std::find(others_.begin(), others_.end(), host) == others_.end()) others_.push_back(host);
}

void AgentCore::RemoveHost(HostId host) {
  // A message of this host's own may have said so: its link is in use until the end of the round.
  if (auto link = links_.extract(host); !link.empty()) {
    loop_->Defer([kept = std::shared_ptr<Link>(std::move(link.mapped()))] {});
  }
  if (std::erase(others_, host) == 0) return;
  for (auto& component : components_) component->HostGone(host);
}

const Process* AgentCore::FindProcess(Incarnation incarnation) const {
  const auto found = by_incarnation_.find(incarnation);
  return found == by_incarnation_.end() ? nullptr : found->second;
}

const Process* AgentCore::FindKernelPid(int32_t kernel_pid) const {
  const auto found = by_kernel_pid_.find(kernel_pid);
  return found == by_kernel_pid_.end() ? nullptr : &found->second->process;
}

const Process* AgentCore::FindSessionPid(int32_t session_pid) const {
  const auto found = by_session_pid_.find(session_pid);
  return found == by_session_pid_.end() ? nullptr : found->second;
}

Result<const Process*> AgentCore::Register(Process process, Gone gone) {
  // A pid that is still known under an old process: that one's end was not looked at yet, and its pidfd says
  // so.
  if (const auto old = by_kernel_pid_.find(process.kernel_pid); old != by_kernel_pid_.end()) {
    const Gone told = old->second->gone;
    const Process copy = old->second->process;
    told(copy);
    Forget(process.kernel_pid);
  }
  if (process.pidfd < 0) {
    process.pidfd = static_cast<int>(syscall(SYS_pidfd_open, process.kernel_pid, 0));
    if (process.pidfd < 0) {
      return Error{errno, "cannot watch process " + std::to_string(process.kernel_pid)};
    }
  }
  auto entry = std::make_unique<Entry>(Entry{process, std::move(gone)});
  Process* kept = &entry->process;
  const int32_t pid = process.kernel_pid;
  const auto added = loop_->Add(process.pidfd, EPOLLIN, [this, pid](uint32_t) {
    const auto found = by_kernel_pid_.find(pid);
    if (found == by_kernel_pid_.end()) return;
    loop_->Remove(found->second->process.pidfd);
    const Gone told = found->second->gone;
    told(found->second->process);
  });
  if (!added) {
    close(process.pidfd);
    return added.error();
  }
  by_kernel_pid_[pid] = std::move(entry);
  if (kept->incarnation != 0) by_incarnation_[kept->incarnation] = kept;
  if (kept->session_pid != 0) by_session_pid_[kept->session_pid] = kept;
  calls_->EnterProcess(*kept);
  return static_cast<const Process*>(kept);
}

void AgentCore::SetSessionPid(Incarnation incarnation, int32_t session_pid) {
  const auto found = by_incarnation_.find(incarnation);
  if (found == by_incarnation_.end()) return;
  found->second->session_pid = session_pid;
  by_session_pid_[session_pid] = found->second;
  calls_->EnterProcess(*found->second);
}

void AgentCore::SetIncarnation(int32_t kernel_pid, Incarnation incarnation, HostId runs_on) {
  const auto found = by_kernel_pid_.find(kernel_pid);
  if (found == by_kernel_pid_.end()) return;
  Process& process = found->second->process;
  if (process.incarnation != 0) by_incarnation_.erase(process.incarnation);
  process.incarnation = incarnation;
  process.runs_on = runs_on;
  if (incarnation != 0) by_incarnation_[incarnation] = &process;
  calls_->EnterProcess(process);
}

void AgentCore::Adopt(int32_t kernel_pid, Incarnation incarnation, Gone gone) {
  const auto found = by_kernel_pid_.find(kernel_pid);
  if (found == by_kernel_pid_.end()) return;
  found->second->gone = std::move(gone);
  SetIncarnation(kernel_pid, incarnation, host());
}

void AgentCore::Forget(int32_t kernel_pid) {
  const auto found = by_kernel_pid_.find(kernel_pid);
  if (found == by_kernel_pid_.end()) return;
  const std::unique_ptr<Entry> entry = std::move(found->second);
  by_kernel_pid_.erase(found);
  const Process& process = entry->process;
  calls_->RemoveProcess(kernel_pid);
  if (const auto offered = offers_of_.extract(kernel_pid); !offered.empty()) {
    for (const uint64_t token : offered.mapped()) offers_.erase(token);
  }
  for (auto& component : components_) component->ProcessGone(process);
  if (const auto same = by_incarnation_.find(process.incarnation);
      same != by_incarnation_.end() && same->second == &process) {
    by_incarnation_.erase(same);
  }
  if (const auto same = by_session_pid_.find(process.session_pid);
      same != by_session_pid_.end() && same->second == &process) {
    by_session_pid_.erase(same);
  }
  loop_->Remove(process.pidfd);
  close(process.pidfd);
  on_forgotten_();
}

void AgentCore::TellRegistered(const Process& process, int32_t parent_pid) {
  const Process* parent = FindKernelPid(parent_pid);
  for (auto& component : components_) component->ProcessRegistered(process, parent);
}

void AgentCore::Drain(const Process& process, Component::DrainReason reason, std::function<void()> done) {
  if (reason.ended) {
    for (auto& component : components_) component->ProcessEnding(process);
  }
  DrainFrom(0, process, reason, std::move(done));
}

// The process is copied: it may be forgotten before the last component is through.
void AgentCore::DrainFrom(size_t index, Process process, Component::DrainReason reason,
                          std::function<void()> done) {
  if (index == components_.size()) return done();
  Component& component = *components_[index];
  component.Drain(process, reason, [this, index, process, reason, done = std::move(done)]() mutable {
    DrainFrom(index + 1, process, reason, std::move(done));
  });
}

void AgentCore::AwaitIn(const std::set<wire::StreamId>& streams, wire::Patience patience,
                        Component::InCallback done) {
  AwaitInFrom(0, streams, patience, std::move(done));
}

void AgentCore::AwaitInFrom(size_t index, std::set<wire::StreamId> streams, wire::Patience patience,
                            Component::InCallback done) {
  if (index == components_.size()) return done(true);
  Component& component = *components_[index];
  component.AwaitIn(streams, patience,
                    [this, index, streams, patience, done = std::move(done)](bool in) mutable {
                      if (!in) return done(false);
                      AwaitInFrom(index + 1, std::move(streams), patience, std::move(done));
                    });
}

void AgentCore::Fatal(std::string message) {
  if (ending_) return;
  ending_ = true;
  spdlog::error("the session ends: {}", message);
  on_fatal_(message);
}

void AgentCore::End() {
  ending_ = true;
  if (ended_) return;
  ended_ = true;
  calls_->End(EIO);
  for (auto& component : components_) component->SessionEnding();
}

}  // namespace elsewhere::runtime
