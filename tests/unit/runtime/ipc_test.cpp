// Semaphores and shared memory between two hosts: the components of two agents on one loop, with a real
// Redis.
#include "runtime/ipc.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <map>

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
namespace {

constexpr char kSession[] = "0123456789abcdef0123456789abcdef";

// The only process whose calls are a registered one's.
constexpr int32_t kKnownPid = 7;

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

 protected:
  uint64_t NextSequence() override { return ++sequence_; }
  void SendEncoded(HostId to, std::vector<uint8_t> message) override {
    component_->BeforeSend();
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
std::vector<uint8_t> Manifest(int object, int32_t parent) {
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

uint8_t* IpcTest::Fork(HostId to, int32_t deputy) {
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
  Host(to).component().Prepare(job, made, [&](Status status) { prepared = status.ok() ? 1 : -1; });
  Await([&] { return prepared != 0; });
  EXPECT_EQ(prepared, 1);
  EXPECT_EQ(made.size(), 2U);
  EXPECT_EQ(made[0].number, MappedObject(0));
  EXPECT_EQ(made[1].number, 5);
  void* mapped = mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, made[0].descriptor, 0);
  for (const auto& held : made) close(held.descriptor);
  return static_cast<uint8_t*>(mapped);
}

wire::Semaphore* At(uint8_t* memory, size_t offset) {
  return reinterpret_cast<wire::Semaphore*>(memory + offset);
}
int64_t ObjectAt(uint8_t* memory, size_t offset) {
  return static_cast<int64_t>(At(memory, offset)->object.load());
}

TEST_F(IpcTest, ASegmentIsWhereItsProcessesAre) {
  live_[0] = 1;
  uint8_t* remote = Fork(1, 100);
  EXPECT_EQ(remote[0], 1);
  remote[1] = 2;
  Host(1).component().BeforeSend();
  Await([&] { return live_[1] == 2; });
  live_[2] = 3;  // nobody releases anything: the timer brings it
  Await([&] { return remote[2] == 3; });
  uint8_t* third = Fork(2, 101);
  EXPECT_EQ(third[1], 2);
  third[3] = 4;
  Await([&] { return remote[3] == 4 && live_[3] == 4; });
  for (size_t host = 0; host < 3; ++host) EXPECT_EQ(Host(host).fatal(), "");
}

TEST_F(IpcTest, TheSameByteOnTwoHostsEndsTheSession) {
  uint8_t* remote = Fork(1, 100);
  remote[7] = 1;
  live_[7] = 2;
  Host(0).component().BeforeSend();
  Host(1).component().BeforeSend();
  Await([&] { return !Host(0).fatal().empty() && !Host(1).fatal().empty(); });
  EXPECT_NE(Host(0).fatal().find("byte 7 of /dev/shm/test"), std::string::npos) << Host(0).fatal();
}

TEST_F(IpcTest, AJoinComparesOnceHoweverMuchThereIs) {
  const std::vector<uint8_t> content(4 << 20, 7);
  ASSERT_EQ(pwrite(object_, content.data(), content.size(), 0), static_cast<ssize_t>(content.size()));
  const int before = Host(0).sends();
  uint8_t* remote = Fork(1, 100);
  EXPECT_EQ(Host(0).sends() - before, 1);
  EXPECT_EQ(remote[8191], 7);
}

TEST_F(IpcTest, ALockAndACounterCountRight) {
  struct stat status {};
  fstat(object_, &status);
  const CallId made = Host(0).Start(abi::Operation::kSemInit, {0, static_cast<int64_t>(status.st_dev),
                                                               static_cast<int64_t>(status.st_ino), 64, 1});
  EXPECT_EQ(Finish(0, made).result, 0) << "native";
  wire::SemaphoreInit(At(live_, 64), 1);
  uint8_t* memory[3] = {live_, Fork(1, 100), Fork(2, 101)};
  ASSERT_TRUE(wire::IsPromoted(At(live_, 64)));
  for (int host = 1; host < 3; ++host) {
    ASSERT_TRUE(wire::IsOurs(At(memory[host], 64)) && wire::IsPromoted(At(memory[host], 64)));
    EXPECT_EQ(ObjectAt(memory[host], 64), ObjectAt(live_, 64));
  }
  const int64_t object = ObjectAt(live_, 64);
  for (int round = 0; round < 60; ++round) {
    // All three wait; each adds one while it holds the lock.
    CallId waits[3];
    for (size_t host = 0; host < 3; ++host)
      waits[host] = Host(host).Start(abi::Operation::kSemWait, {object, -1});
    bool done[3] = {};
    for (int turn = 0; turn < 3; ++turn) {
      size_t holder = 3;
      Await([&] {
        for (size_t host = 0; host < 3; ++host) {
          if (!done[host] && Host(host).Get(waits[host]) != nullptr) holder = host;
        }
        return holder < 3;
      });
      ASSERT_LT(holder, 3U);
      ASSERT_EQ(Host(holder).Get(waits[holder])->result, 0);
      done[holder] = true;
      int counter;
      std::memcpy(&counter, memory[holder] + 128, sizeof counter);
      ASSERT_EQ(counter, 3 * round + turn);
      ++counter;
      std::memcpy(memory[holder] + 128, &counter, sizeof counter);
      Host(holder).component().BeforeSend();  // as Drain does for a registered poster
      ASSERT_EQ(Finish(holder, Host(holder).Start(abi::Operation::kSemPost, {object})).result, 0);
    }
  }
  for (size_t host = 0; host < 3; ++host) EXPECT_EQ(Host(host).fatal(), "");
}

// ---- Semaphores that one host alone uses

class LeaseTest : public IpcTest {
 protected:
  static constexpr int kMany = 40;  // more than a host needs in a row

  void SetUp() override {
    IpcTest::SetUp();
    remote_ = Fork(1, 100);
    Host(1).component().ProcessStarted(process_, nullptr);
    struct stat status {};
    fstat(object_, &status);
    const CallId made = Host(1).Start(
        abi::Operation::kSemInit,
        {0, static_cast<int64_t>(status.st_dev), static_cast<int64_t>(status.st_ino), 64, Initial()});
    object_id_ = Finish(1, made).result;
    ASSERT_GT(object_id_, 0);
    ASSERT_EQ(Finish(1, Start(1, abi::Operation::kSemGetValue)).result, Initial()) << "home has it";
  }
  virtual int64_t Initial() const { return 0; }
  void TearDown() override {
    for (size_t host = 0; host < 3; ++host) EXPECT_EQ(Host(host).fatal(), "");
    munmap(remote_, 8192);
    IpcTest::TearDown();
  }
  CallId Start(size_t host, abi::Operation operation) {
    return Host(host).Start(operation, {object_id_, -1}, {}, host == 1 ? kKnownPid : 1);
  }
  wire::Semaphore* Lease(size_t host) {
    wire::Semaphore* cell =
        wire::LeaseOf<wire::Semaphore>(&Host(host).table(), static_cast<uint64_t>(object_id_));
    return cell == nullptr || wire::IsPromoted(cell) ? nullptr : cell;
  }
  int Count(size_t host) {
    int value = -1;
    if (Lease(host) != nullptr) wire::SemaphoreGetValue(Lease(host), &value);
    return value;
  }

  const Process process_{.kernel_pid = kKnownPid, .incarnation = 0, .runs_on = 1};
  uint8_t* remote_ = nullptr;
  int64_t object_id_ = 0;
};

TEST_F(LeaseTest, PostsOnTheirWayFollowIt) {
  for (int i = 0; i < kMany; ++i) Start(1, abi::Operation::kSemPost);
  Await([&] { return Count(1) == kMany; });
  EXPECT_EQ(Finish(1, Start(1, abi::Operation::kSemPost)).result, 0);
  EXPECT_EQ(Finish(1, Start(1, abi::Operation::kSemGetValue)).result, kMany + 1);
  EXPECT_EQ(Finish(1, Start(1, abi::Operation::kSemWait)).result, wire::kTryAgain);
  EXPECT_EQ(Count(1), kMany + 1);
}

TEST_F(LeaseTest, WhoeverElseNeedsItGetsItBackWhole) {
  for (int i = 0; i < kMany; ++i) Start(1, abi::Operation::kSemPost);
  Await([&] { return Count(1) == kMany; });
  ASSERT_EQ(wire::SemaphorePost(Lease(1)), wire::SemaphoreOutcome::kDone);
  ASSERT_EQ(wire::SemaphoreWait(Lease(1)), wire::SemaphoreOutcome::kDone);
  // Both before it is back.
  const CallId home = Start(0, abi::Operation::kSemWait), other = Start(2, abi::Operation::kSemTryWait);
  EXPECT_EQ(Finish(0, home).result, 0);
  EXPECT_EQ(Finish(2, other).result, 0);
  EXPECT_EQ(Lease(1), nullptr);
  EXPECT_EQ(Finish(0, Start(0, abi::Operation::kSemGetValue)).result, kMany - 2);
  EXPECT_EQ(Finish(1, Start(1, abi::Operation::kSemWait)).result, 0);
  EXPECT_EQ(Finish(2, Start(2, abi::Operation::kSemGetValue)).result, kMany - 3);
}

TEST_F(LeaseTest, WhoWaitedAtHomeTriesAgain) {
  const CallId waiting = Start(1, abi::Operation::kSemWait);
  const CallId dead = Start(1, abi::Operation::kSemWait);
  for (int i = 0; i < kMany; ++i) Start(1, abi::Operation::kSemTryWait);
  Host(1).component().CallDropped(dead);
  EXPECT_EQ(Finish(1, waiting).result, wire::kTryAgain);
  EXPECT_EQ(Count(1), 0);
}

TEST_F(LeaseTest, AWaiterOfAnotherHostKeepsItAtHome) {
  const CallId waiting = Start(2, abi::Operation::kSemWait);
  Finish(2, Start(2, abi::Operation::kSemGetValue));
  for (int i = 0; i < kMany; ++i) Start(1, abi::Operation::kSemTryWait);
  EXPECT_EQ(Finish(1, Start(1, abi::Operation::kSemGetValue)).result, 0);
  EXPECT_EQ(Lease(1), nullptr);
  Start(1, abi::Operation::kSemPost);
  EXPECT_EQ(Finish(2, waiting).result, 0);
}

TEST_F(LeaseTest, ItGoesHomeWithTheLastProcess) {
  for (int i = 0; i < kMany; ++i) Start(1, abi::Operation::kSemPost);
  Await([&] { return Count(1) == kMany; });
  Host(1).component().Drain(process_, {.ended = true}, [] {});
  EXPECT_EQ(Lease(1), nullptr);
  EXPECT_EQ(Finish(1, Start(1, abi::Operation::kSemGetValue)).result, kMany);
  // And does not come again to where nobody is.
  for (int i = 0; i < 10 * kMany; ++i) Start(1, abi::Operation::kSemPost);
  EXPECT_EQ(Finish(1, Start(1, abi::Operation::kSemGetValue)).result, 11 * kMany);
  EXPECT_EQ(Lease(1), nullptr);
}

TEST_F(LeaseTest, HomeHasOneToo) {
  for (int i = 0; i < kMany; ++i) Start(0, abi::Operation::kSemPost);
  EXPECT_EQ(Count(0), kMany);
  EXPECT_EQ(Finish(1, Start(1, abi::Operation::kSemWait)).result, 0);
  EXPECT_EQ(Lease(0), nullptr);
  EXPECT_EQ(Finish(0, Start(0, abi::Operation::kSemGetValue)).result, kMany - 1);
}

TEST_F(LeaseTest, DestroyedItIsNobodys) {
  for (int i = 0; i < kMany; ++i) Start(1, abi::Operation::kSemPost);
  Await([&] { return Count(1) == kMany; });
  EXPECT_EQ(Finish(0, Start(0, abi::Operation::kSemDestroy)).result, 0);
  Await([&] { return Lease(1) == nullptr; });
  EXPECT_EQ(Finish(1, Start(1, abi::Operation::kSemTryWait)).error, EINVAL);
}

// ---- Large counts, of which every host has a part

class ShareTest : public LeaseTest {
 protected:
  static constexpr int64_t kLarge = wire::kSemaphoreMaximum;

  int64_t Initial() const override { return kLarge; }
  wire::SemaphoreShare* Part(size_t host) {
    auto* part = wire::LeaseOf<wire::SemaphoreShare>(&Host(host).table(), static_cast<uint64_t>(object_id_));
    return part == nullptr || wire::share_detail::IsMarked(part->data.load()) ? nullptr : part;
  }
  int Value(size_t host) {
    int value = -1;
    if (Part(host) != nullptr) wire::ShareGetValue(Part(host), &value);
    return value;
  }
  // Host 1 takes until it has a part. How many it took.
  int Share() {
    int taken = 0;
    for (; taken < kMany && Part(1) == nullptr; ++taken) {
      if (Finish(1, Start(1, abi::Operation::kSemTryWait)).result != 0) break;
      Finish(1, Start(1, abi::Operation::kSemGetValue));
    }
    EXPECT_NE(Part(1), nullptr);
    return taken;
  }
  int64_t Whole() {
    return uint64_t{wire::ShareLook(Part(0)).count} + wire::ShareLook(Part(0)).room +
           wire::ShareLook(Part(1)).count + wire::ShareLook(Part(1)).room;
  }
};

TEST_F(ShareTest, PartsAreTheWholeAndEachKnowsTheValue) {
  const int taken = Share();
  EXPECT_EQ(Value(1), kLarge - taken);
  EXPECT_EQ(Value(0), kLarge - taken);
  EXPECT_EQ(Whole(), kLarge);
  ASSERT_TRUE(wire::ShareTake(Part(1)));
  Host(1).component().BeforeSend();
  Await([&] { return Value(0) == kLarge - taken - 1; });
  EXPECT_EQ(Whole(), kLarge);
}

TEST_F(ShareTest, RoomGoesWhereTheNewsGoes) {
  const int taken = Share();
  int room = 0;
  for (size_t host = 0; host < 2; ++host) {
    while (wire::SharePost(Part(host))) ++room;
  }
  EXPECT_EQ(room, taken);
  Host(1).component().BeforeSend();
  Await([&] { return Value(0) == kLarge; });
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(wire::ShareTake(Part(1)));
  EXPECT_FALSE(wire::SharePost(Part(0)));
  Host(1).component().BeforeSend();
  Await([&] { return wire::ShareLook(Part(0)).room == 5; });
  EXPECT_EQ(wire::ShareLook(Part(1)).room, 0);
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(wire::SharePost(Part(0)));
  EXPECT_EQ(Value(0), kLarge);
  // Beyond the maximum it does not go: all parts are at home for that answer.
  EXPECT_EQ(Finish(0, Start(0, abi::Operation::kSemPost)).error, EOVERFLOW);
  EXPECT_EQ(Part(0), nullptr);
  EXPECT_EQ(Part(1), nullptr);
  EXPECT_EQ(Finish(1, Start(1, abi::Operation::kSemGetValue)).result, kLarge);
}

TEST_F(ShareTest, AHostWithoutAPartIsServedFromHomes) {
  const int taken = Share();
  EXPECT_EQ(Finish(2, Start(2, abi::Operation::kSemWait)).result, 0);
  EXPECT_EQ(Finish(2, Start(2, abi::Operation::kSemGetValue)).result, kLarge - taken - 1);
  EXPECT_EQ(Finish(2, Start(2, abi::Operation::kSemPost)).result, 0);
  EXPECT_EQ(Value(0), kLarge - taken);
  EXPECT_NE(Part(1), nullptr);
}

TEST_F(ShareTest, TheLastOneIsFoundWhereverItIs) {
  const int taken = Share();
  // Home's part is used up; the other host has tokens.
  const wire::SemaphorePart home = wire::ShareTakeAll(Part(0));
  auto* cell = wire::LeaseOf<wire::SemaphoreShare>(&Host(0).table(), static_cast<uint64_t>(object_id_));
  wire::SharePut(cell, static_cast<uint64_t>(object_id_), {0, home.room + home.count});
  EXPECT_EQ(Finish(0, Start(0, abi::Operation::kSemTryWait)).result, 0);
  EXPECT_EQ(Part(1), nullptr);
  EXPECT_EQ(Finish(0, Start(0, abi::Operation::kSemGetValue)).result, kLarge - taken - home.count - 1);
}

TEST_F(ShareTest, APartGoesHomeWithTheLastProcess) {
  const int taken = Share();
  ASSERT_TRUE(wire::ShareTake(Part(1)));
  Host(1).component().Drain(process_, {.ended = true}, [] {});
  EXPECT_EQ(Part(1), nullptr);
  Await([&] { return wire::ShareLook(Part(0)).count == kLarge - taken - 1; });
  EXPECT_EQ(Value(0), kLarge - taken - 1);
}

TEST_F(ShareTest, DestroyedItIsNobodys) {
  Share();
  EXPECT_EQ(Finish(1, Start(1, abi::Operation::kSemDestroy)).result, 0);
  Await([&] { return Part(0) == nullptr && Part(1) == nullptr; });
  EXPECT_EQ(Finish(1, Start(1, abi::Operation::kSemTryWait)).error, EINVAL);
}

TEST_F(IpcTest, WaitsEndAsTheyShould) {
  struct stat status {};
  fstat(object_, &status);
  uint8_t* remote = Fork(1, 100);
  // Made after the segment is shared: promoted from the start.
  const CallId made = Host(1).Start(abi::Operation::kSemInit, {0, static_cast<int64_t>(status.st_dev),
                                                               static_cast<int64_t>(status.st_ino), 64, 0});
  const int64_t object = Finish(1, made).result;
  ASSERT_GT(object, 0);
  EXPECT_EQ(Finish(1, Host(1).Start(abi::Operation::kSemTryWait, {object})).error, EAGAIN);
  EXPECT_EQ(Finish(0, Host(0).Start(abi::Operation::kSemWait, {object, CLOCK_REALTIME, 1, 0})).error,
            ETIMEDOUT);
  timespec soon{};
  clock_gettime(CLOCK_MONOTONIC, &soon);
  soon.tv_nsec += 20'000'000;
  EXPECT_EQ(
      Finish(0, Host(0).Start(abi::Operation::kSemWait, {object, CLOCK_MONOTONIC, soon.tv_sec, soon.tv_nsec}))
          .error,
      ETIMEDOUT);
  const CallId interrupted = Host(1).Start(abi::Operation::kSemWait, {object, -1});
  Host(1).component().CallCancelled(interrupted);
  EXPECT_EQ(Finish(1, interrupted).error, EINTR);
  EXPECT_EQ(Finish(0, Host(0).Start(abi::Operation::kSemGetValue, {object})).result, 0);

  // A waiter that dies takes nothing with it, whether its grant was on the way or not.
  for (const bool posted_first : {false, true}) {
    const CallId dying = Host(1).Start(abi::Operation::kSemWait, {object, -1});
    if (posted_first) Host(1).Start(abi::Operation::kSemPost, {object});
    Host(1).component().CallDropped(dying);
    if (!posted_first) Host(1).Start(abi::Operation::kSemPost, {object});
    const CallId other = Host(0).Start(abi::Operation::kSemWait, {object, -1});
    EXPECT_EQ(Finish(0, other).result, 0) << posted_first;
  }
  // Nor does one that dies after its grant and before it looked at it; one that had looked has the token.
  for (const bool looked : {false, true}) {
    const CallId granted = Host(1).Start(abi::Operation::kSemWait, {object, -1}, {}, kKnownPid);
    Host(1).Start(abi::Operation::kSemPost, {object});
    EXPECT_EQ(Finish(1, granted).result, 0);
    abi::Slot& slot = Host(1).table().slots[granted.slot];
    slot.operation = static_cast<uint32_t>(abi::Operation::kSemWait);
    slot.owner = kKnownPid;
    slot.arguments[0] = object;
    slot.state = static_cast<uint32_t>(looked ? abi::SlotState::kFree : abi::SlotState::kDone);
    Host(1).component().ProcessGone({.kernel_pid = kKnownPid});
    const CallId next = Host(1).Start(abi::Operation::kSemTryWait, {object});
    EXPECT_EQ(Finish(1, next).error, looked ? EAGAIN : 0);
  }
  EXPECT_EQ(Finish(0, Host(0).Start(abi::Operation::kSemDestroy, {object})).result, 0);
  EXPECT_EQ(Finish(0, Host(0).Start(abi::Operation::kSemTryWait, {object})).error, EINVAL);

  // Near its maximum a semaphore's posts are answered by home.
  const CallId full = Host(1).Start(
      abi::Operation::kSemInit, {0, static_cast<int64_t>(status.st_dev), static_cast<int64_t>(status.st_ino),
                                 96, wire::kSemaphoreMaximum});
  EXPECT_EQ(Finish(1, Host(1).Start(abi::Operation::kSemPost, {Finish(1, full).result})).error, EOVERFLOW);
  munmap(remote, 8192);
}

// Natively nobody dies between being given a mutex and having it.
TEST_F(IpcTest, AMutexWhoseNextOwnerDiesBeforeItLookedIsFree) {
  struct stat status {};
  ASSERT_EQ(fstat(object_, &status), 0);
  uint8_t* remote = Fork(1, 100);
  const auto action = [](wire::SharedAction which) { return static_cast<int64_t>(which); };
  const int64_t mutex =
      Finish(1, Host(1).Start(abi::Operation::kSharedMake, {static_cast<int64_t>(wire::SharedKind::kMutex), 0,
                                                            static_cast<int64_t>(status.st_dev),
                                                            static_cast<int64_t>(status.st_ino), 256}))
          .result;
  ASSERT_GT(mutex, 0);
  for (const bool looked : {false, true}) {
    const CallId granted = Host(1).Start(abi::Operation::kSharedAct,
                                         {mutex, action(wire::SharedAction::kLock), 0, -1}, {}, kKnownPid);
    EXPECT_EQ(Finish(1, granted).error, 0);
    abi::Slot& slot = Host(1).table().slots[granted.slot];
    slot.operation = static_cast<uint32_t>(abi::Operation::kSharedAct);
    slot.owner = slot.thread = kKnownPid;
    slot.arguments[0] = mutex;
    slot.arguments[1] = action(wire::SharedAction::kLock);
    slot.state = static_cast<uint32_t>(looked ? abi::SlotState::kFree : abi::SlotState::kDone);
    Host(1).component().ProcessGone({.kernel_pid = kKnownPid});
    // A lock that is free is got, however late the word of it comes; one that is held is so for ever.
    const auto asks = looked ? wire::SharedAction::kTryLock : wire::SharedAction::kLock;
    const CallId next = Host(0).Start(abi::Operation::kSharedAct, {mutex, action(asks), 0, -1});
    EXPECT_EQ(Finish(0, next).error, looked ? EBUSY : 0);
    if (!looked)
      Finish(0,
             Host(0).Start(abi::Operation::kSharedAct, {mutex, action(wire::SharedAction::kUnlock), 0, -1}));
  }
  munmap(remote, 8192);
}

TEST_F(IpcTest, NamesBelongToTheSession) {
  constexpr int64_t kCreate = O_CREAT, kExclusive = O_CREAT | O_EXCL;
  EXPECT_EQ(Finish(0, Host(0).Start(abi::Operation::kSemOpen, {0, 0, 0}, "lock")).error, ENOENT);
  const int64_t cell =
      Finish(0, Host(0).Start(abi::Operation::kSemOpen, {kExclusive, 0600, 1}, "lock")).result;
  ASSERT_GE(cell, 0);
  EXPECT_EQ(Finish(0, Host(0).Start(abi::Operation::kSemOpen, {kExclusive, 0600, 1}, "lock")).error, EEXIST);
  auto* word = reinterpret_cast<wire::Semaphore*>(Host(0).table().cells[cell].word);
  EXPECT_FALSE(wire::IsPromoted(word)) << "one host alone asks nobody";

  // The parent's child goes to a worker and finds the cell promoted there, under the same number.
  uint8_t* remote = Fork(1, 100);
  EXPECT_TRUE(wire::IsPromoted(word));
  auto* there = reinterpret_cast<wire::Semaphore*>(Host(1).table().cells[cell].word);
  EXPECT_TRUE(wire::IsPromoted(there));
  EXPECT_EQ(there->object.load(), word->object.load());

  // Opened by name on a worker: the same semaphore.
  const Incarnation caller = wire::MakeIncarnation(0, 100);
  EXPECT_EQ(Finish(1, Host(1).Start(abi::Operation::kSemOpen, {kCreate, 0600, 5}, "lock", 7, caller)).result,
            cell);
  const int64_t made =
      Finish(1, Host(1).Start(abi::Operation::kSemOpen, {kCreate, 0600, 5}, "new", 7, caller)).result;
  ASSERT_GE(made, 0);
  const auto object = static_cast<int64_t>(
      reinterpret_cast<wire::Semaphore*>(Host(1).table().cells[made].word)->object.load());
  EXPECT_EQ(Finish(0, Host(0).Start(abi::Operation::kSemGetValue, {object})).result, 5);

  // Unlinked, the cell is free when its last holder is gone, and not before.
  EXPECT_EQ(Finish(1, Host(1).Start(abi::Operation::kSemUnlink, {}, "lock", 7, caller)).result, 0);
  EXPECT_EQ(Finish(1, Host(1).Start(abi::Operation::kSemUnlink, {}, "lock", 7, caller)).error, ENOENT);
  EXPECT_EQ(Finish(0, Host(0).Start(abi::Operation::kSemClose, {cell})).result, 0);
  EXPECT_TRUE(wire::IsOurs(word)) << "the remote child has it";
  Host(0).component().ProcessGone(*Host(0).FindProcess(caller));
  EXPECT_FALSE(wire::IsOurs(word));
  munmap(remote, 8192);
}

TEST_F(IpcTest, AChildHoldsWhatItsParentSays) {
  const int64_t cell = Finish(0, Host(0).Start(abi::Operation::kSemOpen, {O_CREAT, 0600, 1}, "lock")).result;
  auto* word = reinterpret_cast<wire::Semaphore*>(Host(0).table().cells[cell].word);
  const auto number = static_cast<uint32_t>(cell);
  const std::string_view told(reinterpret_cast<const char*>(&number), sizeof number);
  Finish(0, Host(0).Start(abi::Operation::kSemInherit, {55, 1}, told));
  Finish(0, Host(0).Start(abi::Operation::kSemUnlink, {}, "lock"));
  Finish(0, Host(0).Start(abi::Operation::kSemClose, {cell}));
  EXPECT_TRUE(wire::IsOurs(word));
  Host(0).component().ProcessGone(Process{.kernel_pid = 55});
  EXPECT_FALSE(wire::IsOurs(word));
}

}  // namespace
}  // namespace elsewhere::runtime
