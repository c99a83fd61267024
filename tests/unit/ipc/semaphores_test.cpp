// Semaphores at the broker, with several simulated hosts on one real server.
#include "shim/ipc/semaphores.h"

#include <fcntl.h>

#include <map>
#include <random>

#include "shim/broker/inbox.h"
#include "shim/broker/session_keys.h"
#include "tests/unit/broker/redis_fixture.h"

namespace elsewhere::ipc {
namespace {

using broker::InboxReader;
using broker::RedisConnection;
using broker::testing::Loop;
using broker::testing::PrivateRedisTest;

const broker::SessionKeys kKeys("5e5510");

std::vector<uint8_t> EncodeGrant(uint64_t object, uint64_t waiter) {
  const std::string text = std::to_string(object) + " " + std::to_string(waiter);
  return {text.begin(), text.end()};
}

// A host: its connection, its inbox, its semaphores.
struct Host {
  Host(HostId number, const broker::ConnectionOptions& options, Loop* loop) {
    const auto on_lost = [this](const Error& why) { failure = why.message; };
    connection = std::move(RedisConnection::Open(options, on_lost).value());
    loop->Add(connection->fd(), [this] { connection->OnReadable(); });
    broker::ConnectionOptions inbox_options = options;
    inbox_options.scripts.clear();
    const auto on_message = [this](const InboxReader::Message& message) {
      grants.emplace_back(message.bytes);
      if (on_grant) on_grant(grants.back());
    };
    inbox = std::move(InboxReader::Open(inbox_options, kKeys, number, on_message, on_lost).value());
    loop->Add(inbox->fd(), [this] { inbox->OnReadable(); });
    semaphores = std::make_unique<Semaphores>(*connection, kKeys, number, EncodeGrant, on_lost);
  }

  std::string failure;
  std::vector<std::string> grants;
  std::function<void(const std::string&)> on_grant;
  std::unique_ptr<Semaphores> semaphores;
  std::unique_ptr<RedisConnection> connection;
  std::unique_ptr<InboxReader> inbox;
};

class SemaphoresTest : public PrivateRedisTest {
 protected:
  static constexpr HostId kHosts = 4;

  void SetUp() override {
    PrivateRedisTest::SetUp();
    sync_ = Sync();
    ASSERT_TRUE(broker::CreateSession(*sync_, kKeys, "secret").ok());
    broker::ConnectionOptions options = Options();
    options.patience = std::chrono::seconds(10);
    options.scripts = {SemaphoreScript().body()};
    for (HostId host = 0; host < kHosts; ++host) {
      ASSERT_TRUE(broker::JoinHost(*sync_, kKeys, host).ok());
      hosts_.push_back(std::make_unique<Host>(host, options, &loop_));
    }
  }

  Semaphores& At(size_t host) { return *hosts_[host]->semaphores; }

  // Runs an operation that ends with an errno value, and waits for it.
  template <class Start>
  int Do(Start start) {
    int answer = -1;
    start([&answer](int error) { answer = error; });
    EXPECT_TRUE(loop_.RunUntil([&] { return answer != -1 || AnyFailure(); }));
    return answer;
  }
  int Create(size_t host, uint64_t object, uint32_t value) {
    return Do([&](auto done) { At(host).Create(object, value, done); });
  }
  int Post(size_t host, uint64_t object) {
    return Do([&](auto done) { At(host).Post(object, done); });
  }
  int Wait(size_t host, uint64_t object, uint64_t waiter) {
    return Do([&](auto done) { At(host).Wait(object, waiter, done); });
  }
  int TryWait(size_t host, uint64_t object, uint64_t waiter) {
    return Do([&](auto done) { At(host).TryWait(object, waiter, done); });
  }
  bool Cancel(size_t host, uint64_t object, uint64_t waiter) {
    return Do([&](auto done) {
             At(host).Cancel(object, waiter, [done](bool removed) { done(removed ? 1 : 0); });
           }) == 1;
  }
  int Value(uint64_t object) {
    int answer = -2;
    At(0).GetValue(object, [&](int error, int value) { answer = error == 0 ? value : -error; });
    EXPECT_TRUE(loop_.RunUntil([&] { return answer != -2; }));
    return answer;
  }
  std::pair<int, Semaphores::Named> Open(size_t host, std::string_view name, int flags, uint64_t new_object,
                                         uint32_t value = 0) {
    std::pair<int, Semaphores::Named> answer{-1, {}};
    At(host).Open(name, flags, 0640, value, new_object, [&](int error, const Semaphores::Named& named) {
      answer = {error, named};
    });
    EXPECT_TRUE(loop_.RunUntil([&] { return answer.first != -1; }));
    return answer;
  }

  bool AwaitGrants(size_t host, size_t count) {
    return loop_.RunUntil([&] { return hosts_[host]->grants.size() >= count || AnyFailure(); });
  }
  bool AnyFailure() const {
    return std::any_of(hosts_.begin(), hosts_.end(), [](const auto& host) { return !host->failure.empty(); });
  }

  Loop loop_;
  std::unique_ptr<broker::SyncClient> sync_;
  std::vector<std::unique_ptr<Host>> hosts_;
};

TEST_F(SemaphoresTest, CountsAndAnswersWithExactErrors) {
  EXPECT_EQ(Create(0, 7, 2), 0);
  EXPECT_EQ(Create(1, 7, 5), EEXIST);
  EXPECT_EQ(Value(7), 2);
  EXPECT_EQ(Wait(1, 7, 100), 0);
  EXPECT_EQ(TryWait(2, 7, 100), 0);
  EXPECT_EQ(TryWait(2, 7, 101), EAGAIN);
  EXPECT_TRUE(AwaitGrants(1, 1));
  EXPECT_TRUE(AwaitGrants(2, 1));
  EXPECT_EQ(hosts_[1]->grants[0], "7 100");
  EXPECT_EQ(Value(7), 0);
  EXPECT_EQ(Post(3, 7), 0);
  EXPECT_EQ(Value(7), 1);

  EXPECT_EQ(Post(0, 8), EINVAL);
  EXPECT_EQ(Wait(0, 8, 1), EINVAL);
  EXPECT_EQ(TryWait(0, 8, 1), EINVAL);
  EXPECT_EQ(Value(8), -EINVAL);
  EXPECT_EQ(Create(0, 9, 0x7fffffff), 0);
  EXPECT_EQ(Post(0, 9), EOVERFLOW);
  EXPECT_EQ(Value(9), 0x7fffffff);
  EXPECT_EQ(Do([&](auto done) { At(1).Destroy(9, done); }), 0);
  EXPECT_EQ(Do([&](auto done) { At(1).Destroy(9, done); }), EINVAL);
  EXPECT_EQ(Post(0, 9), EINVAL);
}

TEST_F(SemaphoresTest, ServesWaitersInTheOrderOfTheirWaits) {
  ASSERT_EQ(Create(0, 1, 0), 0);
  ASSERT_EQ(Create(0, 2, 0), 0);
  std::vector<std::string> order;
  for (auto& host : hosts_) host->on_grant = [&](const std::string& grant) { order.push_back(grant); };
  std::vector<std::string> expected;
  for (uint64_t waiter = 0; waiter < 40; ++waiter) {
    ASSERT_EQ(Wait((waiter * 7) % kHosts, 1, waiter), 0);
    ASSERT_EQ(Wait(0, 2, 1000 + waiter), 0);  // another semaphore's queue in between
    expected.push_back("1 " + std::to_string(waiter));
  }
  EXPECT_EQ(Value(1), 0);
  for (size_t i = 0; i < 40; ++i) {
    ASSERT_EQ(Post(3, 1), 0);
    ASSERT_TRUE(loop_.RunUntil([&] { return order.size() == i + 1; }));
  }
  EXPECT_EQ(order, expected);
  EXPECT_EQ(Post(3, 1), 0);
  EXPECT_EQ(Value(1), 1);
}

TEST_F(SemaphoresTest, ACancelledWaiterIsSkippedAndAGrantedOneIsTold) {
  ASSERT_EQ(Create(0, 1, 0), 0);
  for (uint64_t waiter = 1; waiter <= 3; ++waiter) ASSERT_EQ(Wait(1, 1, waiter), 0);
  EXPECT_TRUE(Cancel(1, 1, 2));
  EXPECT_FALSE(Cancel(2, 1, 1));  // another host's waiter of the same name
  EXPECT_EQ(Post(0, 1), 0);
  EXPECT_EQ(Post(0, 1), 0);
  EXPECT_FALSE(Cancel(1, 1, 1));
  ASSERT_TRUE(AwaitGrants(1, 2));
  EXPECT_EQ(hosts_[1]->grants, (std::vector<std::string>{"1 1", "1 3"}));
  EXPECT_EQ(Value(1), 0);
}

TEST_F(SemaphoresTest, AHostThatLeftLosesNoPost) {
  ASSERT_EQ(Create(0, 1, 0), 0);
  ASSERT_EQ(Create(0, 2, 0), 0);
  ASSERT_EQ(Wait(3, 1, 1), 0);
  ASSERT_EQ(Wait(3, 2, 2), 0);
  ASSERT_EQ(Wait(1, 1, 3), 0);
  ASSERT_EQ(Do([&](auto done) { At(0).ForgetHost(3, done); }), 0);
  EXPECT_EQ(Post(0, 1), 0);
  ASSERT_TRUE(AwaitGrants(1, 1));
  EXPECT_EQ(Post(0, 2), 0);
  EXPECT_EQ(Value(2), 1);
  EXPECT_TRUE(hosts_[3]->grants.empty());

  // Left without anybody noticing: only its inbox is gone.
  ASSERT_EQ(Wait(2, 1, 4), 0);
  ASSERT_EQ(Wait(1, 1, 5), 0);
  ASSERT_TRUE(sync_->Command({"DEL", kKeys.inbox(2)}).ok());
  EXPECT_EQ(Post(0, 1), 0);
  ASSERT_TRUE(AwaitGrants(1, 2));
  EXPECT_EQ(Value(1), 0);
}

TEST_F(SemaphoresTest, NamesAreCreatedOnceAndUnlinked) {
  EXPECT_EQ(Open(0, "/a", 0, 0).first, ENOENT);
  const auto made = Open(0, "/a", O_CREAT | O_EXCL, 50, 3);
  EXPECT_EQ(made.first, 0);
  EXPECT_TRUE(made.second.created);
  EXPECT_EQ(made.second.object, 50u);
  EXPECT_EQ(made.second.mode, 0640u);
  EXPECT_EQ(Open(1, "/a", O_CREAT | O_EXCL, 51).first, EEXIST);
  const auto found = Open(1, "/a", O_CREAT, 51, 9);
  EXPECT_EQ(found.first, 0);
  EXPECT_FALSE(found.second.created);
  EXPECT_EQ(found.second.object, 50u);
  EXPECT_EQ(Value(50), 3);
  EXPECT_EQ(Do([&](auto done) { At(2).Unlink("/a", done); }), 0);
  EXPECT_EQ(Do([&](auto done) { At(2).Unlink("/a", done); }), ENOENT);
  EXPECT_EQ(Open(1, "/a", 0, 0).first, ENOENT);
  EXPECT_EQ(Post(1, 50), 0);  // lives on for those who have it
  EXPECT_EQ(Open(2, "/a", O_CREAT, 52, 1).second.object, 52u);
  EXPECT_EQ(Open(3, "name;with=odd:bytes", O_CREAT, 53).first, 0);
}

TEST_F(SemaphoresTest, AFlushedScriptChangesNothing) {
  ASSERT_EQ(Create(0, 1, 0), 0);
  int answers = 0;
  for (int i = 0; i < 300; ++i) {
    if (i % 50 == 0) hosts_[0]->connection->Command({"SCRIPT", "FLUSH"}, nullptr);
    At(0).Post(1, [&](int error) { answers += error == 0 ? 1 : 1000; });
    if (i % 20 == 0) loop_.RunUntil([&] { return answers > i / 2; });
  }
  ASSERT_TRUE(loop_.RunUntil([&] { return answers >= 300; }));
  EXPECT_EQ(answers, 300);
  EXPECT_EQ(Value(1), 300);
}

TEST_F(SemaphoresTest, MalformedDataNamesItsKey) {
  ASSERT_EQ(Create(0, 1, 0), 0);
  ASSERT_TRUE(sync_->Command({"HSET", kKeys.semaphores(), "c0000000000000001", "rubbish"}).ok());
  EXPECT_EQ(Post(0, 1), -1);
  EXPECT_NE(hosts_[0]->failure.find(kKeys.semaphores()), std::string::npos) << hosts_[0]->failure;
  hosts_[0]->failure.clear();
  ASSERT_TRUE(sync_->Command({"SET", kKeys.semaphores(), "a string"}).ok());
  EXPECT_EQ(Post(1, 1), -1);
  EXPECT_NE(hosts_[1]->failure.find("WRONGTYPE"), std::string::npos);
}

// Random operations of four hosts while every connection is cut again and again. Afterwards every token is
// somewhere.
TEST_F(SemaphoresTest, IsExactlyOnceAcrossBrokenConnections) {
  constexpr uint64_t kObjects = 3;
  constexpr int kInitial = 2;
  for (uint64_t object = 1; object <= kObjects; ++object) ASSERT_EQ(Create(0, object, kInitial), 0);

  std::mt19937 random(20);
  std::map<uint64_t, int> posted;
  int issued = 0, answered = 0, trials = 0, refused = 0, cancels = 0, removed = 0, waits = 0;
  std::vector<std::array<uint64_t, 3>> cancellable;
  uint64_t next_waiter = 1;
  for (int round = 0; round < 60; ++round) {
    for (int i = 0; i < 40; ++i) {
      const size_t host = random() % kHosts;
      const uint64_t object = 1 + random() % kObjects;
      ++issued;
      switch (random() % 5) {
        case 0:
          ++posted[object];
          At(host).Post(object, [&](int error) { answered += error == 0 ? 1 : 100'000; });
          break;
        case 1:
        case 2:
          ++waits;
          cancellable.push_back({host, object, next_waiter});
          At(host).Wait(object, next_waiter++, [&](int error) { answered += error == 0 ? 1 : 100'000; });
          break;
        case 3:
          ++trials;
          At(host).TryWait(object, next_waiter++, [&](int error) {
            ++answered;
            refused += error == EAGAIN ? 1 : 0;
          });
          break;
        case 4:
          if (cancellable.empty()) {
            --issued;
            break;
          }
          std::swap(cancellable[random() % cancellable.size()], cancellable.back());
          ++cancels;
          At(cancellable.back()[0])
              .Cancel(cancellable.back()[1], cancellable.back()[2], [&](bool was_removed) {
                ++answered;
                removed += was_removed ? 1 : 0;
              });
          cancellable.pop_back();
          break;
      }
    }
    if (round % 2 == 0) loop_.RunUntil([&] { return answered > issued - 30; });
    ASSERT_TRUE(sync_->Command({"CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"}).ok());
  }
  ASSERT_TRUE(loop_.RunUntil([&] { return answered >= issued || AnyFailure(); }));
  ASSERT_FALSE(AnyFailure());
  ASSERT_EQ(answered, issued);

  // Let everybody who still waits through, then compare.
  int left = 0, total_posted = 0;
  for (uint64_t object = 1; object <= kObjects; ++object) {
    for (int i = 0; i < waits; ++i) ASSERT_EQ(Post(0, object), 0);
    left += Value(object);
    total_posted += posted[object] + waits + kInitial;
  }
  const size_t expected = static_cast<size_t>(waits - removed + trials - refused);
  size_t granted = 0;
  ASSERT_TRUE(loop_.RunUntil([&] {
    granted = 0;
    for (const auto& host : hosts_) granted += host->grants.size();
    return granted >= expected;
  })) << granted
      << " of " << expected;
  EXPECT_EQ(granted, expected);
  EXPECT_EQ(total_posted, static_cast<int>(granted) + left);
  EXPECT_GT(removed, 0);
  EXPECT_LT(removed, cancels);
  EXPECT_GT(refused, 0);
}

}  // namespace
}  // namespace elsewhere::ipc
