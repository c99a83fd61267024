#include "preload/descriptor.h"

#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <sys/uio.h>

#include "preload/files.h"
#include "preload/home_queue.h"
#include "preload/hooks.h"
#include "preload/real.h"
#include "preload/shared_file.h"
#include "preload/stream.h"
#include "shim/wire/abi.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {

constinit std::atomic<uint8_t> descriptor_kinds[kDescriptorCount] = {};
constinit std::atomic<uint64_t> outputs{1};  // what was written before an exec
constinit std::atomic<bool> output_elsewhere{false};
constinit std::atomic<bool> output_closed{false};
constinit thread_local uint64_t written_to = 0;

namespace {

bool NoSuchInput(int, size_t, int) {
  errno = EBADF;
  return false;
}
bool NoSuchOutput(int) {
  errno = EBADF;
  return false;
}
off_t NoSuchSeek(int, off_t, int) {
  errno = EBADF;
  return -1;
}

bool NotConnected(int, size_t, int) {
  errno = ENOTCONN;
  return false;
}
bool NotWritable(int) {
  errno = ENOTCONN;
  return false;
}

// One row per kind, in the order of their numbers. A null operation leaves the call to the kernel.
constexpr DescriptorOperations kKinds[] = {
    {nullptr, nullptr, nullptr},              // kNothing
    {NoSuchInput, NoSuchOutput, NoSuchSeek},  // kOwn
    {PullStream, nullptr, nullptr},           // kPipeRead
    {nullptr, nullptr, nullptr},              // kPipeWrite
    {PullStream, nullptr, nullptr},           // kSocket
    {PullStream, nullptr, nullptr},           // kTerminal
    {nullptr, nullptr, SeekStream},           // kOutputFile
    {PullStream, nullptr, nullptr},           // kEvent; read and write are its own
    {nullptr, nullptr, nullptr},              // kMessageQueue
    {nullptr, nullptr, nullptr},              // kSignals
    {FetchBeforeInput, nullptr, SeekFile},    // kMappedFile
    {nullptr, nullptr, nullptr},              // kMappedDirectory
    {PullStream, nullptr, nullptr},           // kTimer, as kEvent
    {NotConnected, NotWritable, nullptr},     // kListener
    {KeepQueueHome, nullptr, nullptr},        // kHomeQueue
    {nullptr, nullptr, SeekShared},           // kSharedFile
};
constexpr size_t kKindCount = sizeof(kKinds) / sizeof(kKinds[0]);

const DescriptorOperations& OperationsOf(int fd) {
  const auto kind = static_cast<size_t>(KindOf(fd));
  return kKinds[kind < kKindCount ? kind : 0];
}

}  // namespace

size_t TotalSize(const struct iovec* parts, size_t count) {
  size_t total = 0;
  // The kernel refuses both.
  if (count > IOV_MAX || !IsReadable(parts, count * sizeof *parts)) return 0;
  for (size_t i = 0; i < count; ++i) {
    if (__builtin_add_overflow(total, parts[i].iov_len, &total)) return SIZE_MAX;
  }
  return total;
}

bool BeforeInput(int fd, size_t bytes, int flags) {
  const auto operation = OperationsOf(fd).before_input;
  return operation == nullptr || operation(fd, bytes, flags);
}

bool BeforeOutput(int fd) {
  const auto operation = OperationsOf(fd).before_output;
  return operation == nullptr || operation(fd);
}

namespace hooks {

off_t lseek(int fd, off_t offset, int whence) {
  const auto operation = OperationsOf(fd).seek;
  return operation == nullptr ? real::lseek(fd, offset, whence) : operation(fd, offset, whence);
}

}  // namespace hooks
}  // namespace elsewhere::preload
