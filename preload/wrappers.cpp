// The exported functions, generated from the table. Each bears libc's name as its assembler name only, so
// that libc's own declarations (attributes, redirections, macros) cannot conflict with the definitions here.
#include "preload/descriptor.h"
#include "preload/files.h"
#include "preload/fork.h"
#include "preload/home_queue.h"
#include "preload/hooks.h"
#include "preload/kernel_lock.h"
#include "preload/memory.h"
#include "preload/memory_discard.h"
#include "preload/message_queue.h"
#include "preload/output_file.h"
#include "preload/process_files.h"
#include "preload/process_target.h"
#include "preload/pthread_shared.h"
#include "preload/real.h"
#include "preload/self.h"
#include "preload/semaphore.h"
#include "preload/stream.h"

namespace elsewhere::preload {

#define EXPORTED extern "C" __attribute__((visibility("default")))

// Under a name of our own, too, for calls that the program makes by their number (by_name.h).
#define WRAPPER(R, name, P)                                      \
  EXPORTED R wrapper_##name P __asm__(#name);                    \
  extern "C" __attribute__((alias(#name), visibility("hidden"))) \
  R by_name_##name P __asm__("elsewhere_" #name);                \
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
#define READS(R, name, P, A, fd, bytes, flags)                        \
  __attribute__((noinline, cold)) static R Ask_##name P {             \
    return WithInput(fd, bytes, flags, [&] { return real::name A; }); \
  }                                                                   \
  WRAPPER(R, name, P) {                                               \
    if (IsKnown(fd)) [[unlikely]]                                     \
      return Ask_##name A;                                            \
    return real::name A;                                              \
  }
// Output to a mapped file is also spoken of behind the call, when it is known how much was written.
#define WRITES_FILE(R, name, P, A, fd, bytes, offset)                                         \
  __attribute__((noinline, cold)) static R Mapped_##name P {                                  \
    return WriteMapped(fd, static_cast<size_t>(bytes), offset, [&] { return real::name A; }); \
  }
#define WRITES(R, name, P, A, fd, bytes)                  \
  WRITES_FILE(R, name, P, A, fd, bytes, -1)               \
  __attribute__((noinline, cold)) static R Ask_##name P { \
    const NotedOutput noted(fd);                          \
    if (IsMappedFile(fd)) return Mapped_##name A;         \
    if (!BeforeOutput(fd)) return -1;                     \
    return WithOutput(fd, [&] { return real::name A; });  \
  }                                                       \
  WRAPPER(R, name, P) {                                   \
    if (IsKnown(fd)) [[unlikely]]                         \
      return Ask_##name A;                                \
    return real::name A;                                  \
  }
#define WRITES_AT(R, name, P, A, fd, bytes, offset)           \
  WRITES_FILE(R, name, P, A, fd, bytes, offset)               \
  __attribute__((noinline, cold)) static R Ask_##name P {     \
    const NotedOutput noted(fd);                              \
    if (IsOutputFile(fd)) return output::name A;              \
    return IsMappedFile(fd) ? Mapped_##name A : real::name A; \
  }                                                           \
  WRAPPER(R, name, P) {                                       \
    if (IsKnown(fd)) [[unlikely]]                             \
      return Ask_##name A;                                    \
    return real::name A;                                      \
  }
#define READS_AT(R, name, P, A, fd, bytes, offset)            \
  __attribute__((noinline, cold)) static R Ask_##name P {     \
    if (IsOutputFile(fd)) return output::name A;              \
    if (!IsMappedFile(fd)) return real::name A;               \
    return FetchRange(fd, offset, bytes) ? real::name A : -1; \
  }                                                           \
  WRAPPER(R, name, P) {                                       \
    if (IsKnown(fd)) [[unlikely]]                             \
      return Ask_##name A;                                    \
    return real::name A;                                      \
  }
#define ASSEMBLER(R, name, P, A) EXPORTED R wrapper_##name P __asm__(#name);
#define ALIAS(alias_name, name) \
  EXPORTED __attribute__((alias(#name))) decltype(wrapper_##name) wrapper_##alias_name __asm__(#alias_name);
#include "preload/hooks.def"

}  // namespace elsewhere::preload
