#include "runtime/stream/origin_stream.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "runtime/mapped_files.h"
#include "runtime/stream/job_control.h"
#include "runtime/stream/passing.h"
#include "runtime/stream/readers.h"

namespace elsewhere::runtime::stream {

Result<std::unique_ptr<OriginStream>> OriginStream::Create(Agent& agent, Passing& passing, Kind kind,
                                                           Descriptor descriptor, int flags, Events events) {
  std::unique_ptr<OriginStream> stream(
      new OriginStream(agent, passing, kind, std::move(descriptor), flags, std::move(events)));
  if (auto opened = stream->OpenPump(); !opened) return opened.error();
  stream->UpdateInterest();
  return stream;
}

OriginStream::OriginStream(Agent& agent, Passing& passing, Kind kind, Descriptor descriptor, int flags,
                           Events events)
    : agent_(agent),
      passing_(passing),
      kind_(kind),
      descriptor_(std::move(descriptor)),
      flags_(flags),
      events_(std::move(events)) {
  readable_ =
      kind == Kind::kPipeRead || kind == Kind::kSocket || kind == Kind::kTerminal || AnswersCalls(kind);
  writable_ = kind != Kind::kPipeRead && !CarriesOffset(kind) && kind != Kind::kListener;
  const auto status = kind == Kind::kOutputFile && agent.mapped_files() != nullptr
                          ? Stat(descriptor_.get())
                          : Result<struct stat>(Error{0, ""});
  if (!status) return;
  object_ = IdOf(*status);
  is_mapped_ = agent.mapped_files()->NameOf(object_.device, object_.inode, "").has_value();
}

// What goes in front of the end; what grows is seen by the size.
void OriginStream::NoteRewriting() {
  if ((fcntl(descriptor_.get(), F_GETFL) & O_APPEND) != 0) return;
  const auto status = Stat(descriptor_.get());
  if (status && lseek(descriptor_.get(), 0, SEEK_CUR) < status->st_size)
    mapped()->NoteRewritten(object_.device, object_.inode);
}

OriginStream::~OriginStream() {
  CloseEverything();
}

Status OriginStream::OpenPump() {
  if (kind_ == Kind::kSocket) {
    socklen_t size = sizeof socket_type_;
    if (getsockopt(descriptor_.get(), SOL_SOCKET, SO_TYPE, &socket_type_, &size) != 0)
      return SystemError("SO_TYPE");
    if (socket_type_ != SOCK_STREAM) borders_ = Borders::kDatagram;
    int domain = 0;
    size = sizeof domain;
    passes_ = getsockopt(descriptor_.get(), SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_UNIX;
    if (!CanWrite()) broken_ = EPIPE;
    return Ok{};
  }
  if (!Pollable() || kind_ == Kind::kListener) return Ok{};
  if (IsCounter(kind_)) {
    borders_ = Borders::kDatagram;
    no_wait_reads_ = true;
    // One byte is too little for a counter; a kernel that cannot read it without waiting says so before.
    uint8_t byte;
    const iovec part{&byte, sizeof byte};
    if (preadv2(descriptor_.get(), &part, 1, -1, RWF_NOWAIT) < 0 && errno == EOPNOTSUPP)
      return Error{ENOTSUP, kind_ == Kind::kEvent ? "an eventfd cannot move to another host on this kernel"
                                                  : "a timerfd cannot move to another host on this kernel"};
    return Ok{};
  }
  if (kind_ == Kind::kPipeWrite) borders_ = Borders::kAtomic;
  const int mode = kind_ == Kind::kPipeRead    ? O_RDONLY
                   : kind_ == Kind::kPipeWrite ? O_WRONLY
                                               : flags_ & O_ACCMODE;
  auto again = OpenAgain(descriptor_.get(), mode | O_NONBLOCK);
  if (again) {
    pump_ = std::move(*again);
    if (kind_ == Kind::kPipeWrite && (PollNow(pump_.get(), 0) & POLLERR) != 0)
      broken_ = EPIPE;  // no reader is left
    return Ok{};
  }
  if (again.error().code == ENXIO && kind_ == Kind::kPipeWrite) {  // the same of a FIFO
    broken_ = EPIPE;
    return Ok{};
  }
  if (kind_ == Kind::kTerminal && again.error().code == ENXIO) {
    const int opened = OpenTerminalByName(descriptor_.get(), mode | O_NONBLOCK);
    if (opened < 0) return SystemError("the terminal cannot be opened again");
    pump_.Reset(opened);
    return Ok{};
  }
  // Another user's pipe (standard output of sudo): leave its flags alone and say it with every call.
  if (kind_ == Kind::kTerminal) return again.error();
  no_wait_reads_ = true;
  return Ok{};
}

// ---- Shares ----

const std::map<StreamId, HostId> OriginStream::Shares() const {
  std::map<StreamId, HostId> result;
  for (const auto& [id, share] : shares_) result[id] = share.host;
  return result;
}

uint32_t OriginStream::Grant(StreamId id, HostId host) {
  Share& share = shares_[id];
  if (CarriesOffset(kind_) && share.granted == 0) share.offset = OffsetNow();
  share.host = host;
  share.closing = false;
  sole_reader_ = false;
  next_look_ = pulls_ + 16;
  share.open.Add(++share.granted);
  return share.granted;
}

void OriginStream::Withdraw(StreamId id, uint32_t grant) {
  const auto found = shares_.find(id);
  if (found == shares_.end()) return;
  found->second.open.Remove(grant, grant);
  MaybeClosing(id, found->second);
}

// The share ends when its host has closed it after all grants that it will ever see.
void OriginStream::MaybeClosing(StreamId id, Share& share) {
  if (!share.open.empty()) return;
  share.closing = true;
  EndIfWritten(id);
}

void OriginStream::OnClose(const wire::StreamClose& close) {
  const auto found = shares_.find(close.stream);
  if (found == shares_.end()) return;
  found->second.open.Remove(close.grants);
  found->second.offset = -1;  // a job on its way there knows what it was before
  MaybeClosing(close.stream, found->second);
}

void OriginStream::HostGone(HostId host) {
  std::vector<StreamId> gone;
  for (const auto& [id, share] : shares_) {
    if (share.host == host) gone.push_back(id);
  }
  for (const StreamId id : gone) {
    const auto found = shares_.find(id);
    if (found == shares_.end()) continue;
    found->second.open.Clear();
    MaybeClosing(id, found->second);
  }
}

void OriginStream::EndIfWritten(StreamId id) {
  const auto found = shares_.find(id);
  if (found == shares_.end()) return;
  Share& share = found->second;
  if (share.written < share.received) return;
  if (!share.closing) return;
  if (share.credited < share.written) SendCredit(id, share, true);
  auto waiting = std::move(share.waiting);
  shares_.erase(found);
  NoReader(id);
  std::erase_if(requests_, [id](const Request& request) { return request.share == id; });
  std::erase_if(parked_, [id](const Request& request) { return request.share == id; });
  std::erase_if(watchers_, [id](const Watcher& watcher) { return watcher.share == id; });
  std::erase_if(calls_, [id](const auto& call) {
    if (call.first.first != id) return false;
    call.second->Cancel();
    return true;
  });
  if (shares_.empty()) {
    PutBack();
    CloseEverything();
    events_.unused(*this);
  } else {
    UpdateInterest();
  }
  for (const Share::Waiting& each : waiting) each.action(false);
}

void OriginStream::CloseEverything() {
  for (EventLoop::TimerId* timer : {&standstill_, &credit_look_}) {
    if (*timer != 0) agent_.loop().Cancel(std::exchange(*timer, 0));
  }
  if (added_) agent_.loop().Remove(pump());
  added_ = false;
  closed_ = true;
  pump_.Reset();
  descriptor_.Reset();
  lockers_.clear();
}

std::optional<OriginStream::Sole> OriginStream::SoleShare() const {
  const bool pipe = kind_ == Kind::kPipeRead || kind_ == Kind::kPipeWrite;
  if (!pipe || closed_ || broken_ != 0 || hung_up_ || first_ != nullptr || shares_.size() != 1)
    return std::nullopt;
  if (shares_.begin()->second.closing) return std::nullopt;
  if ((fcntl(descriptor_.get(), F_GETFL) & (O_DIRECT | O_ASYNC)) != 0) return std::nullopt;
  const auto& [id, share] = *shares_.begin();
  return Sole{id, share.host, share.open.last()};
}

std::vector<uint8_t> OriginStream::TakeAll() {
  std::vector<uint8_t> all = kind_ == Kind::kPipeWrite ? queue_.TakeAll() : std::exchange(returned_, {});
  std::vector<Descriptor> none;
  for (bool more = kind_ == Kind::kPipeRead; more;) {
    const size_t at = all.size();
    all.resize(at + wire::kStreamPart);
    const auto taken = ReadNow(std::span(all).subspan(at), none);
    all.resize(at + (taken ? *taken : 0));
    more = taken && *taken > 0;
  }
  return all;
}

void OriginStream::Leave() {
  std::vector<Action> ready;
  for (auto& [id, share] : std::exchange(shares_, {})) {
    for (auto& waiting : share.waiting) ready.push_back(std::move(waiting.action));
  }
  requests_.clear();
  watchers_.clear();
  CloseEverything();
  events_.unused(*this);
  for (const Action& action : ready) action(false);
}

namespace {

uint64_t LimitOf(int descriptor, int option) {
  timeval limit{};
  socklen_t size = sizeof limit;
  if (getsockopt(descriptor, SOL_SOCKET, option, &limit, &size) != 0) return 0;
  return static_cast<uint64_t>(limit.tv_sec) * 1'000'000 + static_cast<uint64_t>(limit.tv_usec);
}

}  // namespace

ObjectTraits OriginStream::Traits() const {
  ObjectTraits traits;
  traits.window = Window();
  traits.socket_type = socket_type_;
  traits.broken = broken_;
  if (kind_ == Kind::kSocket || kind_ == Kind::kListener) {
    traits.receive_limit = LimitOf(descriptor_.get(), SO_RCVTIMEO);
    traits.send_limit = LimitOf(descriptor_.get(), SO_SNDTIMEO);
  }
  winsize size{};
  if (kind_ == Kind::kTerminal && ioctl(pump(), TIOCGWINSZ, &size) == 0) {
    traits.rows = size.ws_row;
    traits.columns = size.ws_col;
  }
  return traits;
}

// ---- Bytes towards the object ----

void OriginStream::OnData(wire::StreamData&& data) {
  const auto found = shares_.find(data.stream);
  if (found == shares_.end() || closed_) return;
  Share& share = found->second;
  if (data.generation != share.generation) {
    share.generation = data.generation;
    share.base = share.received;
  }
  if (share.base + data.position != share.received) return;  // sent again after a lost connection
  share.received += data.bytes.size();
  if (broken_ != 0) return Written(data.stream, data.bytes.size());
  auto passed = passing_.Unpack(data.passed);
  if (!passes_) passed.clear();  // the kernel ignores them
  queue_.Push(data.stream, std::move(data.bytes), std::move(data.records), std::move(passed));
  Flush();
}

Result<size_t> OriginStream::WriteNow(std::span<const uint8_t> bytes, const std::vector<Descriptor>& passed) {
  ssize_t written;
  if (IsCounter(kind_)) return AddToEvent(bytes);
  if (mapped() != nullptr) NoteRewriting();
  if (kind_ == Kind::kSocket) {
    written = SendBytes(descriptor_.get(), bytes, passed);
  } else if (no_wait_reads_) {
    const iovec part{const_cast<uint8_t*>(bytes.data()), bytes.size()};
    written = pwritev2(descriptor_.get(), &part, 1, -1, RWF_NOWAIT);
  } else {
    written = write(pump(), bytes.data(), bytes.size());
  }
  if (written < 0) return Error{errno, "writing to a stream's origin"};
  return static_cast<size_t>(written);
}

// The count of an eventfd. Writing waits only where the sum passes 2^64 - 2; what an eventfd would refuse is
// nothing.
Result<size_t> OriginStream::AddToEvent(std::span<const uint8_t> bytes) {
  uint64_t value = 0;
  if (bytes.size() != sizeof value) return bytes.size();
  std::memcpy(&value, bytes.data(), sizeof value);
  if (value == UINT64_MAX || kind_ == Kind::kTimer) return bytes.size();
  if ((PollNow(descriptor_.get(), POLLOUT) & POLLOUT) == 0) return Error{EAGAIN, "the event's count is full"};
  constexpr uint64_t kLarge = uint64_t{1} << 32;
  const int flags = value >= kLarge ? fcntl(descriptor_.get(), F_GETFL) : O_NONBLOCK;
  // A value that may not fit, which no ordinary program writes, is worth the flag's being seen for a moment.
  if ((flags & O_NONBLOCK) == 0) fcntl(descriptor_.get(), F_SETFL, flags | O_NONBLOCK);
  const ssize_t written = write(descriptor_.get(), bytes.data(), bytes.size());
  const int error = errno;
  if ((flags & O_NONBLOCK) == 0) fcntl(descriptor_.get(), F_SETFL, flags);
  if (written < 0) return Error{error, "writing to an eventfd"};
  return bytes.size();
}

void OriginStream::Flush() {
  if (closed_ || broken_ != 0) return;
  std::map<StreamId, uint64_t> progress;
  const auto flushed = queue_.Flush(
      borders_,
      [this](std::span<const uint8_t> bytes, const std::vector<Descriptor>& passed) {
        return WriteNow(bytes, passed);
      },
      [&](StreamId share, size_t bytes) { progress[share] += bytes; });
  const int error = flushed ? 0 : flushed.error().code;
  uint64_t written = 0;
  for (const auto& [share, bytes] : progress) written += bytes;
  NoteProgress(written);
  UpdateInterest();
  for (const auto& [share, bytes] : progress) Written(share, bytes);
  if (error != 0) Break(error);
}

// Nothing more can be written: say so once; whatever is on its way is thrown away and credited.
void OriginStream::Break(int error) {
  if (broken_ != 0 || closed_) return;
  broken_ = error;
  if (kind_ == Kind::kOutputFile && error != EPIPE) {
    ++agent_.report().notes["output to a file at home failed: " + std::string(strerror(error))];
  }
  const auto shares = Shares();
  for (const auto& [id, host] : shares) events_.broken(host, wire::StreamBroken{id, error});
  for (const auto& [id, host] : shares) Written(id, queue_.Drop(id));
  if (!closed_) UpdateInterest();
}

void OriginStream::Written(StreamId id, uint64_t bytes) {
  const auto found = shares_.find(id);
  if (found == shares_.end()) return;
  Share& share = found->second;
  share.written += bytes;
  ShutIfWritten();
  if (!share.closing && share.written - share.credited >= Window() / 4 && !HoldsCredit())
    SendCredit(id, share, false);
  std::vector<Action> ready;
  std::erase_if(share.waiting, [&](auto& waiting) {
    if (waiting.position > share.written) return false;
    ready.push_back(std::move(waiting.action));
    return true;
  });
  EndIfWritten(id);
  for (auto& action : ready) action(false);
}

// ---- Events ----

void OriginStream::UpdateInterest() {
  if (closed_ || !Pollable()) return;
  uint32_t interest = 0;
  if (!requests_.empty() || !watchers_.empty()) interest |= EPOLLIN;
  if (!queue_.empty() && broken_ == 0) interest |= EPOLLOUT;
  // With nothing to do, a writable object is still watched for its last reader's end, once.
  const bool wanted = interest != 0 || (writable_ && broken_ == 0 && !hung_up_);
  if (!wanted) {
    if (added_) agent_.loop().Remove(pump());
    added_ = false;
    return;
  }
  if (added_ && interest == interest_) return;
  interest_ = interest;
  if (added_) return agent_.loop().Modify(pump(), interest);
  added_ = agent_.loop().Add(pump(), interest, [this](uint32_t events) { OnReady(events); }).ok();
}

void OriginStream::OnReady(uint32_t events) {
  if ((events & (EPOLLHUP | EPOLLERR)) != 0) hung_up_ = true;
  if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
    ServeRequests();
    ServeWatchers();
  }
  if ((events & EPOLLOUT) != 0) {
    // Somebody is reading; as long as nobody does, the pipe holds what it would natively.
    EnlargePipe(std::min(Waiting(), wire::kPipeWindow));
    Flush();
  }
  const uint32_t gone = kind_ == Kind::kPipeWrite ? EPOLLERR : EPOLLHUP;
  if (writable_ && (events & gone) != 0) Break(kind_ == Kind::kTerminal ? EIO : EPIPE);
  UpdateInterest();
}

}  // namespace elsewhere::runtime::stream
