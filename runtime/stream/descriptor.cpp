#include "runtime/stream/descriptor.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <system_error>

namespace elsewhere::runtime::stream {

Error SystemError(const char* what) {
  const int code = errno;
  return Error{code, std::string(what) + ": " + std::generic_category().message(code)};
}

Result<struct stat> Stat(int descriptor) {
  struct stat status {};
  if (fstat(descriptor, &status) != 0) return SystemError("fstat");
  return status;
}

ObjectId IdOf(const struct stat& status) {
  return {status.st_dev, status.st_ino};
}

Result<Descriptor> OpenAgain(int descriptor, int flags) {
  const std::string path = "/proc/self/fd/" + std::to_string(descriptor);
  const int opened = open(path.c_str(), flags | O_CLOEXEC | O_NOCTTY);
  if (opened < 0) return SystemError(path.c_str());
  return Descriptor(opened);
}

Result<Descriptor> Duplicate(int descriptor) {
  const int copy = fcntl(descriptor, F_DUPFD_CLOEXEC, 3);
  if (copy < 0) return SystemError("F_DUPFD_CLOEXEC");
  return Descriptor(copy);
}

size_t BytesWaiting(int descriptor) {
  int bytes = 0;
  return ioctl(descriptor, FIONREAD, &bytes) == 0 && bytes > 0 ? static_cast<size_t>(bytes) : 0;
}

ssize_t ReceiveBytes(int socket, std::span<uint8_t> buffer, bool* passed) {
  constexpr size_t kMostDescriptors = 253;  // SCM_MAX_FD
  alignas(cmsghdr) char control[CMSG_SPACE(kMostDescriptors * sizeof(int)) + CMSG_SPACE(sizeof(ucred))];
  iovec part{buffer.data(), buffer.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const ssize_t taken = recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (taken < 0) return taken;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int descriptor;
      std::memcpy(&descriptor, CMSG_DATA(header) + i * sizeof descriptor, sizeof descriptor);
      close(descriptor);
    }
    *passed = true;
  }
  return taken;
}

short PollNow(int descriptor, short events) {
  pollfd one{descriptor, events, 0};
  return poll(&one, 1, 0) == 1 ? one.revents : short{0};
}

}  // namespace elsewhere::runtime::stream
