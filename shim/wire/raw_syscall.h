// System calls made without libc, for code that runs where libc must not be used or is not mapped: the
// capture of a deputy, its proxy, and the restorer. Nothing here touches errno or thread-local storage; a
// failure is the negative errno value, as the kernel returns it. Async-signal-safe. x86-64 only. Source:
// x86-64 psABI, appendix A.2.1.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

namespace elsewhere::raw {

inline long Syscall(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0, long f = 0) {
  long result;
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}

inline long Address(const void* pointer) {
  return static_cast<long>(reinterpret_cast<uintptr_t>(pointer));
}
inline long Word(uint64_t value) {
  return static_cast<long>(value);
}
inline bool Failed(long result) {
  return result < 0 && result > -4096;
}

// Repeats the call while a signal interrupts it.
inline long Read(int descriptor, void* buffer, size_t size) {
  long result;
  do {
    result = Syscall(SYS_read, descriptor, Address(buffer), Word(size));
  } while (result == -4);
  return result;
}

inline long Close(int descriptor) {
  return Syscall(SYS_close, descriptor);
}

inline size_t Length(const char* text) {
  size_t length = 0;
  while (text[length] != '\0') ++length;
  return length;
}

}  // namespace elsewhere::raw
