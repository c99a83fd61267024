// The agent's Unix socket: processes of this host connect to it (shim/wire/abi.h, "the connection").
//
// A connection lives until the peer closes it, sends something malformed, or Close. Packets are whole or not
// at all (SOCK_SEQPACKET). What the peer's queue has no room for waits here, bounded by kMaxUnsent packets;
// beyond that the connection is closed, for a peer that reads nothing is broken. Ownership: received
// descriptors belong to the handler; sent ones stay the caller's. Thread-safety: one loop, but for Senders.
#pragma once

#include <sys/socket.h>

#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "runtime/descriptor_room.h"
#include "runtime/event_loop.h"
#include "shim/store/unique_fd.h"
#include "shim/wire/abi.h"

namespace elsewhere::runtime {

using ConnectionId = uint64_t;

class Connections {
 public:
  static constexpr size_t kMaxUnsent = 4096;

  struct Packet {
    abi::Packet type{};
    std::vector<uint8_t> bytes;  // header included
    std::vector<store::UniqueFd> descriptors;
    bool is_cut = false;  // descriptors are missing: this process can open no more

    // The packet as `T`, if it is as long as one.
    template <class T>
    const T* As() const {
      return bytes.size() == sizeof(T) ? reinterpret_cast<const T*>(bytes.data()) : nullptr;
    }
  };
  using PacketHandler = std::function<void(ConnectionId, Packet)>;
  using ClosedHandler = std::function<void(ConnectionId)>;
  // Nobody else can connect, or ever could: hardly a descriptor is left (descriptor_room.h).
  using FullHandler = std::function<void()>;

  Connections(EventLoop& loop, PacketHandler on_packet, ClosedHandler on_closed, FullHandler on_full);
  ~Connections();

  // Takes over a listening socket.
  Status Serve(store::UniqueFd listener);
  static Result<store::UniqueFd> Listen(const std::string& path);

  // Kernel pid of the peer as the kernel tells; 0: not visible in this pid namespace.
  int32_t PeerPid(ConnectionId id) const;

  template <class T>
  void Send(ConnectionId id, T packet, abi::Packet type, std::span<const int> descriptors = {}) {
    packet.header.type = static_cast<uint32_t>(type);
    packet.header.size = sizeof packet;
    SendBytes(id, std::span(reinterpret_cast<const uint8_t*>(&packet), sizeof packet), descriptors);
  }
  // One that says all by its type.
  void Send(ConnectionId id, abi::Packet type) {
    struct {
      abi::PacketHeader header;
    } packet{};
    Send(id, packet, type);
  }
  // One with bytes behind it.
  template <class T>
  void SendWithBytes(ConnectionId id, T packet, abi::Packet type, std::span<const uint8_t> bytes,
                     std::span<const int> descriptors = {}) {
    packet.header.type = static_cast<uint32_t>(type);
    packet.header.size = static_cast<uint32_t>(sizeof packet + bytes.size());
    const auto* head = reinterpret_cast<const uint8_t*>(&packet);
    std::vector<uint8_t> whole(head, head + sizeof packet);
    whole.insert(whole.end(), bytes.begin(), bytes.end());
    SendBytes(id, whole, descriptors);
  }
  // Bytes that carry no packet header.
  void SendBytes(ConnectionId id, std::span<const uint8_t> bytes, std::span<const int> descriptors);
  // Sends a packet at once, from any thread, also when the connection is gone: nobody gets it then. False:
  // the peer's queue has no room. For peers that ask and wait: it overtakes what is unsent.
  using Sender = std::function<bool(std::span<const uint8_t> bytes, std::span<const int> descriptors)>;
  Sender SenderTo(ConnectionId id) const;
  void Close(ConnectionId id);  // what is unsent is sent first, if the peer takes it; no on_closed
  void CloseAll();

 private:
  struct Unsent {
    std::vector<uint8_t> bytes;
    std::vector<store::UniqueFd> descriptors;
  };
  struct Peer {
    std::shared_ptr<const store::UniqueFd> socket;  // also of those who send from other threads
    int32_t pid = 0;
    std::deque<Unsent> unsent;
  };

  void Accept();
  void Ready(ConnectionId id, uint32_t events);
  bool Receive(ConnectionId id);
  void Flush(ConnectionId id);
  void Drop(ConnectionId id);

  EventLoop& loop_;
  PacketHandler on_packet_;
  ClosedHandler on_closed_;
  FullHandler on_full_;
  DescriptorRoom room_;
  store::UniqueFd listener_;
  ConnectionId next_id_ = 1;
  std::unordered_map<ConnectionId, Peer> peers_;
  std::vector<uint8_t> buffer_;
};

}  // namespace elsewhere::runtime
