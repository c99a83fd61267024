// The core that home agent and worker agent share (runtime/agent.h): table, connections, mailbox, processes,
// components.
//
// Start-up has two halves, so that processes may connect while Redis is still starting: Create makes the
// table and the sockets; Join connects to the broker. Messages sent before Join are a bug.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "runtime/agent.h"
#include "runtime/call_table.h"
#include "runtime/connections.h"
#include "runtime/link.h"
#include "runtime/object_counts.h"
#include "shim/broker/inbox.h"
#include "shim/broker/redis_connection.h"
#include "shim/store/seal.h"

namespace elsewhere::runtime {

class AgentCore final : public Agent {
 public:
  struct Options {
    std::string session;
    std::string directory;
    HostId host = 0;
    bool fork_remote = true;
    bool count_objects = false;
    bool sealed = false;  // messages are sealed: the broker is not the session's own
  };
  static Result<std::unique_ptr<AgentCore>> Create(const Options& options, store::SessionKey key);
  ~AgentCore() override;

  // Connects to the broker. `secret`: the marker's value, empty where it is not known to this host. Without
  // an inbox messages travel over links only.
  Status Join(const broker::RedisUrl& url, const std::string& secret, std::chrono::milliseconds patience,
              bool with_inbox);
  // Messages to and from `host` travel over this from now on; before the first of them.
  Status AddLink(HostId host, store::UniqueFd socket);
  // Delivers what a dead host had sent over its link; false: it has none.
  bool ReadLink(HostId host);
  void Add(std::unique_ptr<Component> component) { components_.push_back(std::move(component)); }
  const std::vector<std::unique_ptr<Component>>& components() const { return components_; }

  EventLoop& loop() override { return *loop_; }
  HostId host() const override { return options_.host; }
  const SessionLayout& layout() const override { return layout_; }
  const std::string& session_id() const override { return options_.session; }
  abi::Table& table() override { return calls_->table(); }
  CallTable& calls() { return *calls_; }
  Connections& connections() { return *connections_; }
  SessionReport& report() override { return report_; }
  ObjectCounts* object_counts() override { return object_counts_.get(); }
  broker::RedisConnection& broker() override { return *commands_; }
  const broker::SessionKeys& keys() const { return keys_; }
  store::SessionKey& key() override { return key_; }
  const std::vector<HostId>& OtherHosts() const override { return others_; }
  void AddHost(HostId host);
  void RemoveHost(HostId host);  // tells the components

  // Into this host's own inbox: handled after everything that stands there already.
  template <wire::AnyMessage M>
  void SendToSelf(const M& message) {
    Post(host(), wire::Encode(host(), NextSequence(), message));
  }

  void OnCall(abi::Operation operation, CallHandler handler) override {
    calls_->OnCall(operation, std::move(handler));
  }
  void TakeCalls() override { calls_->TakeCalls(); }
  void TakeUnheard() override { calls_->TakeUnheard(); }
  void HearOfStarts() override {
    if (hear_of_starts_) hear_of_starts_();
  }
  void OnHearOfStarts(std::function<void()> hear) { hear_of_starts_ = std::move(hear); }
  void SendSoon(std::function<void()> action) override;
  void Complete(CallId id, int64_t result, int error = 0, std::span<const uint8_t> payload = {}) override {
    calls_->Complete(id, result, error, payload);
  }
  uint64_t Offer(store::UniqueFd descriptor) override {
    offers_[++last_offer_] = std::move(descriptor);
    return last_offer_;
  }
  uint64_t Offer(store::UniqueFd descriptor, CallId call) override {
    const int32_t caller = calls_->CallerOf(call);
    if (caller == 0) return 0;
    const uint64_t token = Offer(std::move(descriptor));
    auto& offered = offers_of_[caller];
    std::erase_if(offered, [this](uint64_t each) { return offers_.count(each) == 0; });
    offered.push_back(token);
    return token;
  }
  // What a token stands for; it is good for once.
  store::UniqueFd TakeOffer(uint64_t token) {
    auto taken = offers_.extract(token);
    return taken.empty() ? store::UniqueFd() : std::move(taken.mapped());
  }
  void OnPacket(abi::Packet type, PacketReceiver handler) override {
    packet_receivers_[type] = std::move(handler);
  }
  void SendPacket(uint64_t connection, std::span<const uint8_t> bytes,
                  std::span<const int> descriptors) override {
    connections_->SendBytes(connection, bytes, descriptors);
  }
  PacketSender SenderTo(uint64_t connection) override { return connections_->SenderTo(connection); }
  const Process* FindProcess(Incarnation incarnation) const override;
  const Process* FindKernelPid(int32_t kernel_pid) const override;
  const Process* FindSessionPid(int32_t session_pid) const override;
  void Drain(const Process& process, Component::DrainReason reason, std::function<void()> done) override;
  void AwaitIn(const std::set<wire::StreamId>& streams, wire::Patience patience,
               Component::InCallback done) override;
  void Fatal(std::string message) override;
  bool ending() const override { return ending_; }

  // Registers a process; `gone` runs when its pidfd says that it is dead, before it is forgotten with Forget.
  // ESRCH: it is dead already (and was reaped).
  using Gone = std::function<void(const Process&)>;
  Result<const Process*> Register(Process process, Gone gone);
  void TellRegistered(const Process& process, int32_t parent_pid);  // home: to the components
  void SetSessionPid(Incarnation incarnation, int32_t session_pid);
  void SetIncarnation(int32_t kernel_pid, Incarnation incarnation, HostId runs_on);
  // A process that is known without an incarnation gets one, and another way to be told of its end.
  void Adopt(int32_t kernel_pid, Incarnation incarnation, Gone gone);
  void Forget(int32_t kernel_pid);
  size_t process_count() const { return by_kernel_pid_.size(); }
  DescriptorRoom& room() { return room_; }

  // What happens with a fatal message (which ends by calling End), and with packets. Set once, before
  // anything runs.
  void SetFatal(std::function<void(const std::string&)> fatal) { on_fatal_ = std::move(fatal); }
  void SetPacket(std::function<void(ConnectionId, Connections::Packet)> packet) {
    on_packet_ = std::move(packet);
  }
  // Runs after a process was forgotten.
  void SetForgotten(std::function<void()> forgotten) { on_forgotten_ = std::move(forgotten); }
  void SetClosed(std::function<void(ConnectionId)> closed) { on_closed_ = std::move(closed); }

  // The session is over: calls fail, nothing is sent any more, components let go.
  void End();
  Incarnation NewIncarnation() { return wire::MakeIncarnation(host(), ++last_incarnation_); }

 protected:
  uint64_t NextSequence() override { return ++last_sequence_; }
  void SendEncoded(HostId to, std::vector<uint8_t> message) override;
  void Released(CallId call) override { calls_->Released(call); }
  void LeaveUnheard(const std::function<void()>& action) override { calls_->LeaveUnheard(action); }
  void SendEncodedAhead(HostId to, std::vector<uint8_t> message) override { Post(to, std::move(message)); }
  void SetMessageHandler(wire::MessageType type, MessageHandler handler) override;

 private:
  struct Entry {
    Process process;
    Gone gone;
  };

  AgentCore(const Options& options, store::SessionKey key);
  void Post(HostId to, std::vector<uint8_t> message);
  std::vector<uint8_t> Seal(std::vector<uint8_t> message) const;
  void OpenMessage(const broker::InboxReader::Message& message);
  void Deliver(HostId from, std::span<const uint8_t> bytes);
  void RefuseMessage(HostId from, const std::string& what) override;
  void AwaitInFrom(size_t index, std::set<wire::StreamId> streams, wire::Patience patience,
                   Component::InCallback done);
  void DrainFrom(size_t index, Process process, Component::DrainReason reason, std::function<void()> done);

  const Options options_;
  const SessionLayout layout_;
  const broker::SessionKeys keys_;
  store::SessionKey key_;
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<CallTable> calls_;
  std::unique_ptr<ObjectCounts> object_counts_;
  std::unique_ptr<Connections> connections_;
  std::unique_ptr<broker::RedisConnection> commands_;
  std::unique_ptr<broker::InboxReader> inbox_;
  std::unique_ptr<broker::InboxSender> sender_;
  std::unordered_map<HostId, std::unique_ptr<Link>> links_;
  std::set<HostId> holding_;  // a message is being sent there
  SessionReport report_;
  DescriptorRoom room_;
  std::vector<HostId> others_;
  std::vector<std::unique_ptr<Component>> components_;
  std::map<wire::MessageType, MessageHandler> message_handlers_;
  std::map<abi::Packet, PacketReceiver> packet_receivers_;
  std::unordered_map<int32_t, std::unique_ptr<Entry>> by_kernel_pid_;
  std::unordered_map<Incarnation, Process*> by_incarnation_;
  std::unordered_map<int32_t, Process*> by_session_pid_;
  std::unordered_map<uint64_t, store::UniqueFd> offers_;
  std::unordered_map<int32_t, std::vector<uint64_t>> offers_of_;  // by kernel pid, until it dies
  uint64_t last_offer_ = 0;
  uint64_t last_sequence_ = 0;
  uint64_t last_incarnation_ = 0;
  std::chrono::steady_clock::time_point first_sent_;  // what goes before a message, the last time
  std::chrono::steady_clock::duration first_took_{};
  std::function<void()> hear_of_starts_;
  bool ending_ = false;  // nothing is sent or started any more
  bool ended_ = false;
  std::function<void(const std::string&)> on_fatal_ = [](const std::string&) {};
  std::function<void(ConnectionId, Connections::Packet)> on_packet_;
  std::function<void(ConnectionId)> on_closed_;
  std::function<void()> on_forgotten_ = [] {};
};

}  // namespace elsewhere::runtime
