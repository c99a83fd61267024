// A descriptor of a local object, taken from a process of this host that holds it (pidfd_getfd).
//
// For objects of which the agent keeps none, so that the kernel tells when no process holds one any more.
// Thread-safety: none.
#pragma once

#include <sys/types.h>

#include "runtime/stream/descriptor.h"

namespace elsewhere::runtime::stream {

class HolderEnd {
 public:
  // Empty: no process has it, or the kernel does not permit to take it. `link`: as LinkOf says it.
  Descriptor Borrow(const ObjectId& object, const std::string& link);

 private:
  Descriptor Take(const ObjectId& object) const;

  pid_t process_ = 0;  // where it was found last
  int number_ = -1;
};

}  // namespace elsewhere::runtime::stream
