// OriginStream: bytes away from the object.
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "runtime/stream/job_control.h"
#include "runtime/stream/origin_stream.h"
#include "runtime/stream/passing.h"
#include "runtime/stream/readers.h"

namespace elsewhere::runtime::stream {
namespace {

constexpr uint64_t kSmallRead = 4096;

void AddTo(std::vector<uint8_t>& bytes, std::span<const uint8_t> more) {
  bytes.insert(bytes.end(), more.begin(), more.end());
}

}  // namespace

Result<size_t> OriginStream::ReadNow(std::span<uint8_t> buffer, std::vector<Descriptor>& passed) {
  if (!returned_.empty()) {
    const size_t taken = std::min(buffer.size(), returned_.size());
    std::copy_n(returned_.begin(), taken, buffer.begin());
    returned_.erase(returned_.begin(), returned_.begin() + static_cast<ptrdiff_t>(taken));
    return taken;
  }
  if (first_ != nullptr && first_->awaited) return Error{EAGAIN, "home's bytes come first"};
  if (first_ != nullptr && !first_->bytes.empty()) {
    const std::vector<uint8_t> taken = first_->Take(buffer.size());
    std::copy(taken.begin(), taken.end(), buffer.begin());
    return taken.size();
  }
  ssize_t taken;
  do {
    if (kind_ == Kind::kSocket) {
      taken = passes_ ? ReceiveBytes(descriptor_.get(), socket_type_ == SOCK_STREAM, buffer, passed)
                      : recv(descriptor_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    } else if (no_wait_reads_) {
      const iovec part{buffer.data(), buffer.size()};
      taken = preadv2(descriptor_.get(), &part, 1, -1, RWF_NOWAIT);
    } else {
      taken = read(pump(), buffer.data(), buffer.size());
    }
  } while (taken < 0 && errno == EINTR);
  if (taken < 0) return Error{errno, "reading from a stream's origin"};
  return static_cast<size_t>(taken);
}

short OriginStream::ReadableNow() const {
  if (!returned_.empty() || !returned_parts_.empty()) return POLLIN;
  if (first_ != nullptr && (first_->awaited || !first_->bytes.empty()))
    return first_->awaited ? short{0} : short{POLLIN};
  return PollNow(pump(), POLLIN);
}

void OriginStream::OnPull(const wire::StreamPull& pull) {
  if (shares_.count(pull.stream) == 0 || closed_ || !readable_) return;
  if (pull.cancel) {
    const auto found = std::find_if(requests_.begin(), requests_.end(), [&](const Request& request) {
      return request.share == pull.stream && request.request == pull.request;
    });
    if (found != requests_.end()) {
      Answer(*found, EAGAIN, true, false, {});
      requests_.erase(found);
      return UpdateInterest();
    }
    const auto parked = std::find_if(parked_.begin(), parked_.end(), [&](const Request& request) {
      return request.share == pull.stream && request.request == pull.request;
    });
    if (parked == parked_.end()) return;  // answered already
    Answer(*parked, EAGAIN, true, false, {});
    parked_.erase(parked);
    return;
  }
  const uint64_t bytes = std::min(pull.bytes, wire::kStreamPullLimit);
  const uint64_t room = std::min(pull.room, wire::kStreamPullLimit);
  const bool wait = pull.wait && !(pull.as_said && (fcntl(descriptor_.get(), F_GETFL) & O_NONBLOCK) != 0);
  const Request request{pull.stream, pull.request, bytes, room, wait, pull.ahead, pull.reader};
  if (MustWaitForTurn(request)) return RefuseOrPark(request);
  requests_.push_back(request);
  if (++pulls_ >= next_look_) LookForReaders();
  EnlargePipe(pull.bytes);
  ServeRequests();
  UpdateInterest();
}

// A large read should find a large write in one piece: the pipe grows to what is asked for, or waits to be
// written while it is read, as far as the kernel permits an ordinary user.
void OriginStream::EnlargePipe(uint64_t wanted) {
  constexpr uint64_t kWorthIt = 128 << 10;
  const bool pipe = kind_ == Kind::kPipeRead || kind_ == Kind::kPipeWrite;
  if (!pipe || wanted < kWorthIt || wanted <= enlarged_) return;
  enlarged_ = std::min(wanted, wire::kStreamPullLimit);
  if (fcntl(pump(), F_GETPIPE_SZ) < static_cast<int>(enlarged_)) {
    fcntl(pump(), F_SETPIPE_SZ, static_cast<int>(enlarged_));
  }
}

// A shell reads a pipe byte by byte, because it must not take what others should read. Where nobody else can,
// a request need not be answered that sparingly. Nobody can get a read end any more once only one host has
// it: a process inherits it from one that has it. Looking is expensive, so it is done ever more rarely.
bool OriginStream::MayReadAhead() const {
  return kind_ == Kind::kPipeRead && shares_.size() == 1 && sole_reader_;
}

void OriginStream::LookForReaders() {
  if (kind_ != Kind::kPipeRead || shares_.size() != 1 || first_ != nullptr) return;
  next_look_ = pulls_ * 2;
  sole_reader_ = sole_reader_ || !HasOtherReaders(descriptor_.get(), descriptors());
  if (sole_reader_) events_.unread(*this);
}

// A terminal's input is its foreground group's. Who reads from the background is refused, and its preload
// does what the kernel would (preload/terminal.cpp); who only watches waits. Somebody whose turn it was when
// it began to wait, and who was stopped since, keeps its place without being served: the line that comes is
// another's. It is asked again when it is continued.
bool OriginStream::MustWaitForTurn(const Request& request) const {
  if (kind_ != Kind::kTerminal) return false;
  const Process* reader = agent_.FindProcess(request.reader);
  return reader != nullptr && InBackground(reader->kernel_pid, pump());
}

void OriginStream::RefuseOrPark(const Request& request) {
  if (!request.ahead) return Answer(request, ERESTART, true, false, {});
  if (request.wait) return parked_.push_back(request);
  Answer(request, EAGAIN, true, false, {});
}

void OriginStream::ProcessContinued(wire::Incarnation process) {
  if (parked_.empty() || closed_) return;
  for (const Request& request : std::exchange(parked_, {})) {
    if (request.reader != process) {
      parked_.push_back(request);
    } else if (MustWaitForTurn(request)) {
      RefuseOrPark(request);
    } else {
      requests_.push_back(request);
    }
  }
  ServeRequests();
  UpdateInterest();
}

void OriginStream::ServeRequests() {
  while (!requests_.empty()) {
    const Request request = requests_.front();
    if (MustWaitForTurn(request)) {
      parked_.push_back(request);
      requests_.pop_front();
      continue;
    }
    if (!Serve(request)) break;
    requests_.pop_front();
  }
  // Nothing is there: those that do not wait learn it now.
  std::erase_if(requests_, [this](const Request& request) {
    if (request.wait) return false;
    Answer(request, EAGAIN, true, false, {});
    return true;
  });
}

// A listening socket cannot be opened again, and accept has no way to say "without waiting": another process
// may take the connection between the look and the call. So the socket does not block for that moment, when
// it has a connection; a process here that finds none just then tries again (preload/stream_accept.cpp).
Result<Descriptor> OriginStream::AcceptNow(std::vector<uint8_t>& address) {
  if (PollNow(descriptor_.get(), POLLIN) == 0) return Error{EAGAIN, "no connection"};
  sockaddr_storage peer{};
  socklen_t size = sizeof peer;
  const int flags = fcntl(descriptor_.get(), F_GETFL);
  if ((flags & O_NONBLOCK) == 0) fcntl(descriptor_.get(), F_SETFL, flags | O_NONBLOCK);
  const int accepted = accept4(descriptor_.get(), reinterpret_cast<sockaddr*>(&peer), &size, SOCK_CLOEXEC);
  const int error = errno;
  if ((flags & O_NONBLOCK) == 0) fcntl(descriptor_.get(), F_SETFL, flags);
  if (accepted < 0) return Error{error, "accept"};
  const auto* bytes = reinterpret_cast<const uint8_t*>(&peer);
  address.assign(bytes, bytes + std::min<size_t>(size, sizeof peer));
  return Descriptor(accepted);
}

bool OriginStream::Accept(const Request& request) {
  Part part;
  auto accepted = AcceptNow(part.bytes);
  if (!accepted && accepted.error().code == EAGAIN) return false;
  if (accepted) part.passed.push_back(std::move(*accepted));
  Answer(request, accepted ? 0 : accepted.error().code, true, false, std::move(part));
  return true;
}

// Takes what is there, up to what was asked, and sends it part by part, so that one part travels while the
// next is read. A terminal gives a line, a datagram socket a message, at a time. False: nothing there.
bool OriginStream::Serve(const Request& asked) {
  if (!returned_parts_.empty()) {
    Answer(asked, 0, true, false, std::move(returned_parts_.front()));
    returned_parts_.pop_front();
    return true;
  }
  if (kind_ == Kind::kListener) return Accept(asked);
  Request request = asked;
  if (request.room > request.bytes && MayReadAhead()) request.bytes = request.room;
  Part part;
  uint64_t sent = 0;
  std::vector<uint8_t> header;
  const bool frames = kind_ == Kind::kPipeRead || (kind_ == Kind::kSocket && !HasDatagrams());
  const bool one_read = kind_ == Kind::kTerminal || borders_ == Borders::kDatagram;
  while (sent < request.bytes || sent == 0) {
    const uint64_t there = std::max<uint64_t>(returned_.size() + BytesWaiting(pump()), kSmallRead);
    // What the reader has no room for is cut where it reads, and it is told so.
    const uint64_t limit = borders_ == Borders::kDatagram ? there
                           : one_read                     ? request.bytes
                                                          : std::min(request.bytes - sent, wire::kStreamPart);
    Part next;
    next.bytes.resize(std::min(limit, there));
    const auto taken = ReadNow(next.bytes, next.passed);
    if (!taken) {
      if (sent != 0) break;
      if (taken.error().code == EAGAIN) return false;
      Answer(request, taken.error().code, true, false, {});
      return true;
    }
    if (*taken == 0) {  // after bytes, the end is for the next request
      if (sent != 0) break;
      const bool end = !HasDatagrams() || HasEnded();
      next.bytes.clear();
      Answer(request, 0, true, end, std::move(next));
      return true;
    }
    next.bytes.resize(*taken);
    if (sent == 0)
      header.assign(next.bytes.begin(), next.bytes.begin() + std::min(static_cast<ptrdiff_t>(*taken),
                                                                      ptrdiff_t{Framing::kHeader}));
    if (sent == 0 || !next.passed.empty() || part.bytes.size() > Framing::kHeader) {
      if (sent != 0) Answer(request, 0, false, false, std::move(part));
      part = std::move(next);
    } else {
      AddTo(part.bytes, next.bytes);
    }
    sent += *taken;
    if (one_read) break;
    if (frames && sent == Framing::kHeader && request.bytes == Framing::kHeader && request.wait)
      request.bytes += MessageBehind(header, request.room);
  }
  if (frames) framing_.Given(request.reader, asked.bytes, sent, header);
  Answer(request, 0, true, false, std::move(part));
  return true;
}

// How much of it is asked for with its length.
uint64_t OriginStream::MessageBehind(std::span<const uint8_t> header, uint64_t room) const {
  const uint64_t length = Framing::LengthIn(header);
  const bool fits = length <= wire::kStreamPart && Framing::kHeader + length <= room;
  return framing_.IsSure() && fits && returned_.size() + BytesWaiting(pump()) >= length ? length : 0;
}

void OriginStream::Answer(const Request& request, int error, bool last, bool end, Part part) {
  const auto share = shares_.find(request.share);
  if (share == shares_.end()) return;
  const HostId to = share->second.host;
  if (!part.bytes.empty()) passing_.BeforeAnswer();
  auto passed = passing_.Pack(to, std::move(part.passed));
  agent_.Send(to, wire::StreamPulled{request.share, request.request, error, last, end, std::move(part.bytes),
                                     std::move(passed)});
}

// A timer takes nothing back: they are for the next reader of another host. Kept as one number, as it was
// read.
void OriginStream::KeepExpirations(std::span<const uint8_t> bytes) {
  uint64_t sum = 0, value = 0;
  if (returned_.size() == sizeof sum) std::memcpy(&sum, returned_.data(), sizeof sum);
  for (size_t at = 0; at + sizeof value <= bytes.size(); at += sizeof value) {
    std::memcpy(&value, bytes.data() + at, sizeof value);
    sum += value;
  }
  returned_.resize(sizeof sum);
  std::memcpy(returned_.data(), &sum, sizeof sum);
}

void OriginStream::OnReturn(wire::StreamReturn&& message) {
  if (kind_ == Kind::kTimer) {
    KeepExpirations(message.bytes);
  } else if (kind_ == Kind::kEvent) {
    // Into the count again, where everybody finds it.
    for (size_t at = 0; !closed_ && at + sizeof(uint64_t) <= message.bytes.size(); at += sizeof(uint64_t))
      static_cast<void>(AddToEvent(std::span(message.bytes).subspan(at, sizeof(uint64_t))));
  } else if (kind_ == Kind::kListener) {
    returned_parts_.push_back(Part{std::move(message.bytes), passing_.Unpack(message.passed)});
    if (returned_parts_.back().passed.empty()) returned_parts_.pop_back();
  } else if (HasDatagrams()) {
    returned_parts_.push_front(Part{std::move(message.bytes), passing_.Unpack(message.passed)});
  } else {
    returned_.insert(returned_.begin(), message.bytes.begin(), message.bytes.end());
  }
  if (closed_) return;
  ServeRequests();
  ServeWatchers();
  UpdateInterest();
}

void OriginStream::OnWatch(const wire::StreamWatch& watch) {
  const auto share = shares_.find(watch.stream);
  if (share == shares_.end() || closed_) return;
  std::erase_if(watchers_, [&](const Watcher& watcher) { return watcher.share == watch.stream; });
  const short events = watch.ask || watch.stay ? ReadableNow() : short{0};
  if (watch.ask || events != 0) {
    agent_.Send(share->second.host,
                wire::StreamReady{watch.stream, watch.request, static_cast<uint32_t>(events)});
  }
  if (events == 0 && watch.stay) watchers_.push_back(Watcher{watch.stream, watch.request});
  UpdateInterest();
}

void OriginStream::ServeWatchers() {
  if (watchers_.empty()) return;
  const short events = ReadableNow();
  if (events == 0) return;
  for (const Watcher& watcher : std::exchange(watchers_, {})) {
    const auto share = shares_.find(watcher.share);
    if (share == shares_.end()) continue;
    agent_.Send(share->second.host,
                wire::StreamReady{watcher.share, watcher.request, static_cast<uint32_t>(events)});
  }
}

// Bytes came back and no other host is there to read them: into the pipe again, so that a reader here finds
// them, in front of what is in it. Only a process here that writes or reads in that very moment could see
// them out of their order.
void OriginStream::PutBack() {
  if (returned_.empty() || kind_ != Kind::kPipeRead || closed_) return;
  if (first_ != nullptr && !first_->bytes.empty()) return first_->Put(std::exchange(returned_, {}));
  const auto writer = OpenAgain(descriptor_.get(), O_WRONLY | O_NONBLOCK);
  if (!writer) return;
  const size_t before = returned_.size();
  const size_t behind = no_wait_reads_ ? 0 : BytesWaiting(pump());
  // The same bytes in other pieces may take more pages.
  fcntl(pump(), F_SETPIPE_SZ, static_cast<int>(before + behind) + fcntl(pump(), F_GETPIPE_SZ));
  returned_.resize(before + behind);
  const ssize_t taken = behind == 0 ? 0 : read(pump(), returned_.data() + before, behind);
  returned_.resize(before + static_cast<size_t>(std::max<ssize_t>(taken, 0)));
  const ssize_t put = write(writer->get(), returned_.data(), returned_.size());
  returned_.erase(returned_.begin(), returned_.begin() + std::max<ssize_t>(put, 0));
}

void OriginStream::SetFirst(std::shared_ptr<FirstBytes> first) {
  if (first_ == first) return;
  first_ = std::move(first);
  sole_reader_ = false;
  first_->on_more.push_back([this, alive = std::weak_ptr(alive_)] {
    if (alive.expired() || closed_) return;
    ServeRequests();
    ServeWatchers();
    UpdateInterest();
  });
}

}  // namespace elsewhere::runtime::stream
