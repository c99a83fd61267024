// Whether what the program hands to a call is there: what looks at it before the kernel does must leave the
// EFAULT to the kernel, or say it in its place.
//
// A page that was readable once is not asked about again, so that a call costs nothing more; a program that
// gives a page back and still names it in a call ends as it would with any other function of libc. Lock-free
// and async-signal-safe.
#pragma once

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {

inline constexpr size_t kReadablePage = 4096;  // of the smallest size: a larger one is several of them
inline constexpr size_t kReadablePages = 256;
extern constinit std::atomic<uintptr_t> readable_pages[kReadablePages];

// Asks each time.
inline bool IsReadableNow(uintptr_t page) {
  // Reads the set of signals there before it sees that it is told to do nothing with it.
  constexpr int kNothing = -1;
  return raw::Syscall(SYS_rt_sigprocmask, kNothing, static_cast<long>(page * kReadablePage), 0, 8) != -EFAULT;
}

inline bool IsReadablePage(uintptr_t page) {
  if (page == 0) return false;
  std::atomic<uintptr_t>& known = readable_pages[page % kReadablePages];
  if (known.load(std::memory_order_relaxed) == page) [[likely]]
    return true;
  if (!IsReadableNow(page)) return false;
  known.store(page, std::memory_order_relaxed);
  return true;
}

// Up to its zero, or to where no path is longer.
inline bool IsReadable(const char* text) {
  auto at = reinterpret_cast<uintptr_t>(text);
  for (size_t seen = 0; seen < PATH_MAX;) {
    if (!IsReadablePage(at / kReadablePage)) return false;
    const size_t here = kReadablePage - at % kReadablePage;
    if (memchr(reinterpret_cast<const void*>(at), '\0', here) != nullptr) return true;
    at += here;
    seen += here;
  }
  return true;
}

inline bool IsReadable(const void* memory, size_t size) {
  const auto first = reinterpret_cast<uintptr_t>(memory);
  for (uintptr_t page = first / kReadablePage; page * kReadablePage < first + size; ++page) {
    if (!IsReadablePage(page)) return false;
  }
  return true;
}

// Room for an answer, whose first bytes a small call of the kernel fills. False: EFAULT.
template <class Answer>
bool HasRoom(Answer* to) {
  static_assert(sizeof(Answer) >= sizeof(timespec));
  if (to != nullptr && raw::Syscall(SYS_clock_getres, CLOCK_REALTIME_COARSE, raw::Address(to)) != -EFAULT)
    return true;
  errno = EFAULT;
  return false;
}

}  // namespace elsewhere::preload
