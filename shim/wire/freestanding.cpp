// The functions that a compiler calls by name for copies and fills (GCC manual, "Standards": a freestanding
// environment must provide them). Hidden, so that code of the preload that runs while libc is unmapped (the
// proxy) or must not call into it (the capture) uses these. `rep movsb` needs no alignment and is fast on any
// processor with ERMS.

#include <stddef.h>
#include <stdint.h>

extern "C" {

__attribute__((visibility("hidden"))) void* memcpy(void* to, const void* from, size_t size) {
  void* result = to;
  __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
  return result;
}

__attribute__((visibility("hidden"))) void* memmove(void* to, const void* from, size_t size) {
  auto* target = static_cast<uint8_t*>(to);
  const auto* source = static_cast<const uint8_t*>(from);
  if (reinterpret_cast<uintptr_t>(target) - reinterpret_cast<uintptr_t>(source) >= size)
    return memcpy(to, from, size);
  while (size-- > 0) {
    target[size] = source[size];
    __asm__ volatile("" : : : "memory");  // keeps this from becoming a call of memmove
  }
  return to;
}

__attribute__((visibility("hidden"))) void* memset(void* to, int value, size_t size) {
  void* result = to;
  __asm__ volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(value) : "memory");
  return result;
}

__attribute__((visibility("hidden"))) int memcmp(const void* a, const void* b, size_t size) {
  const auto* left = static_cast<const uint8_t*>(a);
  const auto* right = static_cast<const uint8_t*>(b);
  for (size_t i = 0; i < size; ++i) {
    if (left[i] != right[i]) return left[i] - right[i];
    __asm__ volatile("" : : : "memory");
  }
  return 0;
}
}
