// What is in a queue that is lent, on this kernel's System V queues.
#include "runtime/ipc/lent_queues.h"

#include <gtest/gtest.h>
#include <sys/msg.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <functional>

namespace elsewhere::runtime {
namespace {

constexpr uint32_t kRoom = 24;
constexpr uint32_t kCapacity = 3;

wire::QueuedMessage Message(uint32_t priority, const std::string& text) {
  return {priority, {text.begin(), text.end()}};
}
std::string TextOf(const wire::QueuedMessage& message) {
  return std::to_string(message.priority) + std::string(message.bytes.begin(), message.bytes.end());
}

struct Raw {
  int64_t type = 0;
  uint8_t bytes[64] = {};
  explicit Raw(int number = 0) : type(abi::LentType(0, static_cast<uint64_t>(number) + 1)) {}
};

pid_t InChild(const std::function<int()>& run) {
  const pid_t child = fork();
  if (child == 0) _exit(run());
  return child;
}
int StatusOf(pid_t child) {
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
// It sleeps in the queue: its kernel says which call it is in.
void AwaitSleep(pid_t child) {
  const std::string path = "/proc/" + std::to_string(child) + "/syscall";
  for (;;) {
    char text[32] = "";
    FILE* file = fopen(path.c_str(), "re");
    if (file == nullptr) return;
    const bool read = fgets(text, sizeof text, file) != nullptr;
    fclose(file);
    if (read && (std::atoi(text) == 69 || std::atoi(text) == 70)) return;  // msgsnd, msgrcv
  }
}

TEST(LentQueue, KeepsPrioritiesAndTheOrderWithin) {
  const int id = MakeLentQueue(kRoom, 6);
  ASSERT_GE(id, 0);
  uint64_t time = 0;
  for (const auto& [priority, text] : std::vector<std::pair<uint32_t, const char*>>{
           {0, "a"}, {7, "b"}, {32767, ""}, {7, "c"}, {0, "d"}, {7, "e"}}) {
    EXPECT_TRUE(PutIntoLentQueue(id, kRoom, Message(priority, text), ++time));
  }
  std::vector<std::string> all;
  for (const auto& message : TakeLentQueue(id, kRoom)) all.push_back(TextOf(message));
  EXPECT_EQ(all, (std::vector<std::string>{"32767", "7b", "7c", "7e", "0a", "0d"}));
}

TEST(LentQueue, HasRoomForItsCapacityHoweverSmallTheMessages) {
  const int id = MakeLentQueue(kRoom, kCapacity);
  ASSERT_GE(id, 0);
  for (uint32_t i = 0; i < kCapacity; ++i) EXPECT_TRUE(PutIntoLentQueue(id, kRoom, Message(i, ""), i));
  EXPECT_FALSE(PutIntoLentQueue(id, kRoom, Message(0, ""), 7));
  EXPECT_FALSE(PutIntoLentQueue(id, kRoom, Message(abi::kLentPriorities, ""), 7));
  EXPECT_EQ(TakeLentQueue(id, kRoom).size(), kCapacity);
}

TEST(LentQueue, WhoSleepsInItWakesWhenItGoesAndHasDoneNothing) {
  const int full = MakeLentQueue(kRoom, 1), empty = MakeLentQueue(kRoom, 1);
  ASSERT_TRUE(full >= 0 && empty >= 0);
  ASSERT_TRUE(PutIntoLentQueue(full, kRoom, Message(1, "first"), 7));
  const uint32_t size = abi::LentMessageBytes(kRoom);
  const pid_t sender = InChild([=] {
    const Raw raw;
    return msgsnd(full, &raw, size, 0) == 0 ? 0 : errno;
  });
  const pid_t receiver = InChild([=] {
    Raw raw;
    return msgrcv(empty, &raw, size, abi::kAnyLentType, 0) >= 0 ? 0 : errno;
  });
  AwaitSleep(sender);
  AwaitSleep(receiver);
  const auto messages = TakeLentQueue(full, kRoom);
  ASSERT_EQ(messages.size(), 1U);
  EXPECT_EQ(TextOf(messages[0]), "1first");
  EXPECT_TRUE(TakeLentQueue(empty, kRoom).empty());
  EXPECT_EQ(StatusOf(sender), EIDRM);
  EXPECT_EQ(StatusOf(receiver), EIDRM);
}

TEST(LentQueue, AStoppedSleeperHoldsNothingUp) {
  const int id = MakeLentQueue(kRoom, 1);
  ASSERT_GE(id, 0);
  const pid_t receiver = InChild([=] {
    Raw raw;
    return msgrcv(id, &raw, abi::LentMessageBytes(kRoom), abi::kAnyLentType, 0) >= 0 ? 0 : errno;
  });
  AwaitSleep(receiver);
  kill(receiver, SIGSTOP);
  int status = 0;
  waitpid(receiver, &status, WUNTRACED);
  EXPECT_TRUE(TakeLentQueue(id, kRoom).empty());
  kill(receiver, SIGCONT);
  const int status_of_call = StatusOf(receiver);
  EXPECT_TRUE(status_of_call == EIDRM || status_of_call == EINVAL);  // the call was made anew
}

// What senders were told is sent is in what is taken, whenever that happens.
TEST(LentQueue, NoMessageIsLostWhileSendersRun) {
  for (int round = 0; round < 50; ++round) {
    const int id = MakeLentQueue(kRoom, 400);
    ASSERT_GE(id, 0);
    int told[2];
    ASSERT_EQ(pipe(told), 0);
    const pid_t sender = InChild([=] {
      int sent = 0;
      for (Raw raw; msgsnd(id, &raw, abi::LentMessageBytes(kRoom), 0) == 0; raw = Raw(sent)) {
        if (++sent == 3 && write(told[1], "3", 1) != 1) return 1;
      }
      return write(told[1], &sent, sizeof sent) == sizeof sent ? 0 : 1;
    });
    char three = 0;
    ASSERT_EQ(read(told[0], &three, 1), 1);
    const auto messages = TakeLentQueue(id, kRoom);
    int sent = 0;
    ASSERT_EQ(read(told[0], &sent, sizeof sent), static_cast<ssize_t>(sizeof sent));
    EXPECT_EQ(messages.size(), static_cast<size_t>(sent));
    EXPECT_EQ(StatusOf(sender), 0);
    close(told[0]);
    close(told[1]);
  }
}

// Receivers go on while it is taken: what they get is before all that is taken, and nothing is missing.
TEST(LentQueue, ReceiversGetTheFirstWhileItIsTaken) {
  constexpr int kMessages = 300;
  for (int round = 0; round < 50; ++round) {
    const int id = MakeLentQueue(kRoom, kMessages);
    ASSERT_GE(id, 0);
    for (int i = 0; i < kMessages; ++i) {
      const Raw raw(i);
      ASSERT_EQ(msgsnd(id, &raw, abi::LentMessageBytes(kRoom), IPC_NOWAIT), 0);
    }
    int told[2];
    ASSERT_EQ(pipe(told), 0);
    const pid_t receiver = InChild([=] {
      int next = 0;
      for (Raw raw; msgrcv(id, &raw, abi::LentMessageBytes(kRoom), abi::kAnyLentType, 0) >= 0; ++next) {
        if (raw.type != Raw(next).type || (next == 3 && write(told[1], "3", 1) != 1)) return 1;
      }
      return write(told[1], &next, sizeof next) == sizeof next ? 0 : 1;
    });
    char three = 0;
    ASSERT_EQ(read(told[0], &three, 1), 1);
    const auto messages = TakeLentQueue(id, kRoom);
    int got = 0;
    ASSERT_EQ(read(told[0], &got, sizeof got), static_cast<ssize_t>(sizeof got));
    EXPECT_EQ(got + static_cast<int>(messages.size()), kMessages);
    EXPECT_EQ(StatusOf(receiver), 0);
    close(told[0]);
    close(told[1]);
  }
}

}  // namespace
}  // namespace elsewhere::runtime
