#include "runtime/call_table.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

namespace elsewhere::runtime {
namespace {

class CallTableTest : public testing::Test {
 protected:
  void SetUp() override {
    auto calls = CallTable::Create({.session = std::string(32, 'a'), .host = 3, .agent_socket = "/x"});
    ASSERT_TRUE(calls.ok());
    calls_ = std::move(*calls);
    calls_->OnCall(abi::Operation::kPull, [this](CallId id, const Call& call) {
      last_ = id;
      last_call_ = call;
      ++taken_;
      order_.push_back(id.slot);
    });
  }

  abi::Slot& Slot(uint32_t index) { return calls_->table().slots[index]; }

  void Hand(uint32_t index, int32_t owner, abi::SlotState state = abi::SlotState::kPending) {
    abi::Slot& slot = Slot(index);
    slot.operation = static_cast<uint32_t>(abi::Operation::kPull);
    slot.owner = owner;
    slot.arguments[2] = 77;
    slot.payload_size = 1000000;
    slot.state.store(static_cast<uint32_t>(state));
    Ring(index);
  }
  void Ring(uint32_t index) {
    calls_->table().header.pending[index / 64].fetch_or(uint64_t{1} << index % 64);
    calls_->table().header.pending_summary[index / 4096].fetch_or(uint64_t{1} << index / 64 % 64);
  }
  void HandUnheard(uint32_t index, uint64_t ticket) {
    Slot(index).ticket = ticket;
    Slot(index).unheard = 1;
    Hand(index, 42);
  }
  abi::SlotState State(uint32_t index) { return static_cast<abi::SlotState>(Slot(index).state.load()); }

  std::unique_ptr<CallTable> calls_;
  CallId last_;
  Call last_call_;
  int taken_ = 0;
  std::vector<uint32_t> order_;
};

TEST_F(CallTableTest, ACallIsTakenOnceAndAnswered) {
  Hand(5000, 42);
  calls_->TakeCalls();
  Ring(5000);
  calls_->TakeCalls();
  EXPECT_EQ(taken_, 1);
  EXPECT_EQ(last_call_.arguments[2], 77);
  EXPECT_EQ(last_call_.payload.size(), abi::kSlotPayload);  // what the caller says is not believed
  const uint8_t answer[] = {1, 2};
  calls_->Complete(last_, 9, 0, answer);
  EXPECT_EQ(State(5000), abi::SlotState::kDone);
  EXPECT_EQ(Slot(5000).result, 9);
  EXPECT_EQ(Slot(5000).payload_size, 2U);
}

TEST_F(CallTableTest, ALateAnswerDoesNotReachTheNextUserOfTheSlot) {
  Hand(0, 42);
  calls_->TakeCalls();
  const CallId dead = last_;
  calls_->RemoveProcess(42);
  EXPECT_EQ(State(0), abi::SlotState::kFree);
  Hand(0, 43);
  calls_->TakeCalls();
  calls_->Complete(dead, 1, 0, {});
  EXPECT_EQ(State(0), abi::SlotState::kPending);
}

TEST_F(CallTableTest, ACallOfTheDeadThatWasNotLookedAtIsNotMade) {
  Hand(0, 42);
  Hand(1, 43);
  calls_->RemoveProcess(42);
  calls_->TakeCalls();
  EXPECT_EQ(taken_, 1);
  EXPECT_EQ(State(0), abi::SlotState::kFree);
  EXPECT_EQ(State(1), abi::SlotState::kPending);
}

TEST_F(CallTableTest, CancellingReachesTheComponentOrAnswersAtOnce) {
  int cancelled = 0;
  calls_->SetCancelled([&](CallId id) {
    ++cancelled;
    calls_->Complete(id, -1, EINTR, {});
  });
  Hand(1, 42);
  calls_->TakeCalls();
  Slot(1).state.store(static_cast<uint32_t>(abi::SlotState::kCancelled));
  Ring(1);
  calls_->TakeCalls();
  EXPECT_EQ(cancelled, 1);
  EXPECT_EQ(State(1), abi::SlotState::kDone);
  Hand(2, 42, abi::SlotState::kCancelled);  // before it was ever taken
  calls_->TakeCalls();
  EXPECT_EQ(taken_, 1);
  EXPECT_EQ(Slot(2).error, EINTR);
}

TEST_F(CallTableTest, SlotsOfDeadOwnersAreSweptEvenIfNeverHandedOver) {
  const pid_t child = fork();
  if (child == 0) _exit(0);
  waitpid(child, nullptr, 0);
  Slot(7).owner = child;
  Slot(7).state.store(static_cast<uint32_t>(abi::SlotState::kClaimed));
  Slot(8).owner = getpid();
  Slot(8).state.store(static_cast<uint32_t>(abi::SlotState::kClaimed));
  for (int i = 0; i < 64; ++i) calls_->RemoveProcess(100000 + i);
  EXPECT_EQ(State(7), abi::SlotState::kFree);
  EXPECT_EQ(State(8), abi::SlotState::kClaimed);
}

TEST_F(CallTableTest, WhatNobodyWaitsForIsTakenFirstAndInItsOrder) {
  Hand(1, 42);
  HandUnheard(9000, 8);
  HandUnheard(70, 9);
  HandUnheard(16000, 7);
  calls_->TakeUnheard();
  EXPECT_EQ(order_, (std::vector<uint32_t>{16000, 9000, 70}));
  EXPECT_EQ(State(70), abi::SlotState::kFree);
  EXPECT_EQ(State(1), abi::SlotState::kPending);
  HandUnheard(2, 10);
  calls_->TakeCalls();
  EXPECT_EQ(order_, (std::vector<uint32_t>{16000, 9000, 70, 2, 1}));
}

TEST_F(CallTableTest, WhatNobodyWaitsForCanWaitItself) {
  HandUnheard(1, 1);
  calls_->LeaveUnheard([this] { calls_->TakeUnheard(); });
  EXPECT_EQ(taken_, 0);
  calls_->TakeUnheard();
  EXPECT_EQ(taken_, 1);
}

TEST_F(CallTableTest, WhatItsMakerLeftBehindIsTakenBeforeItsSlotsAreSwept) {
  HandUnheard(7, 1);
  for (int i = 0; i < 64; ++i) calls_->RemoveProcess(100000 + i);
  EXPECT_EQ(taken_, 1);
}

TEST_F(CallTableTest, NobodyFallsAsleepBesideAPendingCall) {
  const auto& asleep = calls_->table().header.asleep;
  EXPECT_TRUE(calls_->FallAsleep());
  EXPECT_EQ(asleep.load(), 1U);
  calls_->WakeUp();
  EXPECT_EQ(asleep.load(), 0U);
  Hand(5, 42);
  EXPECT_FALSE(calls_->FallAsleep());
  calls_->TakeCalls();
  EXPECT_EQ(taken_, 1);
  EXPECT_TRUE(calls_->FallAsleep());
}

TEST_F(CallTableTest, TheEndAnswersEveryOpenCall) {
  Hand(3, 42);
  calls_->TakeCalls();
  calls_->End(EIO);
  EXPECT_EQ(Slot(3).error, EIO);
  EXPECT_EQ(calls_->table().header.ending.load(), 1U);
}

}  // namespace
}  // namespace elsewhere::runtime
