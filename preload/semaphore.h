// Which semaphores are ours: words in memory that processes share, and cells of the agent's table (named
// ones).
#pragma once

#include <semaphore.h>

#include "preload/memory.h"
#include "shim/wire/semaphore.h"

namespace elsewhere::preload {

inline wire::Semaphore* AsWord(sem_t* semaphore) {
  return reinterpret_cast<wire::Semaphore*>(semaphore);
}

// For the wrappers: one comparison, and a private semaphore is libc's.
inline bool IsShared(const sem_t* semaphore) {
  return wire::IsOurs(reinterpret_cast<const wire::Semaphore*>(semaphore));
}

namespace named {
bool IsCell(const sem_t* semaphore);
// False: it lies in no cell. The place is abi::kNamedCell's.
bool FindCell(const sem_t* semaphore, SharedPlace* place);
}  // namespace named

}  // namespace elsewhere::preload
