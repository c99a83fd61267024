// OriginStream: sockets that somebody shuts down.
//
// A process of this host shuts down the description itself. Whoever shares it on another host, or has the
// other end there, must find EPIPE and not a stand-in that takes bytes; the kernel tells neither of them:
// only a write would show it. So every shutdown is told to this host's agent before it returns, and the agent
// looks at all sockets that other hosts have.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>

#include "runtime/stream/origin_stream.h"

namespace elsewhere::runtime::stream {

void OriginStream::OnShutdown(const wire::StreamShutdown& message) {
  if (shares_.count(message.stream) != 0) ShutWriting();
}

// The result is errno. SHUT_WR follows the bytes that came before, from whatever host; the caller does not
// wait for that, for it may be their reader.
int OriginStream::ShutDown(int how) {
  const bool follows = kind_ == Kind::kSocket && !queue_.empty() && (how == SHUT_WR || how == SHUT_RDWR);
  const int now = follows && how == SHUT_RDWR ? SHUT_RD : how;
  if (!(follows && how == SHUT_WR) && shutdown(descriptor_.get(), now) != 0) return errno;
  if (follows) {
    ShutWriting();
  } else {
    events_.shut_down();
  }
  return 0;
}

void OriginStream::ShutWriting() {
  if (kind_ != Kind::kSocket || closed_) return;
  for (auto& [id, share] : shares_) share.shut_at = share.received;
  shutting_ = true;
  ShutIfWritten();
}

void OriginStream::ShutIfWritten() {
  if (!shutting_ || closed_) return;
  for (const auto& [id, share] : shares_) {
    if (share.written < share.shut_at) return;
  }
  shutting_ = false;
  shutdown(descriptor_.get(), SHUT_WR);
  events_.shut_down();
}

// Of a Unix socket a write from an address that is none says it, without a byte: EPIPE comes before EFAULT.
// The far end of a TCP connection does not tell of SHUT_RD.
bool OriginStream::CanWrite() const {
  if ((PollNow(descriptor_.get(), 0) & (POLLHUP | POLLERR)) != 0) return false;
  if (passes_) {
    const auto* const nowhere = reinterpret_cast<const void*>(8);
    return send(descriptor_.get(), nowhere, 1, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0 || errno != EPIPE;
  }
  tcp_info info{};
  socklen_t size = sizeof info;
  if (getsockopt(descriptor_.get(), IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return true;
  return info.tcpi_state == TCP_ESTABLISHED || info.tcpi_state == TCP_CLOSE_WAIT;
}

// A datagram socket gave nothing: its end, or an empty message. With the end before it, those that are left
// may be taken for it only where nothing follows them.
bool OriginStream::HasEnded() const {
  return (PollNow(descriptor_.get(), POLLRDHUP) & (POLLRDHUP | POLLHUP)) != 0 &&
         BytesWaiting(descriptor_.get()) == 0;
}

void OriginStream::LookForShutdown() {
  if (kind_ == Kind::kSocket && !closed_ && broken_ == 0 && !CanWrite()) Break(EPIPE);
}

}  // namespace elsewhere::runtime::stream
