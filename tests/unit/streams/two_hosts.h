// Home and a worker in one process: two agents that are nothing but their stream components, one loop, and
// messages that go from one to the other encoded and decoded. Descriptors, pipes and terminals are real. What
// a process on the worker would hold is the test's.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <thread>

#include "runtime/streams.h"
#include "shim/wire/image.h"
#include "shim/wire/stream_message.h"

namespace elsewhere::runtime {

class TestAgent : public Agent {
 public:
  TestAgent(EventLoop& loop, HostId host) : loop_(loop), host_(host), layout_("/nonexistent") {}
  void Connect(TestAgent& other) {
    other_ = &other;
    others_ = {other.host_};
  }

  EventLoop& loop() override { return loop_; }
  void SendSoon(std::function<void()> action) override {
    if (send_soon) return send_soon(std::move(action));
    Agent::SendSoon(std::move(action));
  }
  HostId host() const override { return host_; }
  const SessionLayout& layout() const override { return layout_; }
  const std::string& session_id() const override { return session_; }
  abi::Table& table() override { return *table_; }
  SessionReport& report() override { return report_; }
  broker::RedisConnection& broker() override { std::abort(); }
  store::SessionKey& key() override { std::abort(); }
  const std::vector<HostId>& OtherHosts() const override { return others_; }
  void OnCall(abi::Operation operation, CallHandler handler) override {
    calls_[operation] = std::move(handler);
  }
  void Complete(CallId id, int64_t result, int error, std::span<const uint8_t> payload) override {
    EXPECT_EQ(answers_.count(id.slot), 0U) << "completed twice";
    answers_[id.slot] = Answer{result, error, {payload.begin(), payload.end()}};
  }
  using Agent::Offer;
  uint64_t Offer(store::UniqueFd descriptor, CallId) override {
    offers_[++last_offer_] = std::move(descriptor);
    return last_offer_;
  }
  store::UniqueFd TakeOffer(uint64_t token) { return std::move(offers_.extract(token).mapped()); }
  const Process* FindProcess(Incarnation) const override { return nullptr; }
  const Process* FindKernelPid(int32_t) const override { return nullptr; }
  const Process* FindSessionPid(int32_t) const override { return nullptr; }
  void Drain(const Process&, Component::DrainReason, std::function<void()> done) override { done(); }
  void Fatal(std::string message) override { ADD_FAILURE() << message; }
  bool ending() const override { return false; }

  std::function<void(std::function<void()>)> send_soon;  // what happens instead
  std::function<void()> before_send;  // Component::BeforeSend of what this agent is made of
  struct Answer {
    int64_t result;
    int error;
    std::vector<uint8_t> payload;
  };
  // Makes a call as a process of this host; its number finds the answer.
  CallId Make(const Call& call) {
    const CallId id{next_call_++, 1};
    calls_.at(call.operation)(id, call);
    return id;
  }
  const Answer* AnswerOf(CallId id) const {
    const auto found = answers_.find(id.slot);
    return found == answers_.end() ? nullptr : &found->second;
  }
  size_t messages() const { return sequence_; }
  // From the first message of that type on, what this agent sends stays under way until Release.
  void HoldFrom(wire::MessageType type) { hold_from_ = type; }
  bool holds() const { return !held_.empty(); }
  void Release();

 protected:
  uint64_t NextSequence() override { return ++sequence_; }
  void SendEncoded(HostId to, std::vector<uint8_t> message) override;
  void SendEncodedAhead(HostId to, std::vector<uint8_t> message) override;
  void SetMessageHandler(wire::MessageType type, MessageHandler handler) override {
    handlers_[type] = std::move(handler);
  }

 private:
  EventLoop& loop_;
  const HostId host_;
  SessionLayout layout_;
  std::string session_ = std::string(32, '0');
  std::unique_ptr<abi::Table> table_ = std::make_unique<abi::Table>();
  SessionReport report_;
  TestAgent* other_ = nullptr;
  std::vector<HostId> others_;
  std::map<abi::Operation, CallHandler> calls_;
  std::map<wire::MessageType, MessageHandler> handlers_;
  std::map<uint32_t, Answer> answers_;
  void Deliver(std::vector<uint8_t> message);
  std::optional<wire::MessageType> hold_from_;
  std::deque<std::vector<uint8_t>> held_;
  std::map<uint64_t, store::UniqueFd> offers_;
  uint64_t last_offer_ = 0;
  uint32_t next_call_ = 1;
  uint64_t sequence_ = 0;
};

// Descriptors of a process that was restored on the worker, by number.
class RemoteProcess {
 public:
  ~RemoteProcess() { CloseAll(); }
  int operator[](int number) const { return descriptors_.at(number); }
  void Close(int number) {
    close(descriptors_.at(number));
    descriptors_.erase(number);
  }
  void CloseAll() {
    for (const auto& [number, descriptor] : descriptors_) close(descriptor);
    descriptors_.clear();
  }
  void Add(int number, int descriptor) { descriptors_[number] = descriptor; }
  Process process;

 private:
  std::map<int, int> descriptors_;
};

class TwoHosts : public ::testing::Test {
 protected:
  TwoHosts();

  Result<wire::Job> Capture(std::vector<int> descriptors, const Process& process);
  // The second half of Fork: makes the process of a job.
  Result<std::unique_ptr<RemoteProcess>> Restore(const wire::Job& job, std::unique_ptr<RemoteProcess> remote);
  // "Forks" a child with these descriptors of ours to the worker.
  Result<std::unique_ptr<RemoteProcess>> Fork(const std::vector<int>& descriptors);
  std::unique_ptr<RemoteProcess> MustFork(const std::vector<int>& descriptors);
  // The process ends: its descriptors are closed, and both hosts go through what an end means. Returns
  // whether the end was reported at home within the time.
  bool End(RemoteProcess& process, bool killed = false, int milliseconds = 2000);

  template <class Condition>
  bool Until(Condition condition, int milliseconds = 2000) {
    bool held = condition();
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(milliseconds);
    while (!held && std::chrono::steady_clock::now() < deadline) {
      Turn();
      held = condition();
    }
    return held;
  }
  // Lets everything that is under way arrive.
  void Settle();
  void Turn();
  // Writes until nothing more is taken, with O_NONBLOCK set from then on. Returns how many bytes that were.
  size_t Fill(int descriptor);

  // read() of a process on the worker, as the preload makes it: pull, then read.
  CallId Pull(int descriptor, size_t bytes, bool wait = true);
  std::optional<std::string> Read(int descriptor, size_t bytes);
  CallId CallOn(abi::Operation operation, int descriptor, std::initializer_list<int64_t> more,
                std::vector<uint8_t> payload = {});
  const TestAgent::Answer* Await(CallId call);

  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<TestAgent> home_;
  std::unique_ptr<TestAgent> worker_;
  std::unique_ptr<Component> home_streams_;
  std::unique_ptr<Component> worker_streams_;
  Incarnation next_incarnation_ = 1;
};

// A pipe of home's; the number of an end stays known after it was closed here.
struct Pipe {
  Pipe() {
    int ends[2];
    EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
    read = ends[0];
    write = ends[1];
  }
  ~Pipe() {
    CloseRead();
    CloseWrite();
  }
  void CloseRead() {
    if (!read_closed) close(read);
    read_closed = true;
  }
  void CloseWrite() {
    if (!write_closed) close(write);
    write_closed = true;
  }
  int read, write;
  bool read_closed = false, write_closed = false;
};

ssize_t Put(int descriptor, const std::string& text);
bool AtEnd(int descriptor);
std::string Take(int descriptor, size_t bytes);  // what a non-blocking read gives; "" for nothing
void SetNonBlocking(int descriptor);

}  // namespace elsewhere::runtime
