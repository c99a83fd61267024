// The exported functions, generated from the table. Each bears libc's name as its assembler name only, so
// that libc's own declarations (attributes, redirections, macros) cannot conflict with the definitions here.
#include "preload/descriptor.h"
#include "preload/hooks.h"
#include "preload/memory.h"
#include "preload/memory_discard.h"
#include "preload/message_queue.h"
#include "preload/real.h"
#include "preload/self.h"
#include "preload/semaphore.h"
#include "preload/stream.h"

namespace elsewhere::preload {

#define EXPORTED extern "C" __attribute__((visibility("default")))

#define WRAPPER(R, name, P)                   \
  EXPORTED R wrapper_##name P __asm__(#name); \
  R wrapper_##name P

#define HOOK(R, name, P, A) \
  WRAPPER(R, name, P) {     \
    return hooks::name A;   \
  }
#define GUARD(R, name, P, A, condition) \
  WRAPPER(R, name, P) {                 \
    if (condition) [[unlikely]]         \
      return hooks::name A;             \
    return real::name A;                \
  }
// The asking is kept out of line, so that the usual case is a test and a jump without a frame.
#define ASKS(R, name, P, A, fd, ask)                      \
  __attribute__((noinline, cold)) static R Ask_##name P { \
    return ask ? real::name A : -1;                       \
  }                                                       \
  WRAPPER(R, name, P) {                                   \
    if (IsKnown(fd)) [[unlikely]]                         \
      return Ask_##name A;                                \
    return real::name A;                                  \
  }
#define READS(R, name, P, A, fd, bytes, flags) ASKS(R, name, P, A, fd, BeforeInput(fd, bytes, flags))
#define WRITES(R, name, P, A, fd) ASKS(R, name, P, A, fd, BeforeOutput(fd))
#define ASSEMBLER(R, name, P, A) EXPORTED R wrapper_##name P __asm__(#name);
#define ALIAS(alias_name, name) \
  EXPORTED __attribute__((alias(#name))) decltype(wrapper_##name) wrapper_##alias_name __asm__(#alias_name);
#include "preload/hooks.def"

}  // namespace elsewhere::preload
