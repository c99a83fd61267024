// Taking what was written in large pieces out of a pipe in packet mode (local_object.h), many packets at
// once.
//
// read gives one packet a call, and each such read of a full pipe wakes the writer, who then fills the one
// slot and sleeps again. So the packets are first moved, whole, into a pipe that nobody else has (splice),
// and read there: in one call (vmsplice, which does not stop between packets) where their number of bytes
// says that all of them are full.
// Thread-safety: none.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/stream/descriptor.h"

namespace elsewhere::runtime::stream {

class PacketBatch {
 public:
  // At most `room` bytes, behind `bytes`, their sizes behind `records`. Returns how many; 0: none, or not
  // this way: a read says.
  size_t Take(int pipe, size_t room, std::vector<uint8_t>& bytes, std::vector<uint32_t>& records);

 private:
  bool Open();

  // Empty between calls.
  Descriptor in_;
  Descriptor out_;
  size_t capacity_ = 0;
  bool refused_ = false;
};

// All that is in the pipe, which stays there, so that no writer gets room. False: it cannot be had this way.
bool CopyPackets(int pipe, std::vector<uint8_t>& bytes, std::vector<uint32_t>& records);

}  // namespace elsewhere::runtime::stream
