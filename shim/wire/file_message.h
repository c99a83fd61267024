// What agents tell each other about mapped files, which otherwise they share through the store only.
#pragma once

#include <string>

#include "shim/wire/message.h"

namespace elsewhere::wire {

// The sender changed names, attributes or contents on this map: nothing that was remembered of it holds. Sent
// to every host before the call that changed it returns, so before whatever the caller does next can be seen
// there.
struct FilesChanged {
  static constexpr MessageType kType = MessageType::kFilesChanged;
  uint32_t map = 0;
  std::string removed;  // this name is gone; empty: none
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.map, s.removed);
  }
};

}  // namespace elsewhere::wire
