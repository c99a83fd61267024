// How a signal that was sent at home keeps what its siginfo said, on its way through the worker's agent.
//
// A process may give another process's signal no si_code but a negative one, so a forwarded signal arrives as
// SI_QUEUE, with the sender's pid (home's), user and value in their places. si_errno, which no sender of
// signals uses, says so and holds the code that the signal had. Whoever hands a siginfo to the program
// restores it; a program without the preload sees SI_QUEUE.
//
// Plain C layouts, included by freestanding code.
#pragma once

#include <stdint.h>

namespace elsewhere::wire {

inline constexpr uint32_t kForwardedMark = 0x45530000;  // "ES", and 16 bits of code

inline constexpr int32_t ForwardedErrno(int32_t code) {
  return static_cast<int32_t>(kForwardedMark | (static_cast<uint32_t>(code) & 0xffff));
}
inline constexpr bool IsForwarded(int32_t error) {
  return (static_cast<uint32_t>(error) & 0xffff0000) == kForwardedMark;
}
inline constexpr int32_t OriginalCode(int32_t error) {
  return static_cast<int16_t>(static_cast<uint32_t>(error) & 0xffff);
}
static_assert(OriginalCode(ForwardedErrno(-6)) == -6 && OriginalCode(ForwardedErrno(0x80)) == 0x80);

}  // namespace elsewhere::wire
