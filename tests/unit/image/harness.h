// What the parts of the image tests' harness say to each other: the shim inside the tested program, the
// driver at home and its worker. A stand-in for the real agents that needs neither broker nor store: chunks
// are mapped from the arena.
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include <cstdint>
#include <cstring>
#include <vector>

namespace elsewhere::harness {

inline constexpr char kSocketVariable[] = "IMAGE_TEST_SOCKET";  // path of the driver's socket
inline constexpr char kArenaVariable[] = "IMAGE_TEST_ARENA";    // descriptor number of the arena

struct CaptureMessage {
  uint64_t size;              // of the manifest, the first descriptor
  uint64_t fork_nanoseconds;  // CLOCK_MONOTONIC
  uint64_t capture_nanoseconds;
  char problem[128];  // not empty: nothing was captured
};

struct EndMessage {
  uint64_t id;
  int32_t status;  // as waitpid gives it; -1: run it yourself
  char problem[128];
};

inline bool Send(int socket, const void* data, size_t size, const std::vector<int>& descriptors) {
  iovec vector{const_cast<void*>(data), size};
  alignas(8) char control[CMSG_SPACE(sizeof(int) * 253)];
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  if (!descriptors.empty()) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(sizeof(int) * descriptors.size());
    auto* header = reinterpret_cast<cmsghdr*>(control);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * descriptors.size());
    memcpy(CMSG_DATA(header), descriptors.data(), sizeof(int) * descriptors.size());
  }
  return sendmsg(socket, &message, MSG_NOSIGNAL) == static_cast<ssize_t>(size);
}

inline ssize_t Receive(int socket, void* data, size_t size, std::vector<int>* descriptors) {
  iovec vector{data, size};
  alignas(8) char control[CMSG_SPACE(sizeof(int) * 253)];
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  const ssize_t got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  if (got <= 0 || descriptors == nullptr) return got;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    const auto* numbers = reinterpret_cast<const int*>(CMSG_DATA(header));
    descriptors->insert(descriptors->end(), numbers, numbers + count);
  }
  return got;
}

}  // namespace elsewhere::harness
