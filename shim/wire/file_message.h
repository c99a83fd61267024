// What agents tell each other about mapped files, which otherwise they share through the store only.
#pragma once

#include <string>
#include <vector>

#include "shim/wire/message.h"

namespace elsewhere::wire {

struct DirectoryTime {
  std::string path;
  int64_t changed_ns = 0;
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.path, s.changed_ns);
  }
};

// The sender changed names, attributes or contents on this map: nothing that was remembered of it holds. Sent
// to every host before the call that changed it returns, so before whatever the caller does next can be seen
// there.
struct FilesChanged {
  static constexpr MessageType kType = MessageType::kFilesChanged;
  uint32_t map = 0;
  std::vector<DirectoryTime> times;  // of directories whose names it changed
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.map, s.times);
  }
};

// These three: runtime/file/leaving_names.h. `number` is the asker's where it speaks with home, home's where
// home speaks with those that it asks.
struct NameLeaves {
  static constexpr MessageType kType = MessageType::kNameLeaves;
  uint64_t number = 0;
  uint32_t map = 0;
  std::string from;
  std::string to;  // empty: it is removed
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.number, s.map, s.from, s.to);
  }
};

struct NameKept {
  static constexpr MessageType kType = MessageType::kNameKept;
  uint64_t number = 0;
  int32_t error = 0;  // errno: the names must stay
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.number, s.error);
  }
};

struct NameSettled {
  static constexpr MessageType kType = MessageType::kNameSettled;
  uint64_t number = 0;
  uint8_t done = 0;  // 0: the names stay
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.number, s.done);
  }
};

}  // namespace elsewhere::wire
