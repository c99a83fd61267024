#include "runtime/stream/local_object.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pty.h>
#include <sys/socket.h>
#include <termios.h>

#include <algorithm>
#include <bit>
#include <cerrno>

#include "shim/wire/stream_message.h"

namespace elsewhere::runtime::stream {
namespace {

void AddStatusFlags(int descriptor, int flags) {
  const int now = fcntl(descriptor, F_GETFL);
  if (now >= 0) fcntl(descriptor, F_SETFL, now | flags);
}

void SetLimit(int descriptor, int option, uint64_t microseconds) {
  const timeval limit{static_cast<time_t>(microseconds / 1'000'000),
                      static_cast<suseconds_t>(microseconds % 1'000'000)};
  if (microseconds != 0) setsockopt(descriptor, SOL_SOCKET, option, &limit, sizeof limit);
}

}  // namespace

wire::StreamMark MarkOf(Kind kind) {
  switch (kind) {
    case Kind::kPipeRead:
      return wire::StreamMark::kPipeRead;
    case Kind::kPipeWrite:
      return wire::StreamMark::kPipeWrite;
    case Kind::kSocket:
      return wire::StreamMark::kSocket;
    case Kind::kTerminal:
      return wire::StreamMark::kTerminal;
    case Kind::kOutputFile:
      return wire::StreamMark::kOutputFile;
    case Kind::kEvent:
      return wire::StreamMark::kEvent;
    case Kind::kTimer:
      return wire::StreamMark::kTimer;
    case Kind::kListener:
      return wire::StreamMark::kListener;
    default:
      return wire::StreamMark::kNone;
  }
}

Result<std::unique_ptr<LocalObject>> LocalObject::Create(Kind kind, const ObjectTraits& traits) {
  std::unique_ptr<LocalObject> object(new LocalObject);
  object->kind_ = kind;
  Status made = kind == Kind::kSocket     ? object->MakeSocket(traits.socket_type, traits)
                : AnswersCalls(kind)      ? object->MakeSocket(SOCK_SEQPACKET, traits)
                : kind == Kind::kTerminal ? object->MakeTerminal(traits)
                                          : object->MakePipe(kind);
  if (!made) return made.error();
  const auto status = Stat(object->process_end_.get());
  if (!status) return status.error();
  object->id_ = IdOf(*status);
  return object;
}

Status LocalObject::MakePipe(Kind kind) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return SystemError("pipe2");
  const bool processes_read = kind == Kind::kPipeRead;
  process_end_.Reset(ends[processes_read ? 0 : 1]);
  agent_end_.Reset(ends[processes_read ? 1 : 0]);
  AddStatusFlags(agent_end_.get(), O_NONBLOCK);
  capacity_ = static_cast<size_t>(std::max(fcntl(agent_end_.get(), F_GETPIPE_SZ), 4096));
  if (!processes_read) return Ok{};
  auto path = OpenAgain(agent_end_.get(), O_PATH);
  if (!path) return path.error();
  path_ = std::move(*path);
  return Ok{};
}

Status LocalObject::MakeSocket(int type, const ObjectTraits& traits) {
  int ends[2];
  const int local = type == SOCK_DGRAM ? SOCK_SEQPACKET : type;
  if (socketpair(AF_UNIX, local | SOCK_CLOEXEC, 0, ends) != 0) return SystemError("socketpair");
  socket_type_ = type;
  // An empty message has its sender's credentials, the end has none.
  const int credentials = 1;
  if (local == SOCK_SEQPACKET && !AnswersCalls(kind_))
    setsockopt(ends[0], SOL_SOCKET, SO_PASSCRED, &credentials, sizeof credentials);
  agent_end_.Reset(ends[0]);
  process_end_.Reset(ends[1]);
  AddStatusFlags(agent_end_.get(), O_NONBLOCK);
  capacity_ = wire::kStreamPart;
  SetLimit(process_end_.get(), SO_RCVTIMEO, traits.receive_limit);
  SetLimit(process_end_.get(), SO_SNDTIMEO, traits.send_limit);
  return Ok{};
}

Status LocalObject::MakeTerminal(const ObjectTraits& traits) {
  const winsize size{traits.rows, traits.columns, 0, 0};
  int master = -1, slave = -1;
  if (openpty(&master, &slave, nullptr, nullptr, &size) != 0) return SystemError("openpty");
  agent_end_.Reset(master);
  process_end_.Reset(slave);
  fcntl(master, F_SETFD, FD_CLOEXEC);
  fcntl(slave, F_SETFD, FD_CLOEXEC);
  AddStatusFlags(master, O_NONBLOCK);
  termios attributes;
  if (tcgetattr(slave, &attributes) != 0) return SystemError("tcgetattr");
  cfmakeraw(&attributes);
  attributes.c_cc[VMIN] = 0;
  attributes.c_cc[VTIME] = 0;
  if (tcsetattr(slave, TCSANOW, &attributes) != 0) return SystemError("tcsetattr");
  capacity_ = 4096;
  return Ok{};
}

Result<Descriptor> LocalObject::OpenForProcesses(int status_flags) {
  Result<Descriptor> opened = kind_ == Kind::kTerminal ? OpenTerminal(status_flags)
                              : IsEachJobsOwn(kind_)   ? Result<Descriptor>(std::move(process_end_))
                              : AnswersCalls(kind_)    ? Duplicate(process_end_.get())
                                                       : OpenPipe(status_flags);
  if (!opened) return opened;
  if (!*opened) return Error{EBUSY, "a socket's stand-in was given away already"};
  if (kind_ == Kind::kSocket || AnswersCalls(kind_)) AddStatusFlags(opened->get(), status_flags & O_NONBLOCK);
  if (fcntl(opened->get(), F_SETSIG, static_cast<int>(MarkOf(kind_))) != 0) return SystemError("F_SETSIG");
  return opened;
}

Result<Descriptor> LocalObject::OpenPipe(int status_flags) {
  const bool processes_read = kind_ == Kind::kPipeRead;
  const int through = processes_read ? path_.get() : agent_end_.get();
  // Opening the writing side of a pipe never waits here: the agent is its reader.
  auto opened = OpenAgain(through, (processes_read ? O_RDONLY | O_NONBLOCK : O_WRONLY));
  if (!opened) return opened;
  // The end that kept the pipe alive until a process holds one.
  process_end_.Reset();
  // Reading never blocks here: who was told of bytes that another process took asks again
  // (preload/descriptor.h).
  const int flags = processes_read ? O_NONBLOCK : (status_flags & O_NONBLOCK) | O_DIRECT;
  if (fcntl(opened->get(), F_SETFL, flags) != 0) return SystemError("F_SETFL");
  return opened;
}

Result<Descriptor> LocalObject::OpenTerminal(int status_flags) {
  const int slave = ioctl(agent_end_.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (slave < 0) return SystemError("TIOCGPTPEER");
  process_end_.Reset();
  AddStatusFlags(slave, status_flags & O_NONBLOCK);
  return Descriptor(slave);
}

size_t LocalObject::Unread() const {
  switch (kind_) {
    case Kind::kPipeRead:
      return agent_end_ ? BytesWaiting(agent_end_.get()) : 0;
    case Kind::kSocket: {
      int bytes = 0;  // what was sent and not yet received by the other end
      return ioctl(agent_end_.get(), TIOCOUTQ, &bytes) == 0 && bytes > 0 ? static_cast<size_t>(bytes) : 0;
    }
    default:
      return 0;
  }
}

size_t LocalObject::RoomFor(size_t wanted) {
  if (AnswersCalls(kind_)) return sizeof(uint64_t);
  if (kind_ != Kind::kPipeRead) return std::min(wanted, capacity_);
  if (!agent_end_) return std::min(wanted, capacity_);
  wanted = std::min<size_t>(wanted, wire::kStreamPullLimit);
  if (wanted > capacity_) {
    const int grown = fcntl(agent_end_.get(), F_SETPIPE_SZ, static_cast<int>(wanted));
    if (grown > 0) capacity_ = static_cast<size_t>(grown);
  }
  const size_t unread = Unread();
  // A partly filled page at the end may not be shared by the next write: leave one out.
  const size_t used = unread == 0 ? 0 : (unread + 2 * 4096) & ~size_t{4095};
  return used >= capacity_ ? 0 : std::min(wanted, capacity_ - used);
}

Result<size_t> LocalObject::Take(std::span<uint8_t> buffer, std::vector<Descriptor>& passed) {
  DropCopied();
  bool message = false;
  ssize_t taken = kind_ == Kind::kSocket
                      ? ReceiveBytes(agent_end_.get(), socket_type_ == SOCK_STREAM, buffer, passed, &message)
                      : read(agent_end_.get(), buffer.data(), buffer.size());
  if (taken == 0 && kind_ == Kind::kSocket && socket_type_ != SOCK_STREAM && !message)
    return Error{EPIPE, "no process writes to a stream's stand-in any more"};
  if (taken < 0 && errno == EIO && kind_ == Kind::kTerminal) taken = 0;  // the last slave was closed
  if (taken < 0) return Error{errno, "reading from a stream's stand-in"};
  return static_cast<size_t>(taken);
}

void LocalObject::Enlarge() {
  constexpr int kLargePipe = 256 << 10;
  if (process_writes_large_ || kind_ != Kind::kOutputFile) return;
  process_writes_large_ = true;
  fcntl(agent_end_.get(), F_SETPIPE_SZ, kLargePipe);
}

void LocalObject::FitPackets(size_t packets, size_t bytes) {
  constexpr size_t kMostMore = 4;
  if (kind_ != Kind::kPipeWrite || bytes == 0 || packets < capacity_ / PIPE_BUF) return;
  const size_t more = std::min(std::bit_ceil(packets * PIPE_BUF / bytes), kMostMore);
  if (more == more_packets_) return;
  if (fcntl(agent_end_.get(), F_SETPIPE_SZ, static_cast<int>(more * capacity_)) > 0) more_packets_ = more;
}

// Leaves as little room as what is in it permits: what comes now may be large.
void LocalObject::WindowIsFull() {
  for (size_t more = 1; more < more_packets_; more *= 2) {
    if (fcntl(agent_end_.get(), F_SETPIPE_SZ, static_cast<int>(more * capacity_)) > 0) more_packets_ = more;
  }
}

bool LocalObject::Copy(std::vector<uint8_t>& bytes, std::vector<uint32_t>& records) {
  if (kind_ != Kind::kPipeWrite) return false;
  std::vector<uint8_t> all;
  std::vector<uint32_t> sizes;
  if (!CopyPackets(agent_end_.get(), all, sizes)) return false;
  size_t known = 0, first = 0;
  while (known < copied_ && first < sizes.size()) known += sizes[first++];
  bytes.assign(all.begin() + static_cast<ptrdiff_t>(known), all.end());
  records.assign(sizes.begin() + static_cast<ptrdiff_t>(first), sizes.end());
  copied_ = all.size();
  return !bytes.empty();
}

void LocalObject::DropCopied() {
  uint8_t packet[PIPE_BUF];
  while (copied_ > 0) {
    const ssize_t dropped = read(agent_end_.get(), packet, sizeof packet);
    if (dropped < 0 && errno == EINTR) continue;
    if (dropped <= 0) break;
    copied_ -= static_cast<size_t>(dropped);
  }
}

Result<size_t> LocalObject::Give(std::span<const uint8_t> bytes, const std::vector<Descriptor>& passed) {
  const ssize_t given = kind_ == Kind::kSocket || AnswersCalls(kind_)
                            ? SendBytes(agent_end_.get(), bytes, passed)
                            : write(agent_end_.get(), bytes.data(), bytes.size());
  if (given < 0) return Error{errno, "writing to a stream's stand-in"};
  return static_cast<size_t>(given);
}

std::vector<uint8_t> LocalObject::TakeUnread() {
  std::vector<uint8_t> unread(kind_ == Kind::kPipeRead ? Unread() : 0);
  if (unread.empty()) return unread;
  const auto reader = OpenAgain(path_.get(), O_RDONLY | O_NONBLOCK);
  const ssize_t taken = reader ? read(reader->get(), unread.data(), unread.size()) : 0;
  unread.resize(taken > 0 ? static_cast<size_t>(taken) : 0);
  return unread;
}

void LocalObject::ShowReadable() {
  constexpr uint64_t kNoValue = 0;
  if (AnswersCalls(kind_))
    shown_ = send(agent_end_.get(), &kNoValue, sizeof kNoValue, MSG_NOSIGNAL | MSG_DONTWAIT) > 0;
  if (kind_ == Kind::kPipeRead) agent_end_.Reset();
}

Status LocalObject::HideReadable() {
  if (!shows_readable()) return Ok{};
  if (AnswersCalls(kind_)) return TakeBackRecord();
  auto opened = OpenAgain(path_.get(), O_WRONLY | O_NONBLOCK);
  if (!opened) return opened.error();
  agent_end_ = std::move(*opened);
  return Ok{};
}

Status LocalObject::TakeBackRecord() {
  const Descriptor borrowed =
      process_end_ ? Descriptor() : holder_end_.Borrow(id_, "socket:[" + std::to_string(id_.inode) + "]");
  const int end = process_end_ ? process_end_.get() : borrowed.get();
  if (end < 0)
    return (PollNow(agent_end_.get(), 0) & POLLHUP) == 0 ? Status(Ok{}) : Error{ENXIO, "nobody holds it"};
  uint64_t value;
  shown_ = false;
  static_cast<void>(recv(end, &value, sizeof value, MSG_DONTWAIT));
  return Ok{};
}

void LocalObject::EndInput() {
  switch (kind_) {
    case Kind::kPipeRead:
      agent_end_.Reset();
      break;
    case Kind::kSocket:
      shutdown(agent_end_.get(), SHUT_WR);
      break;
    default:
      break;
  }
}

void LocalObject::EndOutput() {
  if (kind_ == Kind::kSocket) {
    shutdown(agent_end_.get(), SHUT_RD);
  } else {
    agent_end_.Reset();
    copied_ = 0;
  }
}

}  // namespace elsewhere::runtime::stream
