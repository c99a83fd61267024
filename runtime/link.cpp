#include "runtime/link.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

namespace elsewhere::runtime {
namespace {

constexpr size_t kLengthSize = sizeof(uint32_t);
constexpr size_t kBufferSize = 256 * 1024;
constexpr size_t kKeepCapacity = 4 * 1024 * 1024;
constexpr size_t kFramesAtOnce = 16;
// Fewer turns for large messages; the kernel's limit may be lower and then holds.
constexpr int kSocketBuffer = 1024 * 1024;

}  // namespace

Result<Link::Ends> Link::Make() {
  std::array<int, 2> sockets{};
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sockets.data()) != 0) {
    return Error{errno, std::string("socketpair: ") + strerror(errno)};
  }
  for (const int socket : sockets) {
    setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &kSocketBuffer, sizeof kSocketBuffer);
  }
  return Ends{store::UniqueFd(sockets[0]), store::UniqueFd(sockets[1])};
}

Link::Link(EventLoop& loop, store::UniqueFd socket, MessageCallback on_message, BrokenCallback on_broken)
    : loop_(loop),
      socket_(std::move(socket)),
      on_message_(std::move(on_message)),
      on_broken_(std::move(on_broken)),
      buffer_(kBufferSize) {}

Link::~Link() {
  if (socket_) loop_.Remove(socket_.get());
}

Status Link::Start() {
  wanted_ = EPOLLIN;
  return loop_.Add(socket_.get(), wanted_, [this](uint32_t events) { Ready(events); });
}

void Link::Wants(uint32_t events) {
  if (events == wanted_ || ended_) return;
  wanted_ = events;
  loop_.Modify(socket_.get(), events);
}

void Link::Ready(uint32_t events) {
  if ((events & EPOLLOUT) != 0) Flush();
  if ((events & (EPOLLIN | EPOLLERR | EPOLLHUP)) != 0) {
    ReadSome();
    DeliverFrames();
  }
}

void Link::ReadAll() {
  if (reading_) return;
  bool more = true;
  while (more) {
    more = ReadSome();
    DeliverFrames();
  }
}

bool Link::ReadSome() {
  if (ended_) return false;
  if (begin_ == end_) {
    begin_ = end_ = 0;
    if (buffer_.size() > kKeepCapacity) std::vector<uint8_t>(kBufferSize).swap(buffer_);
  } else {
    // A frame that is on its way must fit whole.
    uint32_t length = 0;
    size_t needed = kLengthSize;
    if (end_ - begin_ >= kLengthSize) {
      std::memcpy(&length, buffer_.data() + begin_, kLengthSize);
      needed += length;
    }
    if (begin_ + needed > buffer_.size() || end_ == buffer_.size()) {
      std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
      end_ -= begin_;
      begin_ = 0;
      if (needed > buffer_.size()) buffer_.resize(needed);
    }
  }
  ssize_t size;
  do {
    size = recv(socket_.get(), buffer_.data() + end_, buffer_.size() - end_, 0);
  } while (size < 0 && errno == EINTR);
  if (size > 0) {
    end_ += static_cast<size_t>(size);
    return true;
  }
  if (size < 0 && errno == EAGAIN) return false;
  ended_ = true;
  unsent_.clear();
  loop_.Remove(socket_.get());
  return false;
}

void Link::DeliverFrames() {
  if (reading_) return;
  reading_ = true;
  while (end_ - begin_ >= kLengthSize) {
    uint32_t length = 0;
    std::memcpy(&length, buffer_.data() + begin_, kLengthSize);
    if (length > kLongestMessage) {
      begin_ = end_ = 0;
      on_broken_("a message of " + std::to_string(length) + " bytes came through a direct connection");
      break;
    }
    if (end_ - begin_ < kLengthSize + length) break;
    const std::span<const uint8_t> message(buffer_.data() + begin_ + kLengthSize, length);
    begin_ += kLengthSize + length;
    on_message_(message);
  }
  reading_ = false;
}

void Link::Send(std::vector<uint8_t> message) {
  if (ended_) return;
  const auto size = static_cast<uint32_t>(message.size());
  unsent_.push_back({size, std::move(message)});
  if (!held_ && unsent_.size() == 1) Flush();  // else the socket is full already
}

void Link::Release() {
  held_ = false;
  if (!unsent_.empty() && (wanted_ & EPOLLOUT) == 0) Flush();
}

void Link::Flush() {
  while (!unsent_.empty()) {
    std::array<iovec, 2 * kFramesAtOnce> parts{};
    size_t count = 0;
    size_t skip = sent_;
    for (auto frame = unsent_.begin(); frame != unsent_.end() && count < parts.size(); ++frame) {
      const size_t of_length = std::min(skip, kLengthSize);
      const size_t of_message = skip - of_length;
      skip = 0;
      parts[count++] = {reinterpret_cast<uint8_t*>(&frame->size) + of_length, kLengthSize - of_length};
      parts[count++] = {frame->message.data() + of_message, frame->message.size() - of_message};
    }
    msghdr header{};
    header.msg_iov = parts.data();
    header.msg_iovlen = count;
    ssize_t done;
    do {
      done = sendmsg(socket_.get(), &header, MSG_NOSIGNAL);
    } while (done < 0 && errno == EINTR);
    if (done < 0 && errno == EAGAIN) return Wants(EPOLLIN | EPOLLOUT);
    if (done < 0) {  // the peer is gone; what it sent can still be read
      unsent_.clear();
      sent_ = 0;
      break;
    }
    sent_ += static_cast<size_t>(done);
    while (!unsent_.empty() && sent_ >= kLengthSize + unsent_.front().message.size()) {
      sent_ -= kLengthSize + unsent_.front().message.size();
      unsent_.pop_front();
    }
  }
  Wants(EPOLLIN);
}

}  // namespace elsewhere::runtime
