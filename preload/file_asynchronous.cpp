// Asynchronous input and output on mapped files: POSIX aio, which threads of libc carry out, libaio and
// io_uring, which the kernel does by itself.
//
// What may be read is fetched before; a file that may be written so is all here, and what was changed is
// found when it is sent. Durability is a call that waits: a request to libaio to synchronise is one here,
// where everything before it has been waited for by the program; aio_fsync, which promises it for what is
// still under way, waits for that first. A ring takes requests without a call that could be seen, so there
// is none in sessions with maps (ENOSYS).
#include <aio.h>
#include <errno.h>
#include <linux/aio_abi.h>
#include <signal.h>

#include "preload/files.h"
#include "preload/hooks.h"
#include "preload/real.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {
namespace {

bool PrepareBlock(const struct aiocb* block, bool writes) {
  if (!IsMappedFile(block->aio_fildes)) return true;
  if (writes) return MakeWhole(block->aio_fildes, true);
  return FetchRange(block->aio_fildes, block->aio_offset, block->aio_nbytes);
}

// 0, or -errno as io_submit answers.
long Prepare(const struct iocb& block) {
  const int fd = static_cast<int>(block.aio_fildes);
  if (!IsMappedFile(fd)) return 0;
  bool ready = true;
  switch (block.aio_lio_opcode) {
    case IOCB_CMD_PWRITE:
    case IOCB_CMD_PWRITEV:
      ready = MakeWhole(fd, true);
      break;
    case IOCB_CMD_PREAD:
    case IOCB_CMD_PREADV:
      ready = MakeWhole(fd, false);
      break;
    case IOCB_CMD_FSYNC:
    case IOCB_CMD_FDSYNC:
      ready = FlushFile(fd) == 0;
      break;
    default:
      break;
  }
  return ready ? 0 : -errno;
}

}  // namespace

long SubmitAsynchronous(unsigned long context, long count, struct iocb** blocks) {
  const int before = errno;
  long ready = 0;
  while (HasMaps() && ready < count) {
    const long error = Prepare(*blocks[ready]);
    errno = before;
    if (error != 0 && ready == 0) return error;
    if (error != 0) break;
    ++ready;
  }
  return raw::Syscall(SYS_io_submit, context, HasMaps() ? ready : count, raw::Address(blocks));
}

namespace hooks {

int aio_read(struct aiocb* block) {
  return PrepareBlock(block, false) ? real::aio_read(block) : -1;
}
int aio_write(struct aiocb* block) {
  return PrepareBlock(block, true) ? real::aio_write(block) : -1;
}
// libc carries out a request to synchronise after those of the same file that were made before it: so one of
// our own tells when they are done, and the program's has nothing to wait for but to be told.
int aio_fsync(int operation, struct aiocb* block) {
  struct aiocb before {};
  before.aio_fildes = block->aio_fildes;
  before.aio_sigevent.sigev_notify = SIGEV_NONE;
  if (real::aio_fsync(operation, &before) != 0) return -1;
  const int saved = errno;
  const struct aiocb* const list[] = {&before};
  while (real::aio_error(&before) == EINPROGRESS) real::aio_suspend(list, 1, nullptr);
  if (real::aio_return(&before) != 0 || FlushFile(block->aio_fildes) != 0) return -1;
  errno = saved;
  return real::aio_fsync(operation, block);
}
int lio_listio(int mode, struct aiocb* const* blocks, int count, struct sigevent* event) {
  for (int i = 0; i < count; ++i) {
    const struct aiocb* block = blocks[i];
    if (block == nullptr || block->aio_lio_opcode == LIO_NOP) continue;
    if (!PrepareBlock(block, block->aio_lio_opcode == LIO_WRITE)) return -1;
  }
  return real::lio_listio(mode, blocks, count, event);
}

}  // namespace hooks

// libaio's, which answers -errno.
extern "C" __attribute__((visibility("default"))) int wrapper_io_submit(
    unsigned long context, long count, struct iocb** blocks) __asm__("io_submit");
int wrapper_io_submit(unsigned long context, long count, struct iocb** blocks) {
  return static_cast<int>(SubmitAsynchronous(context, count, blocks));
}

}  // namespace elsewhere::preload
