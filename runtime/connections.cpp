#include "runtime/connections.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

namespace elsewhere::runtime {
namespace {

constexpr size_t kMaxPacket = 64 * 1024;
constexpr size_t kMaxDescriptors = 253;  // SCM_MAX_FD

Error SystemError(const std::string& what) {
  const int code = errno;
  return Error{code, what + ": " + std::generic_category().message(code)};
}

// EAGAIN and other failures are left in errno.
bool SendNow(int socket, std::span<const uint8_t> bytes, std::span<const int> descriptors) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMaxDescriptors)];
  iovec part{const_cast<uint8_t*>(bytes.data()), bytes.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!descriptors.empty()) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
    std::memset(control, 0, message.msg_controllen);
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(descriptors.size_bytes());
    std::memcpy(CMSG_DATA(header), descriptors.data(), descriptors.size_bytes());
  }
  ssize_t sent;
  do {
    sent = sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent >= 0;
}

}  // namespace

Connections::Connections(EventLoop& loop, PacketHandler on_packet, ClosedHandler on_closed,
                         FullHandler on_full)
    : loop_(loop),
      on_packet_(std::move(on_packet)),
      on_closed_(std::move(on_closed)),
      on_full_(std::move(on_full)),
      buffer_(kMaxPacket) {}

Connections::~Connections() {
  CloseAll();
  if (listener_) loop_.Remove(listener_.get());
}

Result<store::UniqueFd> Connections::Listen(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return Error{ENAMETOOLONG, "socket path is too long: " + path};
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  store::UniqueFd listener(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener) return SystemError("socket");
  if (bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    return SystemError("cannot bind " + path);
  }
  if (geteuid() == 0 && chmod(path.c_str(), 0666) != 0) return SystemError("chmod " + path);  // session.h
  if (listen(listener.get(), SOMAXCONN) != 0) return SystemError("listen");
  return listener;
}

Status Connections::Serve(store::UniqueFd listener) {
  listener_ = std::move(listener);
  fcntl(listener_.get(), F_SETFL, fcntl(listener_.get(), F_GETFL) | O_NONBLOCK);
  return loop_.Add(listener_.get(), EPOLLIN, [this](uint32_t) { Accept(); });
}

int32_t Connections::PeerPid(ConnectionId id) const {
  const auto peer = peers_.find(id);
  return peer == peers_.end() ? 0 : peer->second.pid;
}

void Connections::Accept() {
  for (;;) {
    store::UniqueFd socket(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket ? errno == EMFILE || errno == ENFILE : room_.IsLast(socket.get())) return on_full_();
    if (!socket) return;
    ucred credentials{};
    socklen_t size = sizeof credentials;
    if (getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) continue;
    // Of root's processes any may be another user's by now; who knows the name of the socket is one of them.
    if (geteuid() != 0 && credentials.uid != geteuid() && credentials.uid != 0) continue;
    const ConnectionId id = next_id_++;
    const int descriptor = socket.get();
    peers_[id] = Peer{std::make_shared<const store::UniqueFd>(std::move(socket)), credentials.pid, {}};
    if (!loop_.Add(descriptor, EPOLLIN, [this, id](uint32_t events) { Ready(id, events); })) peers_.erase(id);
  }
}

void Connections::Ready(ConnectionId id, uint32_t events) {
  if ((events & EPOLLOUT) != 0) Flush(id);
  if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) == 0) return;
  while (Receive(id)) {
  }
}

// Takes one packet; false when there is none (any more).
bool Connections::Receive(ConnectionId id) {
  const auto peer = peers_.find(id);
  if (peer == peers_.end()) return false;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMaxDescriptors)];
  iovec part{buffer_.data(), buffer_.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const ssize_t size = recvmsg(peer->second.socket->get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (size < 0 && errno == EINTR) return true;
  if (size < 0 && errno == EAGAIN) return false;
  Packet packet;
  if (size > 0) {
    for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
         header = CMSG_NXTHDR(&message, header)) {
      if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
      const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (size_t i = 0; i < count; ++i) {
        int descriptor;
        std::memcpy(&descriptor, CMSG_DATA(header) + i * sizeof(int), sizeof descriptor);
        packet.descriptors.emplace_back(descriptor);
      }
    }
  }
  abi::PacketHeader header{};
  if (static_cast<size_t>(std::max<ssize_t>(size, 0)) >= sizeof header) {
    std::memcpy(&header, buffer_.data(), sizeof header);
  }
  const bool whole =
      size > 0 && header.size == static_cast<size_t>(size) && (message.msg_flags & MSG_TRUNC) == 0;
  if (!whole) {
    Drop(id);
    return false;
  }
  packet.type = static_cast<abi::Packet>(header.type);
  packet.is_cut = (message.msg_flags & MSG_CTRUNC) != 0;
  packet.bytes.assign(buffer_.begin(), buffer_.begin() + size);
  on_packet_(id, std::move(packet));
  return true;
}

void Connections::SendBytes(ConnectionId id, std::span<const uint8_t> bytes,
                            std::span<const int> descriptors) {
  const auto found = peers_.find(id);
  if (found == peers_.end()) return;
  Peer& peer = found->second;
  if (peer.unsent.empty()) {
    if (SendNow(peer.socket->get(), bytes, descriptors)) return;
    if (errno != EAGAIN && errno != ENOBUFS) return;  // closed: the loop will tell
  }
  if (peer.unsent.size() >= kMaxUnsent) {
    loop_.Defer([this, id] { Drop(id); });
    return;
  }
  Unsent unsent{{bytes.begin(), bytes.end()}, {}};
  for (int descriptor : descriptors) {
    unsent.descriptors.emplace_back(fcntl(descriptor, F_DUPFD_CLOEXEC, 0));
  }
  peer.unsent.push_back(std::move(unsent));
  loop_.Modify(peer.socket->get(), EPOLLIN | EPOLLOUT);
}

Connections::Sender Connections::SenderTo(ConnectionId id) const {
  const auto found = peers_.find(id);
  if (found == peers_.end()) return [](auto...) { return true; };
  return [socket = found->second.socket](std::span<const uint8_t> bytes, std::span<const int> descriptors) {
    return SendNow(socket->get(), bytes, descriptors) || (errno != EAGAIN && errno != ENOBUFS);
  };
}

void Connections::Flush(ConnectionId id) {
  const auto found = peers_.find(id);
  if (found == peers_.end()) return;
  Peer& peer = found->second;
  while (!peer.unsent.empty()) {
    const Unsent& next = peer.unsent.front();
    std::vector<int> descriptors;
    for (const auto& descriptor : next.descriptors) descriptors.push_back(descriptor.get());
    if (!SendNow(peer.socket->get(), next.bytes, descriptors) && (errno == EAGAIN || errno == ENOBUFS))
      return;
    peer.unsent.pop_front();
  }
  loop_.Modify(peer.socket->get(), EPOLLIN);
}

void Connections::Drop(ConnectionId id) {
  if (!peers_.contains(id)) return;
  Close(id);
  on_closed_(id);
}

void Connections::Close(ConnectionId id) {
  const auto peer = peers_.find(id);
  if (peer == peers_.end()) return;
  if (!peer->second.unsent.empty()) Flush(id);
  loop_.Remove(peer->second.socket->get());
  shutdown(peer->second.socket->get(), SHUT_RDWR);  // also while a Sender holds it
  peers_.erase(peer);
}

void Connections::CloseAll() {
  while (!peers_.empty()) Close(peers_.begin()->first);
}

}  // namespace elsewhere::runtime
