#include "preload/packet.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {

long SendPacket(int socket, const void* packet, size_t size, const int* descriptors, uint32_t count) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMaxPacketDescriptors)];
  iovec part{const_cast<void*>(packet), size};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (count != 0) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
    memset(control, 0, message.msg_controllen);
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * count);
    memcpy(CMSG_DATA(header), descriptors, sizeof(int) * count);
  }
  return raw::Syscall(SYS_sendmsg, socket, raw::Address(&message), MSG_NOSIGNAL);
}

long ReceivePacket(int socket, void* packet, size_t size, int* descriptors, uint32_t room) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMaxPacketDescriptors)];
  iovec part{packet, size};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = CMSG_LEN(sizeof(int) * room);  // the padding would take another one
  long received;
  do {
    received = raw::Syscall(SYS_recvmsg, socket, raw::Address(&message), MSG_CMSG_CLOEXEC);
  } while (received == -EINTR);
  const cmsghdr* header = received >= 0 ? CMSG_FIRSTHDR(&message) : nullptr;
  if (header != nullptr && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS)
    memcpy(descriptors, CMSG_DATA(header), header->cmsg_len - CMSG_LEN(0));
  return received;
}

}  // namespace elsewhere::preload
