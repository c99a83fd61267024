// Packets with descriptors over a Unix socket, as raw system calls: for what talks to an agent (agent.cpp,
// deputy_start.cpp) or to the launcher (session_start.cpp). Async-signal-safe.
#pragma once

#include <cstddef>
#include <cstdint>

namespace elsewhere::preload {

constexpr uint32_t kMaxPacketDescriptors = 253;  // the kernel's SCM_MAX_FD

// Bytes sent, or -errno; never SIGPIPE. At most kMaxPacketDescriptors descriptors.
long SendPacket(int socket, const void* packet, size_t size, const int* descriptors, uint32_t count);

// Bytes received (what is longer than `size` is cut), or -errno; a signal does not end it. The descriptors
// that came with the packet are the caller's, close-on-exec; `descriptors` is left as it was
// where none came, and what has no room in it is closed by the kernel.
long ReceivePacket(int socket, void* packet, size_t size, int* descriptors, uint32_t room);

}  // namespace elsewhere::preload
