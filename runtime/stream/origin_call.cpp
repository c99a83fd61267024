#include "runtime/stream/origin_call.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string>
#include <thread>

#include "runtime/stream/descriptor.h"
#include "shim/wire/abi.h"
#include "shim/wire/stream_call.h"

namespace elsewhere::runtime::stream {
namespace {

using wire::StreamCall;

// A payload that is one string; empty where it is none.
std::string NameOf(const wire::StreamControl& control) {
  const auto* text = reinterpret_cast<const char*>(control.payload.data());
  return std::string(text, strnlen(text, control.payload.size()));
}

template <class T>
void SetAnswer(wire::StreamControlled& answer, const T& value) {
  answer.payload.resize(sizeof value);
  std::memcpy(answer.payload.data(), &value, sizeof value);
}

int64_t SetTimes(int descriptor, const wire::StreamControl& control) {
  timespec times[2];
  if (control.payload.size() != sizeof times) return futimens(descriptor, nullptr);
  std::memcpy(times, control.payload.data(), sizeof times);
  return futimens(descriptor, times);
}

int64_t SetTimer(int descriptor, const wire::StreamControl& control, wire::StreamControlled& answer) {
  itimerspec wanted, old{};
  if (control.payload.size() != sizeof wanted) {
    errno = EFAULT;
    return -1;
  }
  std::memcpy(&wanted, control.payload.data(), sizeof wanted);
  const int result = timerfd_settime(descriptor, static_cast<int>(control.first), &wanted, &old);
  SetAnswer(answer, old);
  return result;
}

int64_t WriteAt(int descriptor, const wire::StreamControl& control) {
  const iovec part{const_cast<uint8_t*>(control.payload.data()), control.payload.size()};
  return pwritev2(descriptor, &part, 1, control.first, static_cast<int>(control.second));
}

int64_t ReadAt(int descriptor, const wire::StreamControl& control, wire::StreamControlled& answer) {
  answer.payload.resize(static_cast<size_t>(std::clamp<int64_t>(control.first, 0, abi::kSlotPayload)));
  const iovec part{answer.payload.data(), answer.payload.size()};
  const ssize_t size = preadv2(descriptor, &part, 1, control.second, static_cast<int>(control.third));
  answer.payload.resize(size > 0 ? static_cast<size_t>(size) : 0);
  return size;
}

int64_t Name(int descriptor, wire::StreamControlled& answer) {
  const std::string link = "/proc/self/fd/" + std::to_string(descriptor);
  answer.payload.resize(abi::kSlotPayload);
  const ssize_t size =
      readlink(link.c_str(), reinterpret_cast<char*>(answer.payload.data()), answer.payload.size());
  if (size == static_cast<ssize_t>(answer.payload.size())) errno = ENAMETOOLONG;  // perhaps cut
  const bool whole = size >= 0 && size < static_cast<ssize_t>(answer.payload.size());
  answer.payload.resize(whole ? static_cast<size_t>(size) : 0);
  return whole ? size : -1;
}

int64_t SetAttribute(int descriptor, const wire::StreamControl& control) {
  const auto name = static_cast<size_t>(control.second);
  if (name > control.payload.size()) {
    errno = EINVAL;
    return -1;
  }
  return fsetxattr(descriptor, NameOf(control).c_str(), control.payload.data() + name,
                   control.payload.size() - name, static_cast<int>(control.first));
}

template <class Get>
int64_t GetAttribute(wire::StreamControlled& answer, Get get) {
  answer.payload.resize(abi::kSlotPayload);
  ssize_t size = get(answer.payload.data(), answer.payload.size());
  if (size < 0 && errno == ERANGE) {  // its size is all that fits
    answer.payload.clear();
    return get(nullptr, size_t{0});
  }
  answer.payload.resize(size > 0 ? static_cast<size_t>(size) : 0);
  return size;
}

int64_t SocketName(int descriptor, bool of_peer, wire::StreamControlled& answer) {
  sockaddr_storage name{};
  socklen_t size = sizeof name;
  auto* const at = reinterpret_cast<sockaddr*>(&name);
  if ((of_peer ? getpeername(descriptor, at, &size) : getsockname(descriptor, at, &size)) != 0) return -1;
  SetAnswer(answer, name);
  return std::min<int64_t>(size, sizeof name);
}

int64_t GetOption(int descriptor, const wire::StreamControl& control, wire::StreamControlled& answer) {
  answer.payload.resize(std::min<size_t>(static_cast<size_t>(control.third), abi::kSlotPayload));
  auto size = static_cast<socklen_t>(answer.payload.size());
  if (getsockopt(descriptor, static_cast<int>(control.first), static_cast<int>(control.second),
                 answer.payload.data(), &size) != 0) {
    answer.payload.clear();
    return -1;
  }
  answer.payload.resize(size);
  return size;
}

int64_t LockRecord(int descriptor, const wire::StreamControl& control, wire::StreamControlled& answer) {
  struct flock lock {};
  if (control.payload.size() != sizeof lock) {
    errno = EFAULT;
    return -1;
  }
  std::memcpy(&lock, control.payload.data(), sizeof lock);
  const int result = fcntl(descriptor, static_cast<int>(control.first), &lock);
  SetAnswer(answer, lock);
  return result;
}

int64_t Make(int descriptor, const wire::StreamControl& control, wire::StreamControlled& answer) {
  const int64_t first = control.first, second = control.second, third = control.third;
  switch (static_cast<StreamCall>(control.call)) {
    case StreamCall::kControl:
      return fcntl(descriptor, static_cast<int>(first), second);
    case StreamCall::kTruncate:
      return ftruncate(descriptor, first);
    case StreamCall::kAllocate:
      return fallocate(descriptor, static_cast<int>(first), second, third);
    case StreamCall::kSync:
      return first != 0 ? fdatasync(descriptor) : fsync(descriptor);
    case StreamCall::kSyncRange:
      return sync_file_range(descriptor, first, second, static_cast<unsigned>(third));
    case StreamCall::kAdvise:
      errno = posix_fadvise(descriptor, first, second, static_cast<int>(third));
      return errno == 0 ? 0 : -1;
    case StreamCall::kSetMode:
      return fchmod(descriptor, static_cast<mode_t>(first));
    case StreamCall::kSetOwner:
      return fchown(descriptor, static_cast<uid_t>(first), static_cast<gid_t>(second));
    case StreamCall::kSetTimes:
      return SetTimes(descriptor, control);
    case StreamCall::kWriteAt:
      return WriteAt(descriptor, control);
    case StreamCall::kReadAt:
      return ReadAt(descriptor, control, answer);
    case StreamCall::kFileSystem: {
      struct statfs status {};
      const int result = fstatfs(descriptor, &status);
      SetAnswer(answer, status);
      return result;
    }
    case StreamCall::kStatus: {
      struct statx status {};
      const int result = statx(descriptor, "", static_cast<int>(first) | AT_EMPTY_PATH,
                               static_cast<unsigned>(second), &status);
      SetAnswer(answer, status);
      return result;
    }
    case StreamCall::kName:
      return Name(descriptor, answer);
    case StreamCall::kLock:
      return flock(descriptor, static_cast<int>(first));
    case StreamCall::kPathLimit:
      errno = 0;
      return fpathconf(descriptor, static_cast<int>(first));
    case StreamCall::kGetAttribute:
      return GetAttribute(answer, [&](void* to, size_t room) {
        return fgetxattr(descriptor, NameOf(control).c_str(), to, room);
      });
    case StreamCall::kSetAttribute:
      return SetAttribute(descriptor, control);
    case StreamCall::kListAttributes:
      return GetAttribute(answer, [&](void* to, size_t room) {
        return flistxattr(descriptor, static_cast<char*>(to), room);
      });
    case StreamCall::kSetTimer:
      return SetTimer(descriptor, control, answer);
    case StreamCall::kGetTimer: {
      itimerspec left{};
      const int result = timerfd_gettime(descriptor, &left);
      SetAnswer(answer, left);
      return result;
    }
    case StreamCall::kSocketName:
      return SocketName(descriptor, first != 0, answer);
    case StreamCall::kGetOption:
      return GetOption(descriptor, control, answer);
    case StreamCall::kSetOption:
      return setsockopt(descriptor, static_cast<int>(first), static_cast<int>(second), control.payload.data(),
                        static_cast<socklen_t>(control.payload.size()));
    case StreamCall::kRemoveAttribute:
      return fremovexattr(descriptor, NameOf(control).c_str());
    case StreamCall::kRecordLock:
      return LockRecord(descriptor, control, answer);
    case StreamCall::kShutDown:
    case StreamCall::kShare:
    case StreamCall::kAdvance:
    case StreamCall::kTakeBack:
    case StreamCall::kTakeOffset:
      break;  // OriginStream
  }
  errno = ENOSYS;
  return -1;
}

wire::StreamControlled Answer(int descriptor, const wire::StreamControl& control) {
  wire::StreamControlled answer{control.request, 0, 0, {}};
  errno = 0;
  answer.result = Make(descriptor, control, answer);
  // The descriptor is one: it is not open for that.
  if (answer.result < 0) answer.error = errno == EBADF ? wire::kNotOpenForThat : errno;
  return answer;
}

bool MayWait(const wire::StreamControl& control) {
  switch (static_cast<StreamCall>(control.call)) {
    case StreamCall::kSync:
    case StreamCall::kSyncRange:
      return true;
    case StreamCall::kLock:
      return (control.first & (LOCK_NB | LOCK_UN)) == 0;
    case StreamCall::kRecordLock:
      return control.first == F_OFD_SETLKW;
    default:
      return false;
  }
}

// Ends a system call with EINTR: a handler that does nothing.
int InterruptSignal() {
  static const int signal = [] {
    struct sigaction action {};
    action.sa_handler = [](int) {};
    sigaction(SIGRTMIN, &action, nullptr);
    return SIGRTMIN;
  }();
  return signal;
}

}  // namespace

void WaitingCall::Start() {
  std::thread([self = shared_from_this()] { self->Run(); }).detach();
}

void WaitingCall::Run() {
  sigset_t interrupt;
  sigemptyset(&interrupt);
  sigaddset(&interrupt, InterruptSignal());
  pthread_sigmask(SIG_UNBLOCK, &interrupt, nullptr);
  bool cancelled;
  {
    const std::lock_guard guard(mutex_);
    thread_ = pthread_self();
    cancelled = cancelled_;
    runs_ = !cancelled;
  }
  const wire::StreamControlled answer = cancelled ? wire::StreamControlled{control_.request, -1, EINTR, {}}
                                                  : Answer(descriptor_.get(), control_);
  {
    const std::lock_guard guard(mutex_);
    runs_ = false;
  }
  descriptor_.Reset();
  loop_.Post([self = shared_from_this(), answer] { self->done_(answer); });
}

// A signal that comes before the thread is in its system call is lost, so it is sent until the call has
// ended.
void WaitingCall::Cancel() {
  constexpr std::chrono::milliseconds kAgain{1};
  const std::lock_guard guard(mutex_);
  cancelled_ = true;
  if (!runs_) return;
  pthread_kill(thread_, InterruptSignal());
  loop_.After(kAgain, [self = shared_from_this()] { self->Cancel(); });
}

bool IsProcessLock(const wire::StreamControl& control) {
  return control.call == static_cast<int64_t>(StreamCall::kRecordLock) &&
         (control.first == F_SETLK || control.first == F_SETLKW || control.first == F_GETLK);
}

std::shared_ptr<WaitingCall> RunCall(EventLoop& loop, int descriptor, const wire::StreamControl& control,
                                     WaitingCall::Done done) {
  auto apart = MayWait(control) ? Duplicate(descriptor) : Result<Descriptor>(Error{0, ""});
  if (!apart) {
    done(Answer(descriptor, control));
    return nullptr;
  }
  auto call = std::make_shared<WaitingCall>(loop, std::move(*apart), control, std::move(done));
  call->Start();
  return call;
}

}  // namespace elsewhere::runtime::stream
