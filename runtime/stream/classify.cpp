#include "runtime/stream/classify.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <termios.h>

#include <cerrno>
#include <csignal>

#include "runtime/stream/descriptor.h"

namespace elsewhere::runtime::stream {
namespace {

Error CannotMove(const std::string& what) {
  return Error{ENOTSUP, what + " cannot move to another host"};
}

Result<Kind> ClassifyPipe(int flags, const std::string& link) {
  switch (flags & O_ACCMODE) {
    case O_RDONLY:
      return Kind::kPipeRead;
    case O_WRONLY:
      return Kind::kPipeWrite;
    default:
      return CannotMove("a FIFO opened for reading and writing (" + link + ")");
  }
}

int SocketOption(int descriptor, int option) {
  int value = -1;
  socklen_t size = sizeof value;
  return getsockopt(descriptor, SOL_SOCKET, option, &value, &size) == 0 ? value : -1;
}

Result<Kind> ClassifySocket(int descriptor) {
  const int domain = SocketOption(descriptor, SO_DOMAIN);
  const int type = SocketOption(descriptor, SO_TYPE);
  if (domain != AF_UNIX && domain != AF_INET && domain != AF_INET6)
    return CannotMove("a socket of its family");
  if (SocketOption(descriptor, SO_ACCEPTCONN) == 1) return Kind::kListener;
  sockaddr_storage peer{};
  socklen_t size = sizeof peer;
  const bool connected = getpeername(descriptor, reinterpret_cast<sockaddr*>(&peer), &size) == 0;
  // An end whose peer has gone still has its last bytes, then end of file.
  if (!connected && !(domain == AF_UNIX && errno == ENOTCONN && type == SOCK_STREAM)) {
    return CannotMove("a socket that is not connected");
  }
  if (type != SOCK_STREAM && domain != AF_UNIX) return CannotMove("a datagram socket");
  return Kind::kSocket;
}

Result<Kind> ClassifyCharacterDevice(int descriptor, const struct stat& status, const std::string& link) {
  termios attributes;
  if (tcgetattr(descriptor, &attributes) == 0) return Kind::kTerminal;
  constexpr unsigned kMemoryDevices = 1;  // null, zero, full, random, urandom
  if (major(status.st_rdev) == kMemoryDevices && minor(status.st_rdev) >= 3) return Kind::kReopened;
  return CannotMove("the device " + link);
}

Result<Kind> ClassifyPlainFile(const struct stat& status, const std::string& link, int flags) {
  struct stat named {};
  const bool has_name =
      stat(link.c_str(), &named) == 0 && named.st_dev == status.st_dev && named.st_ino == status.st_ino;
  if (has_name) return (flags & O_ACCMODE) == O_WRONLY ? Kind::kOutputFile : Kind::kPlainFile;
  if ((flags & O_ACCMODE) == O_WRONLY) return Kind::kOutputFile;
  return Kind::kAnonymousFile;
}

Result<Kind> ClassifyAnonymousInode(const std::string& link) {
  if (link == "anon_inode:[eventfd]") return Kind::kEvent;
  if (link == "anon_inode:[timerfd]") return Kind::kTimer;
  if (link == "anon_inode:[signalfd]") return Kind::kSignal;
  if (link == "anon_inode:[eventpoll]") return Kind::kEpoll;
  if (link == "anon_inode:inotify") return Kind::kInotify;
  return CannotMove(link);
}

bool IsMessageQueue(int descriptor) {
  constexpr long kQueueFileSystem = 0x19800202;  // MQUEUE_MAGIC
  struct statfs system {};
  return fstatfs(descriptor, &system) == 0 && system.f_type == kQueueFileSystem;
}

bool IsSealed(int descriptor) {
  const int seals = fcntl(descriptor, F_GET_SEALS);
  return seals >= 0 && (seals & F_SEAL_WRITE) != 0;
}

}  // namespace

Result<Kind> Classify(int descriptor, const struct stat& status, const std::string& link, int flags) {
  if ((flags & O_PATH) != 0) return Kind::kReopened;
  switch (status.st_mode & S_IFMT) {
    case S_IFIFO:
      return ClassifyPipe(flags, link);
    case S_IFSOCK:
      return ClassifySocket(descriptor);
    case S_IFCHR:
      return ClassifyCharacterDevice(descriptor, status, link);
    case S_IFREG:
      if (IsMessageQueue(descriptor)) return Kind::kMessageQueue;
      if (link.empty() || link[0] != '/') return CannotMove(link);  // pidfd and its like
      return ClassifyPlainFile(status, link, flags);
    case S_IFDIR:
      return Kind::kReopened;
    case 0:
      return ClassifyAnonymousInode(link);
    default:
      return CannotMove(link);
  }
}

bool IsMadeForMapping(const std::string& link) {
  return link.starts_with("/memfd:") || link.starts_with("/dev/shm/") || link.starts_with("/dev/zero");
}

// The kernel grants a lease for reading only where nobody has; ours ends with a description of our own.
// Whoever opens the file meanwhile waits for that, and the signal that says so is one that is ignored.
bool MayBeWritten(int descriptor) {
  if (IsSealed(descriptor)) return false;
  auto own = OpenAgain(descriptor, O_RDONLY);
  return !own || fcntl(own->get(), F_SETSIG, SIGURG) != 0 || fcntl(own->get(), F_SETLEASE, F_RDLCK) != 0;
}

// Bytes that nobody can change any more, or that this descriptor cannot: a copy of others would be another
// file.
bool MayBeCopied(int descriptor, uint32_t flags) {
  return (flags & O_ACCMODE) == O_RDONLY || IsSealed(descriptor);
}

}  // namespace elsewhere::runtime::stream
