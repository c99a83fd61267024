#include "runtime/stream/packet_batch.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/uio.h>

#include <cerrno>

namespace elsewhere::runtime::stream {

bool PacketBatch::Open() {
  if (in_ || refused_) return !refused_;
  int ends[2];
  refused_ = pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0;
  if (refused_) return false;
  out_.Reset(ends[0]);
  in_.Reset(ends[1]);
  const int capacity = fcntl(in_.get(), F_GETPIPE_SZ);  // less where the user has many pipes
  capacity_ = capacity > 0 ? static_cast<size_t>(capacity) : 0;
  return true;
}

namespace {

// `full`: all packets are.
void ReadPackets(int pipe, size_t size, bool full, std::vector<uint8_t>& bytes,
                 std::vector<uint32_t>& records) {
  size_t at = bytes.size();
  bytes.resize(at + size);
  while (at < bytes.size()) {
    const iovec rest{bytes.data() + at, bytes.size() - at};
    ssize_t got = full ? vmsplice(pipe, &rest, 1, SPLICE_F_NONBLOCK) : -1;
    if (got > 0) records.insert(records.end(), static_cast<size_t>(got) / PIPE_BUF, PIPE_BUF);
    if (got <= 0) {
      got = read(pipe, rest.iov_base, rest.iov_len);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) break;
      records.push_back(static_cast<uint32_t>(got));
    }
    at += static_cast<size_t>(got);
  }
  bytes.resize(at);
}

}  // namespace

size_t PacketBatch::Take(int pipe, size_t room, std::vector<uint8_t>& bytes, std::vector<uint32_t>& records) {
  // Less would tear the last packet.
  if (!Open() || room < capacity_) return 0;
  const ssize_t moved =
      splice(pipe, nullptr, in_.get(), nullptr, capacity_, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
  if (moved <= 0) return 0;
  const size_t before = bytes.size();
  ReadPackets(out_.get(), static_cast<size_t>(moved), static_cast<size_t>(moved) == capacity_, bytes,
              records);
  return bytes.size() - before;
}

bool CopyPackets(int pipe, std::vector<uint8_t>& bytes, std::vector<uint32_t>& records) {
  const size_t there = BytesWaiting(pipe);
  int ends[2];
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return false;
  const Descriptor out(ends[0]), in(ends[1]);
  const int size = fcntl(pipe, F_GETPIPE_SZ);
  if (size > fcntl(in.get(), F_GETPIPE_SZ)) fcntl(in.get(), F_SETPIPE_SZ, size);
  const ssize_t copied = tee(pipe, in.get(), INT_MAX, SPLICE_F_NONBLOCK);
  if (copied < 0 || static_cast<size_t>(copied) < there) return there == 0;
  ReadPackets(out.get(), static_cast<size_t>(copied), false, bytes, records);
  return true;
}

}  // namespace elsewhere::runtime::stream
