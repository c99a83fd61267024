#include "runtime/stream/descriptor.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
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

bool SameDescription(pid_t process, int number, int own) {
  return syscall(SYS_kcmp, process, getpid(), KCMP_FILE, number, own) == 0;
}

std::string LinkOf(int descriptor) {
  char text[PATH_MAX];
  const std::string own = "/proc/self/fd/" + std::to_string(descriptor);
  const ssize_t size = readlink(own.c_str(), text, sizeof text);
  return size <= 0 ? "" : std::string(text, static_cast<size_t>(size));
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

namespace {

constexpr size_t kMostDescriptors = 253;  // SCM_MAX_FD

// Looks at the next `size` bytes. 1: descriptors came with one of them. -1: errno.
int DescriptorsWithin(int socket, std::span<uint8_t> scratch, size_t size, size_t control_size) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(ucred))];
  iovec part{scratch.data(), size};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control_size == 0 ? nullptr : control;
  message.msg_controllen = control_size;
  const ssize_t seen = recvmsg(socket, &message, MSG_DONTWAIT | MSG_PEEK);
  if (seen < 0) return -1;
  return seen > 0 && (message.msg_flags & MSG_CTRUNC) != 0 ? 1 : 0;
}

// How many bytes lie before the next descriptors; buffer.size(): at least that many. -1: errno, and the
// socket has told its error (ECONNRESET) for good. The kernel stops behind a piece that descriptors came with
// but not before it, and says that it had no room for them: so the border is found by looking.
ssize_t BytesBeforeDescriptors(int socket, std::span<uint8_t> buffer) {
  const int any = DescriptorsWithin(socket, buffer, buffer.size(), 0);
  if (any <= 0) return any < 0 ? -1 : static_cast<ssize_t>(buffer.size());
  // Credentials, where the socket's owner wants them, would be missed in the same way.
  int credentials = 0;
  socklen_t size = sizeof credentials;
  getsockopt(socket, SOL_SOCKET, SO_PASSCRED, &credentials, &size);
  const size_t control = credentials != 0 ? CMSG_SPACE(sizeof(ucred)) : 0;
  if (control != 0 && DescriptorsWithin(socket, buffer, buffer.size(), control) <= 0)
    return static_cast<ssize_t>(buffer.size());
  size_t without = 0, with = buffer.size();
  while (with - without > 1) {
    const size_t middle = without + (with - without) / 2;
    (DescriptorsWithin(socket, buffer, middle, control) > 0 ? with : without) = middle;
  }
  return static_cast<ssize_t>(without);
}

}  // namespace

ssize_t ReceiveBytes(int socket, bool stream, std::span<uint8_t> buffer, std::vector<Descriptor>& passed,
                     bool* credentials) {
  const ssize_t before = stream ? BytesBeforeDescriptors(socket, buffer) : 0;
  if (before < 0) return -1;
  if (before > 0) buffer = buffer.first(static_cast<size_t>(before));
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
    if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_CREDENTIALS && credentials != nullptr)
      *credentials = true;
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int descriptor;
      std::memcpy(&descriptor, CMSG_DATA(header) + i * sizeof descriptor, sizeof descriptor);
      passed.emplace_back(descriptor);
    }
  }
  return taken;
}

ssize_t SendBytes(int socket, std::span<const uint8_t> bytes, const std::vector<Descriptor>& passed) {
  const int flags = MSG_DONTWAIT | MSG_NOSIGNAL;
  if (passed.empty()) return send(socket, bytes.data(), bytes.size(), flags);
  alignas(cmsghdr) char control[CMSG_SPACE(kMostDescriptors * sizeof(int))] = {};
  iovec part{const_cast<uint8_t*>(bytes.data()), bytes.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  const size_t count = std::min(passed.size(), kMostDescriptors);
  message.msg_control = control;
  message.msg_controllen = CMSG_SPACE(count * sizeof(int));
  cmsghdr* const header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(count * sizeof(int));
  for (size_t i = 0; i < count; ++i) {
    const int descriptor = passed[i].get();
    std::memcpy(CMSG_DATA(header) + i * sizeof descriptor, &descriptor, sizeof descriptor);
  }
  return sendmsg(socket, &message, flags);
}

short PollNow(int descriptor, short events) {
  pollfd one{descriptor, events, 0};
  return poll(&one, 1, 0) == 1 ? one.revents : short{0};
}

}  // namespace elsewhere::runtime::stream
