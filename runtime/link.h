// A direct connection between home and one worker that can reach each other: messages without the broker.
//
// A stream socket, made by home and handed to the worker by its engine: connected from the start, reachable
// by nobody else. Each frame is a length and a message. Delivered in order, each exactly once, as by an
// inbox; a socket cannot lose what it accepted while both ends live.
//
// Send writes at once what the socket takes; the rest waits here and goes out as the peer reads. What may be
// on its way is bounded as it is for inboxes, by credit and by answers that are waited for. When the peer is
// gone, what it sent before can still be read (ReadAll); that it is gone is said by who watches its process,
// never by the link. Thread-safety: one loop. Callbacks may send, and may destroy the link by the loop's
// Defer only.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <span>
#include <vector>

#include "runtime/event_loop.h"
#include "shim/store/unique_fd.h"

namespace elsewhere::runtime {

class Link {
 public:
  static constexpr uint32_t kLongestMessage = 512 << 20;

  using MessageCallback = std::function<void(std::span<const uint8_t>)>;
  using BrokenCallback = std::function<void(std::string what)>;

  // The two ends. They are not closed on exec where the worker's is to be inherited: who starts it says so.
  struct Ends {
    store::UniqueFd home;
    store::UniqueFd worker;
  };
  static Result<Ends> Make();

  // `on_broken`: the peer sent what is no frame.
  Link(EventLoop& loop, store::UniqueFd socket, MessageCallback on_message, BrokenCallback on_broken);
  ~Link();
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;
  Status Start();

  void Send(std::vector<uint8_t> message);
  // What is sent until Release goes together.
  void Hold() { held_ = true; }
  void Release();
  // Delivers all that the peer sent.
  void ReadAll();

 private:
  struct Frame {
    uint32_t size;
    std::vector<uint8_t> message;
  };

  void Ready(uint32_t events);
  bool ReadSome();  // false: nothing is left, or nothing will come
  void DeliverFrames();
  void Flush();
  void Wants(uint32_t events);

  EventLoop& loop_;
  store::UniqueFd socket_;
  const MessageCallback on_message_;
  const BrokenCallback on_broken_;
  uint32_t wanted_ = 0;
  bool reading_ = false;  // in a callback: frames are delivered by whoever began
  bool ended_ = false;
  bool held_ = false;
  std::vector<uint8_t> buffer_;  // [begin_, end_) is not delivered
  size_t begin_ = 0;
  size_t end_ = 0;
  std::deque<Frame> unsent_;
  size_t sent_ = 0;  // of the first one, its length included
};

}  // namespace elsewhere::runtime
