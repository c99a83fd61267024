// A thread without libc, and a system call that a signal can keep from blocking. Private to preload/proxy.
#pragma once

#include <stdint.h>

namespace elsewhere::proxy {

// A thread of this process that shares everything with it; -errno. `stack_end` is aligned to 16 bytes.
long StartThread(void (*run)(void*), void* argument, void* stack_end);

// The system call, or -EINTR without having made it where *cancelled is `job`. A handler that has stored that
// calls Interrupt with the context it was given: between the look and the call there is no gap then.
long CallUnless(const uint64_t* cancelled, uint64_t job, long number, const int64_t* arguments);
void Interrupt(void* context);

// For struct sigaction of the kernel.
extern "C" void elsewhere_proxy_return_from_signal();

}  // namespace elsewhere::proxy
