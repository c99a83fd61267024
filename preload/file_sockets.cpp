// Unix sockets with names below a mapped directory: an object stands for the name, the kernel's socket lies
// in the session's directory. What connects is on one host, like a FIFO's ends.
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cstddef>

#include "preload/files.h"
#include "preload/hooks.h"
#include "preload/real.h"

namespace elsewhere::preload {
namespace {

// The path in a socket's address, terminated; false: it has none.
bool PathOf(const sockaddr* address, socklen_t size, char (&path)[sizeof(sockaddr_un)]) {
  constexpr size_t kBegin = offsetof(sockaddr_un, sun_path);
  if (address == nullptr || size <= kBegin || size > sizeof(sockaddr_un) || address->sa_family != AF_UNIX)
    return false;
  const auto* named = reinterpret_cast<const sockaddr_un*>(address);
  if (named->sun_path[0] == '\0') return false;
  const size_t length = strnlen(named->sun_path, size - kBegin);
  memcpy(path, named->sun_path, length);
  path[length] = '\0';
  return true;
}

// Where the socket of that name lies on this host.
int PlaceOf(const MappedPath& at, FileCall* call, sockaddr_un* place) {
  call->operation = abi::FileOperation::kSocketPath;
  if (CallFile(at, call) < 0) return -1;
  if (call->answer.text_size >= sizeof place->sun_path) {
    errno = ENAMETOOLONG;
    return -1;
  }
  place->sun_family = AF_UNIX;
  memcpy(place->sun_path, call->answer.text, call->answer.text_size + 1);
  return 0;
}

int BindMapped(int fd, const MappedPath& at, FileCall* call) {
  call->operation = abi::FileOperation::kMakeNode;
  call->arguments[0] = S_IFSOCK | (0777 & ~FileModeMask());
  if (CallFile(at, call) < 0) {
    if (errno == EEXIST) errno = EADDRINUSE;
    return -1;
  }
  sockaddr_un place{};
  if (PlaceOf(at, call, &place) != 0) return -1;
  real::unlink(place.sun_path);  // of a name that was removed since
  if (real::bind(fd, reinterpret_cast<sockaddr*>(&place), sizeof place) == 0) return 0;
  const int error = errno;
  call->operation = abi::FileOperation::kUnlink;
  CallFile(at, call);
  errno = error;
  return -1;
}

}  // namespace

namespace hooks {

int bind(int fd, const struct sockaddr* address, socklen_t size) {
  char path[sizeof(sockaddr_un)];
  if (!PathOf(address, size, path)) return real::bind(fd, address, size);
  return OnPath(
      AT_FDCWD, path, [&](const MappedPath& at, FileCall* call) { return BindMapped(fd, at, call); },
      [&](int, const char*) { return real::bind(fd, address, size); });
}

int connect(int fd, const struct sockaddr* address, socklen_t size) {
  char path[sizeof(sockaddr_un)];
  if (!PathOf(address, size, path)) return real::connect(fd, address, size);
  return OnPath(
      AT_FDCWD, path,
      [&](const MappedPath& at, FileCall* call) {
        sockaddr_un place{};
        if (PlaceOf(at, call, &place) != 0) return -1;
        const int result = real::connect(fd, reinterpret_cast<sockaddr*>(&place), sizeof place);
        // Bound on another host, or by nobody any more.
        if (result != 0 && errno == ENOENT) errno = ECONNREFUSED;
        return result;
      },
      [&](int, const char*) { return real::connect(fd, address, size); });
}

}  // namespace hooks
}  // namespace elsewhere::preload
