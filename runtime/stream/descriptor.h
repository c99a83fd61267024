// An owned descriptor, and the few system calls on descriptors that streams share.
// Thread-safety: like any value. Errors: errno in Error::code.
#pragma once

#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "shim/wire/result.h"

namespace elsewhere::runtime::stream {

class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    if (this != &other) Reset(std::exchange(other.number_, -1));
    return *this;
  }
  ~Descriptor() { Reset(); }

  int get() const { return number_; }
  explicit operator bool() const { return number_ >= 0; }
  int Release() { return std::exchange(number_, -1); }
  void Reset(int number = -1) {
    if (number_ >= 0) close(number_);
    number_ = number;
  }

 private:
  int number_ = -1;
};

// Names a kernel object; for pipes and sockets, together with the access mode, also the description.
struct ObjectId {
  uint64_t device = 0;
  uint64_t inode = 0;
  bool operator==(const ObjectId&) const = default;
};
struct ObjectIdHash {
  size_t operator()(const ObjectId& id) const { return id.inode * 0x9e3779b97f4a7c15ULL ^ id.device; }
};

Error SystemError(const char* what);
Result<struct stat> Stat(int descriptor);
ObjectId IdOf(const struct stat& status);
// A number of `process` and one of this process. False also where the kernel does not tell.
bool SameDescription(pid_t process, int number, int own);

// What /proc/self/fd says of it: a path, or a kind with a number.
std::string LinkOf(int descriptor);

// A new open file description of the same object, through /proc/self/fd: its flags are its own.
Result<Descriptor> OpenAgain(int descriptor, int flags);

// A dup that is close-on-exec and not among the lowest numbers.
Result<Descriptor> Duplicate(int descriptor);

// FIONREAD: bytes that a read would find. 0 where the object cannot tell.
size_t BytesWaiting(int descriptor);

// recv with MSG_DONTWAIT, and the descriptors that came with the first of the bytes. Of a stream socket what
// lies before the next descriptors is taken first, so that they keep their place among the bytes.
// `credentials`: set where the sender's came, too (SO_PASSCRED).
ssize_t ReceiveBytes(int socket, bool stream, std::span<uint8_t> buffer, std::vector<Descriptor>& passed,
                     bool* credentials = nullptr);

// send with MSG_DONTWAIT; `passed` goes with the first of the bytes.
ssize_t SendBytes(int socket, std::span<const uint8_t> bytes, const std::vector<Descriptor>& passed);

// poll without waiting.
short PollNow(int descriptor, short events);

}  // namespace elsewhere::runtime::stream
