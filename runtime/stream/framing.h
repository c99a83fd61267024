// Messages that begin with their length: four bytes, the most significant first, as Python's connections send
// them. A reader asks for the four and then for as many bytes as they say, which on another host is two round
// trips. Who has always asked like that is given both at once: nobody else can mean to read between the two,
// or natively would find half a message.
// Thread-safety: none.
#pragma once

#include <cstdint>
#include <span>

#include "shim/wire/message.h"

namespace elsewhere::runtime::stream {

class Framing {
 public:
  static constexpr uint64_t kHeader = 4;

  static uint64_t LengthIn(std::span<const uint8_t> header) {
    return uint64_t{header[0]} << 24 | uint64_t{header[1]} << 16 | uint64_t{header[2]} << 8 | header[3];
  }

  // `reader` asked for so many bytes, and was given `bytes`, which begin with `first`.
  void Given(wire::Incarnation reader, uint64_t asked, uint64_t bytes, std::span<const uint8_t> first) {
    if (left_ != 0) {
      const bool whole = asked == left_ || (left_ > kLarge && asked < left_);
      if (reader != reader_ || !whole || bytes > left_) return Forget();
      left_ -= bytes;
      if (left_ == 0 && tells_) ++seen_;
      return;
    }
    if (asked != kHeader || first.size() < kHeader) return Forget();
    const uint64_t length = LengthIn(first);
    const uint64_t beyond = bytes - kHeader;
    if (beyond > length) return Forget();
    left_ = length - beyond;
    reader_ = reader;
    // Numbers of four bytes look like messages of that length.
    tells_ = beyond == 0 && length != kHeader;
  }
  // What is asked for next is a header, and its message will be.
  bool IsSure() const { return seen_ >= kEnough && left_ == 0; }

 private:
  static constexpr uint32_t kEnough = 8;
  static constexpr uint64_t kLarge = 32 << 10;  // is asked for in pieces, for which there is room

  void Forget() {
    seen_ = 0;
    left_ = 0;
  }

  uint32_t seen_ = 0;  // messages that were read like that, in a row
  uint64_t left_ = 0;  // of the one that is being read
  wire::Incarnation reader_ = 0;
  bool tells_ = false;
};

}  // namespace elsewhere::runtime::stream
