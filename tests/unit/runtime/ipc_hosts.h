// The IPC components of three agents on one loop, with a real Redis, and the forks that make them share.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <utility>

#include "runtime/ipc.h"
#include "runtime/ipc/segments.h"
#include "runtime/ipc/semaphore_calls.h"
#include "runtime/ipc/semaphore_names.h"
#include "shim/broker/inbox.h"
#include "shim/broker/private_redis.h"
#include "shim/broker/session_keys.h"
#include "shim/wire/image.h"
#include "shim/wire/semaphore_lease.h"
#include "shim/wire/semaphore_share.h"
#include "shim/wire/shared_action.h"
#include "shim/wire/shared_object.h"

namespace elsewhere::runtime {

inline constexpr char kSession[] = "0123456789abcdef0123456789abcdef";

// The only process whose calls are a registered one's.
inline constexpr int32_t kKnownPid = 7;

struct Answer {
  int64_t result;
  int error;
};

// An agent without processes: calls are made by the test, answers are kept.
class TestAgent final : public Agent {
 public:
  TestAgent(EventLoop& loop, const broker::RedisUrl& url, HostId host)
      : loop_(loop), host_(host), keys_(kSession), layout_("/nonexistent") {
    table_ = static_cast<abi::Table*>(mmap(nullptr, sizeof(abi::Table), PROT_READ | PROT_WRITE,
                                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    broker::ConnectionOptions options{
        .url = url, .patience = {}, .marker_key = {}, .marker_value = {}, .scripts = {}};
    const auto lost = [](const Error& error) { ADD_FAILURE() << error.message; };
    inbox_ = std::move(*broker::InboxReader::Open(
        options, keys_, host, [this](const broker::InboxReader::Message& message) { Deliver(message.bytes); },
        lost));
    options.scripts = broker::SessionScripts();
    commands_ = std::move(*broker::RedisConnection::Open(options, lost));
    sender_ = std::make_unique<broker::InboxSender>(
        *commands_, keys_, host, [](HostId, const Error& error) { ADD_FAILURE() << error.message; });
    EXPECT_TRUE(loop.Add(inbox_->fd(), EPOLLIN, [this](uint32_t) { inbox_->OnReadable(); }).ok());
    EXPECT_TRUE(loop.Add(commands_->fd(), EPOLLIN, [this](uint32_t) { commands_->OnReadable(); }).ok());
    component_ = MakeIpc(*this);
  }
  ~TestAgent() override {
    component_->SessionEnding();
    loop_.Remove(inbox_->fd());
    loop_.Remove(commands_->fd());
    munmap(table_, sizeof(abi::Table));
  }

  CallId Start(abi::Operation operation, std::array<int64_t, 8> arguments, std::string_view payload = {},
               int32_t pid = 1, Incarnation incarnation = 0) {
    const CallId id{++last_slot_, 1};
    Call call{operation, pid, pid, incarnation, arguments, {payload.begin(), payload.end()}};
    handlers_.at(operation)(id, call);
    return id;
  }
  const Answer* Get(CallId id) const {
    const auto found = answers_.find(id.slot);
    return found == answers_.end() ? nullptr : &found->second;
  }
  Component& component() { return *component_; }
  const std::string& fatal() const { return fatal_; }
  int sends() const { return sends_; }  // that the component was asked about
  // A call that nobody waits for, made whenever a message is about to leave.
  void SetUnheard(std::function<void()> call) {
    TakeUnheard();
    unheard_ = std::move(call);
  }
  void AddProcess(int32_t pid, Incarnation incarnation) {
    processes_[incarnation] = Process{.kernel_pid = pid, .session_pid = pid, .incarnation = incarnation};
  }

  EventLoop& loop() override { return loop_; }
  HostId host() const override { return host_; }
  const SessionLayout& layout() const override { return layout_; }
  const std::string& session_id() const override { return session_; }
  abi::Table& table() override { return *table_; }
  SessionReport& report() override { return report_; }
  broker::RedisConnection& broker() override { return *commands_; }
  store::SessionKey& key() override { std::abort(); }
  const std::vector<HostId>& OtherHosts() const override { return others_; }
  void OnCall(abi::Operation operation, CallHandler handler) override {
    handlers_[operation] = std::move(handler);
  }
  void Complete(CallId id, int64_t result, int error, std::span<const uint8_t>) override {
    answers_[id.slot] = {result, error};
  }
  const Process* FindProcess(Incarnation incarnation) const override {
    const auto found = processes_.find(incarnation);
    return found == processes_.end() ? nullptr : &found->second;
  }
  const Process* FindKernelPid(int32_t pid) const override {
    return pid == known_.kernel_pid ? &known_ : nullptr;
  }
  const Process* FindSessionPid(int32_t) const override { return nullptr; }
  void Drain(const Process&, Component::DrainReason, std::function<void()> done) override { done(); }
  void Fatal(std::string message) override { fatal_ = std::move(message); }
  bool ending() const override { return false; }
  void TakeUnheard() override {
    for (; !leaves_unheard_ && unheard_calls_ > 0; --unheard_calls_) LeaveUnheard(unheard_);
  }

 protected:
  void LeaveUnheard(const std::function<void()>& action) override {
    const bool outer = std::exchange(leaves_unheard_, true);
    action();
    leaves_unheard_ = outer;
  }
  uint64_t NextSequence() override { return ++sequence_; }
  void SendEncoded(HostId to, std::vector<uint8_t> message) override {
    if (unheard_) ++unheard_calls_;
    TakeUnheard();
    component_->BeforeSend(to);
    ++sends_;
    SendEncodedAhead(to, std::move(message));
  }
  void SendEncodedAhead(HostId to, std::vector<uint8_t> message) override {
    sender_->Send(to, {reinterpret_cast<const char*>(message.data()), message.size()});
  }
  void SetMessageHandler(wire::MessageType type, MessageHandler handler) override {
    messages_[type] = std::move(handler);
  }

 private:
  void Deliver(std::string_view bytes) {
    const auto opened = wire::OpenEnvelope({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
    ASSERT_TRUE(opened.ok());
    messages_.at(opened->envelope.type)(opened->envelope.sender, opened->body);
  }

  EventLoop& loop_;
  const HostId host_;
  const broker::SessionKeys keys_;
  const SessionLayout layout_;
  const std::string session_ = kSession;
  SessionReport report_;
  std::vector<HostId> others_;
  abi::Table* table_;
  std::unique_ptr<broker::InboxReader> inbox_;
  std::unique_ptr<broker::RedisConnection> commands_;
  std::unique_ptr<broker::InboxSender> sender_;
  std::map<abi::Operation, CallHandler> handlers_;
  std::map<wire::MessageType, MessageHandler> messages_;
  std::map<uint32_t, Answer> answers_;
  std::map<Incarnation, Process> processes_;
  const Process known_{.kernel_pid = kKnownPid};
  std::unique_ptr<Component> component_;
  std::string fatal_;
  uint32_t last_slot_ = 0;
  uint64_t sequence_ = 0;
  int sends_ = 0;
  std::function<void()> unheard_;
  int unheard_calls_ = 0;
  bool leaves_unheard_ = false;
};

class IpcTest : public testing::Test {
 protected:
  void SetUp() override {
    char directory[] = "/tmp/elsewhere-ipc-XXXXXX";
    directory_ = mkdtemp(directory);
    auto redis = broker::PrivateRedis::Start({.directory = directory_});
    ASSERT_TRUE(redis.ok()) << redis.error().message;
    redis_ = std::move(*redis);
    auto client = broker::SyncClient::Connect(redis_->url(), std::chrono::seconds(5));
    ASSERT_TRUE(client.ok());
    const broker::SessionKeys keys(kSession);
    ASSERT_TRUE(broker::CreateSession(**client, keys, "secret").ok());
    for (HostId host = 0; host < 3; ++host) ASSERT_TRUE(broker::JoinHost(**client, keys, host).ok());
    loop_ = std::move(*EventLoop::Create());
    for (HostId host = 0; host < 3; ++host) {
      agents_.push_back(std::make_unique<TestAgent>(*loop_, redis_->url(), host));
    }
    object_ = memfd_create("object", MFD_CLOEXEC);
    ASSERT_EQ(ftruncate(object_, 8192), 0);
    live_ = static_cast<uint8_t*>(mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, object_, 0));
  }
  void TearDown() override {
    agents_.clear();
    loop_.reset();
    redis_.reset();
    munmap(live_, 8192);
    close(object_);
    if (!directory_.empty()) rmdir(directory_.c_str());
  }

  TestAgent& Host(size_t host) { return *agents_[host]; }

  // Runs the loop until `condition` holds; it is a failure if that takes seconds.
  void Await(const std::function<bool()>& condition) {
    bool late = false;
    const auto limit = loop_->After(std::chrono::seconds(10), [&] {
      late = true;
      loop_->Stop();
    });
    std::function<void()> look = [&] {
      if (condition()) return loop_->Stop();
      loop_->After(std::chrono::microseconds(200), look);
    };
    look();
    if (!condition()) loop_->Run();
    loop_->Cancel(limit);
    ASSERT_FALSE(late);
  }
  Answer Finish(size_t host, CallId id) {
    Await([&] { return Host(host).Get(id) != nullptr; });
    return Host(host).Get(id) == nullptr ? Answer{-2, 0} : *Host(host).Get(id);
  }

  // A fork from home to a worker, of a process that maps the object: what the agents do for it. The worker's
  // mapping.
  uint8_t* Fork(HostId to, int32_t deputy);

  std::string directory_;
  std::unique_ptr<broker::PrivateRedis> redis_;
  std::unique_ptr<EventLoop> loop_;
  std::vector<std::unique_ptr<TestAgent>> agents_;
  int object_ = -1;
  uint8_t* live_ = nullptr;
};

// A manifest with one shared region, its object, and the descriptor that was attached for it.
inline std::vector<uint8_t> Manifest(int object, int32_t parent) {
  struct stat status {};
  fstat(object, &status);
  std::vector<uint8_t> bytes(sizeof(image::Header));
  image::Header header{};
  header.magic = image::kMagic;
  header.version = image::kVersion;
  header.header_size = sizeof header;
  header.identity.parent = parent;
  const auto add = [&](image::Section section, const void* data, uint32_t size, uint32_t count) {
    auto& entry = header.sections[static_cast<uint32_t>(section)];
    entry = {bytes.size(), count, size};
    const auto* from = static_cast<const uint8_t*>(data);
    bytes.insert(bytes.end(), from, from + static_cast<size_t>(size) * count);
    bytes.resize((bytes.size() + 7) / 8 * 8);
  };
  const image::Region region{
      0x10000000, 0x10002000,   0, 3, static_cast<uint32_t>(image::RegionKind::kShared), image::kNone,
      0,          image::kNone, 0};
  const image::Object mapped{status.st_dev, status.st_ino, 8192, 1, image::kNone};
  const image::Descriptor descriptor{.number = 5,
                                     .mode = status.st_mode,
                                     .device = status.st_dev,
                                     .inode = status.st_ino,
                                     .rdev = 0,
                                     .size = 8192,
                                     .offset = 0,
                                     .flags = 2,
                                     .descriptor_flags = 0,
                                     .path = 0,
                                     .attached = 0,
                                     .source = image::kNone,
                                     .reserved = 0};
  const char strings[] = "\0/dev/shm/test";
  add(image::Section::kRegions, &region, sizeof region, 1);
  add(image::Section::kRuns, nullptr, sizeof(image::Run), 0);
  add(image::Section::kChunks, nullptr, sizeof(image::Chunk), 0);
  add(image::Section::kFiles, nullptr, sizeof(image::File), 0);
  add(image::Section::kObjects, &mapped, sizeof mapped, 1);
  add(image::Section::kDescriptors, &descriptor, sizeof descriptor, 1);
  add(image::Section::kStrings, strings, 1, sizeof strings);
  add(image::Section::kGroups, nullptr, sizeof(uint32_t), 0);
  add(image::Section::kAuxv, nullptr, 1, 0);
  add(image::Section::kPacks, nullptr, sizeof(image::Pack), 0);
  header.size = bytes.size();
  std::memcpy(bytes.data(), &header, sizeof header);
  return bytes;
}

inline uint8_t* IpcTest::Fork(HostId to, int32_t deputy) {
  const Incarnation incarnation = wire::MakeIncarnation(0, static_cast<uint64_t>(deputy));
  const Process process{
      .kernel_pid = deputy, .session_pid = deputy, .incarnation = incarnation, .runs_on = to};
  Host(0).AddProcess(deputy, incarnation);
  std::vector<HeldDescriptor> attached{{.number = 5, .descriptor = dup(object_), .flags = 0}};
  wire::Job job;
  job.incarnation = incarnation;
  const auto captured = Host(0).component().Captured(process, Manifest(object_, 1), attached, job);
  EXPECT_TRUE(captured.ok()) << captured.error().message;
  EXPECT_EQ(attached[0].descriptor, -1) << "taken: the streams leave it alone";
  std::vector<HeldDescriptor> made;
  int prepared = 0;
  Host(to).component().Prepare(job, made, [&](const Status& status) { prepared = status.ok() ? 1 : -1; });
  Await([&] { return prepared != 0; });
  EXPECT_EQ(prepared, 1);
  EXPECT_EQ(made.size(), 2U);
  EXPECT_EQ(made[0].number, MappedObject(0));
  EXPECT_EQ(made[1].number, 5);
  void* mapped = mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, made[0].descriptor, 0);
  for (const auto& held : made) close(held.descriptor);
  return static_cast<uint8_t*>(mapped);
}

inline wire::Semaphore* At(uint8_t* memory, size_t offset) {
  return reinterpret_cast<wire::Semaphore*>(memory + offset);
}
inline int64_t ObjectAt(uint8_t* memory, size_t offset) {
  return static_cast<int64_t>(At(memory, offset)->object.load());
}

}  // namespace elsewhere::runtime
