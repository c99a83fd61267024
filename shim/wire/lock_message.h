// Locks on mapped files between hosts (runtime/file/file_locks.h).
#pragma once

#include <string>

#include "shim/wire/file_call.h"
#include "shim/wire/message.h"

namespace elsewhere::wire {

// Any host -> home. `number` is the sender's; the answer bears it.
struct FileLock {
  static constexpr MessageType kType = MessageType::kFileLock;
  uint64_t number = 0;
  uint64_t file = 0;  // as an answer called it; 0: not known
  uint32_t map = 0;
  std::string key;  // empty: it has no name
  int32_t pid = 0;  // home's, of the process that asks
  abi::FileLockCommand command{};
  abi::FileLockKind kind{};
  abi::FileLockType type{};
  uint64_t from = 0, to = 0;  // UINT64_MAX: without an end
  uint8_t mapped = 0;         // the sender's processes have it mapped writable
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.number, s.file, s.map, s.key, s.pid, s.command, s.kind, s.type, s.from, s.to, s.mapped);
  }
};

struct FileLockAnswer {
  static constexpr MessageType kType = MessageType::kFileLockAnswer;
  uint64_t number = 0;
  uint64_t file = 0;
  int32_t error = 0;  // errno
  // Of kGet: what is in the way; kNone: nothing.
  abi::FileLockType type{};
  int32_t pid = 0;
  uint64_t from = 0, to = 0;
  uint8_t memory = 0;  // it is locked memory, or was
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.number, s.file, s.error, s.type, s.pid, s.from, s.to, s.memory);
  }
};

// The call was interrupted. Answered, with EINTR if it still waited.
struct FileLockCancel {
  static constexpr MessageType kType = MessageType::kFileLockCancel;
  uint64_t number = 0;
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.number);
  }
};

// Home -> a host that has the right to lock this range: another needs it. `number` is home's.
struct FileLockWanted {
  static constexpr MessageType kType = MessageType::kFileLockWanted;
  uint64_t number = 0;
  uint64_t file = 0;
  uint32_t map = 0;
  std::string key;
  abi::FileLockKind kind{};
  abi::FileLockType type{};  // kShared: it may keep what is shared
  uint64_t from = 0, to = 0;
  uint8_t wait = 0;  // until nobody there has it locked; 0: give it or say no
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.number, s.file, s.map, s.key, s.kind, s.type, s.from, s.to, s.wait);
  }
};

struct FileLockGiven {
  static constexpr MessageType kType = MessageType::kFileLockGiven;
  uint64_t number = 0;
  uint8_t given = 0;
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.number, s.given);
  }
};

// Home -> the host where a process ran that is gone and has locks: what it wrote is to be stored first.
struct FileLocksLeft {
  static constexpr MessageType kType = MessageType::kFileLocksLeft;
  int32_t pid = 0;
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.pid);
  }
};

struct FileLocksStored {
  static constexpr MessageType kType = MessageType::kFileLocksStored;
  int32_t pid = 0;
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.pid);
  }
};

}  // namespace elsewhere::wire
