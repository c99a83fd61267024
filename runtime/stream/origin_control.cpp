// OriginStream: calls on the object.
#include <fcntl.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "runtime/mapped_files.h"
#include "runtime/shared_files.h"
#include "runtime/stream/origin_call.h"
#include "runtime/stream/origin_stream.h"
#include "shim/wire/stream_call.h"

namespace elsewhere::runtime::stream {
namespace {

// Requests that carry a plain structure or nothing, and are safe on another process's behalf.
size_t IoctlSize(int64_t request) {
  switch (request) {
    case TCGETS:
    case TCSETS:
    case TCSETSW:
    case TCSETSF:
      return 36;  // struct termios of the kernel
    case TIOCGWINSZ:
    case TIOCSWINSZ:
      return sizeof(winsize);
    case TIOCINQ:
    case TIOCOUTQ:
    case TIOCGPGRP:
    case TIOCGSID:
    case TIOCGDEV:
      return sizeof(int);
    default:
      return 0;
  }
}

bool IoctlByValue(int64_t request) {
  return request == TCFLSH || request == TCXONC || request == TCSBRK;
}

wire::StreamControlled RunIoctl(int descriptor, const wire::StreamControl& control) {
  wire::StreamControlled answer{control.request, 0, 0, {}};
  const auto request = static_cast<unsigned long>(control.first);
  if (IoctlByValue(control.first)) {
    answer.result = ioctl(descriptor, request, control.second);
  } else if (const size_t size = IoctlSize(control.first); size != 0) {
    answer.payload = control.payload;
    answer.payload.resize(size);
    answer.result = ioctl(descriptor, request, answer.payload.data());
  } else {
    answer.result = -1;
    errno = ENOTTY;
  }
  if (answer.result < 0) answer.error = errno;
  return answer;
}

wire::StreamControlled RunStat(int descriptor, const wire::StreamControl& control) {
  wire::StreamControlled answer{control.request, 0, 0, {}};
  const auto status = Stat(descriptor);
  if (!status) return {control.request, -1, status.error().code, {}};
  answer.payload.resize(sizeof *status);
  std::memcpy(answer.payload.data(), &*status, sizeof *status);
  return answer;
}

wire::StreamControlled RunSeek(int descriptor, const wire::StreamControl& control) {
  const off_t at = lseek(descriptor, control.first, static_cast<int>(control.second));
  return {control.request, at, at < 0 ? errno : 0, {}};
}

}  // namespace

void OriginStream::OnControl(const wire::StreamControl& control) {
  const auto share = shares_.find(control.stream);
  if (share == shares_.end()) return;
  const auto make = [this, control, host = share->second.host] {
    if (control.operation == wire::StreamOperation::kCancel) return CancelCall(host, control);
    MakeCall(host, control);
  };
  if (WaitsForBytes(kind_))
    return WhenWritten(control.stream, wire::Patience::kLong, [make](bool) { make(); });
  make();
}

// Record locks that belong to a process of another host: they are those of a description that only it has,
// for the kernel knows no more of it than that. A file that has a name is opened where the process is.
int OriginStream::DescriptorOfLocker(wire::StreamControl& call) {
  Descriptor& own = lockers_[static_cast<int32_t>(call.third)];
  if (!own) {
    auto opened = OpenAgain(descriptor_.get(), flags_ & O_ACCMODE);
    if (opened) own = std::move(*opened);
  }
  call.first = call.first == F_SETLK ? F_OFD_SETLK : call.first == F_SETLKW ? F_OFD_SETLKW : F_OFD_GETLK;
  return own.get();
}

// Of a plain file that processes of several hosts write to. The kernel orders these steps and the writes of
// this host's own processes, so that no two are given the same place.
wire::StreamControlled OriginStream::MoveOffset(const wire::StreamControl& control) {
  const auto share = shares_.find(control.stream);
  const bool back = control.call == static_cast<int64_t>(wire::StreamCall::kTakeBack);
  if (share == shares_.end() || !CarriesOffset(kind_)) return {control.request, -1, EBADF, {}};
  if (back && OffsetNow() == control.first) lseek(descriptor_.get(), control.third, SEEK_SET);
  const off_t now = lseek(descriptor_.get(), back ? 0 : control.first, SEEK_CUR);
  if (now < 0) return {control.request, -1, errno, {}};
  share->second.offset = now;
  return {control.request, back ? now : now - control.first, 0, {}};
}

wire::StreamControlled OriginStream::ShareFile(const wire::StreamControl& control) {
  SharedFiles* const files = agent_.shared_files();
  auto shared = files == nullptr || kind_ != Kind::kOutputFile
                    ? Result<wire::SharedFile>(Error{ENODEV, "not a file of home"})
                    : files->ShareFile(descriptor_.get(), static_cast<int32_t>(control.first));
  wire::StreamControlled answer{control.request, shared ? 0 : -1, shared ? 0 : shared.error().code, {}};
  if (!shared) return answer;
  answer.payload.resize(sizeof *shared);
  std::memcpy(answer.payload.data(), &*shared, sizeof *shared);
  return answer;
}

void OriginStream::MakeCall(HostId host, const wire::StreamControl& control) {
  wire::StreamControlled answer;
  const auto send = [&agent = agent_, host](const wire::StreamControlled& made) { agent.Send(host, made); };
  if (!closed_ && mapped() != nullptr &&
      mapped()->TakeCall(object_.device, object_.inode, descriptor_.get(), control, send))
    return;
  if (!closed_ && control.call == static_cast<int64_t>(wire::StreamCall::kShutDown)) {
    const int error = ShutDown(static_cast<int>(control.first));
    return send({control.request, error == 0 ? 0 : -1, error, {}});
  }
  if (!closed_ && control.call == static_cast<int64_t>(wire::StreamCall::kShare))
    return send(ShareFile(control));
  if (!closed_ && control.call == static_cast<int64_t>(wire::StreamCall::kTakeOffset))
    return TakeOffset(control);
  if (!closed_ && wire::MovesOffset(control.call)) return send(MoveOffset(control));
  if (!closed_ && control.operation == wire::StreamOperation::kCall) {
    const auto key = std::pair(control.stream, control.request);
    const auto done = [this, alive = std::weak_ptr(alive_), key, send](const wire::StreamControlled& made) {
      if (!alive.expired()) calls_.erase(key);
      send(made);
    };
    wire::StreamControl call = control;
    const int descriptor = IsProcessLock(control) ? DescriptorOfLocker(call) : descriptor_.get();
    if (descriptor < 0) return send({control.request, -1, ENOLCK, {}});
    if (auto waits = RunCall(agent_.loop(), descriptor, call, done)) calls_[key] = std::move(waits);
    return;
  }
  if (closed_) {
    answer = {control.request, -1, EBADF, {}};
  } else if (control.operation == wire::StreamOperation::kStat) {
    answer = RunStat(descriptor_.get(), control);
  } else if (control.operation == wire::StreamOperation::kSeek) {
    answer = RunSeek(descriptor_.get(), control);
  } else if (control.operation == wire::StreamOperation::kAvailable) {
    size_t before = returned_.size() + (first_ != nullptr ? first_->bytes.size() : 0);
    for (const Part& part : returned_parts_) before += part.bytes.size();
    answer = {control.request, static_cast<int64_t>(before + BytesWaiting(pump())), 0, {}};
  } else {
    answer = RunIoctl(pump(), control);
  }
  send(answer);
}

// One that is not here was answered, or is another component's, which does not take it back.
void OriginStream::CancelCall(HostId host, const wire::StreamControl& control) {
  const auto call = calls_.find({control.stream, control.request});
  if (call != calls_.end()) return call->second->Cancel();
  agent_.Send(host, wire::StreamControlled{control.request, -1, EINTR, {}});
}

}  // namespace elsewhere::runtime::stream
