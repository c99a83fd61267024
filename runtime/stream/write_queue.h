// Bytes from other hosts on their way into an object here, in the order in which they arrived.
//
// Rules for a pipe: what a process wrote with one write of at most PIPE_BUF bytes goes in with one write.
// Small writes may share one, up to PIPE_BUF. A run of writes of exactly PIPE_BUF (what packet mode makes of
// a large write) goes in with one: the kernel gives each a page of its own and stops only between pages, so
// none of them is torn either. Datagrams go in one by one. Thread-safety: none.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <span>
#include <vector>

#include "runtime/stream/descriptor.h"
#include "shim/wire/message.h"
#include "shim/wire/result.h"

namespace elsewhere::runtime::stream {

enum class Borders {
  kNone,      // byte stream: any write may end anywhere
  kAtomic,    // pipe: writes of at most PIPE_BUF stay whole
  kDatagram,  // every write is one message
};

class WriteQueue {
 public:
  // A non-blocking write to the object; an error of EAGAIN means that it is full.
  using Write =
      std::function<Result<size_t>(std::span<const uint8_t>, const std::vector<Descriptor>& passed)>;
  using Written = std::function<void(wire::StreamId share, size_t bytes)>;

  bool empty() const { return pieces_.empty(); }
  // `records`: sizes that add up to bytes.size(), or empty. `passed`: descriptors that go with the first
  // byte.
  void Push(wire::StreamId share, std::vector<uint8_t> bytes, std::vector<uint32_t> records,
            std::vector<Descriptor> passed = {});
  // Throws away what `share` has here; returns how many bytes that was.
  size_t Drop(wire::StreamId share);

  // What is left of all bytes, in order; empty afterwards.
  std::vector<uint8_t> TakeAll();

  // Writes until empty (true) or full (false). An error other than EAGAIN is returned, with the queue as it
  // is.
  Result<bool> Flush(Borders borders, const Write& write, const Written& written);

 private:
  struct Piece {
    wire::StreamId share;
    std::vector<uint8_t> bytes;
    std::vector<uint32_t> records;
    std::vector<Descriptor> passed;  // until the first write
    size_t record = 0;               // first one that is not wholly written
    size_t done = 0;                 // bytes
    size_t torn = 0;                 // of these, bytes of that record
  };
  static size_t NextBatch(const Piece& piece, Borders borders);
  static void Advance(Piece& piece, size_t bytes);

  std::deque<Piece> pieces_;
};

}  // namespace elsewhere::runtime::stream
