#include "runtime/stream/descriptor.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>

#include <cerrno>
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

short PollNow(int descriptor, short events) {
  pollfd one{descriptor, events, 0};
  return poll(&one, 1, 0) == 1 ? one.revents : short{0};
}

}  // namespace elsewhere::runtime::stream
