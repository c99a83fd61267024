// OtherHolders: how a FileSystem reaches other hosts that have files of the same map open.
//
// POSIX lets an open file live on when its name is removed or replaced, and follow its name when that is
// changed; of an object that is gone nothing can be fetched. So whoever takes a name away says so first.
//
// Thread-safety: from any thread; Leaves blocks.
#pragma once

#include <cstdint>
#include <string>

#include "shim/wire/result.h"

namespace elsewhere::file {

class OtherHolders {
 public:
  virtual ~OtherHolders() = default;

  // `from` is about to be removed, or, if `to` is not empty, to be renamed to it. Every other host fetches
  // whole what it has open under these names and, of directories, below them; it sends nothing of it before
  // Settled, which must follow every success. An error: a host could not, and the names must stay.
  virtual Result<uint64_t> Leaves(const std::string& from, const std::string& to) = 0;
  // Whether it was done.
  virtual void Settled(uint64_t announcement, bool done) = 0;
};

// One announcement, settled by its end.
class Departure {
 public:
  // `others`: nullptr where there are none.
  Departure(OtherHolders* others, const std::string& from, const std::string& to = "") : others_(others) {
    if (others_ != nullptr) announced_ = others_->Leaves(from, to);
  }
  ~Departure() {
    if (others_ != nullptr && announced_) others_->Settled(*announced_, done_);
  }
  Departure(const Departure&) = delete;
  Departure& operator=(const Departure&) = delete;

  Status status() const { return announced_ ? Status(Ok{}) : Status(announced_.error()); }
  void Done() { done_ = true; }

 private:
  OtherHolders* const others_;
  Result<uint64_t> announced_ = uint64_t{0};
  bool done_ = false;
};

}  // namespace elsewhere::file
