// Standard input of a stream whose object is elsewhere.
//
// Libc fills a buffer with a read of its own that no hook sees, so before it does the bytes are asked for: as
// many as that read will want, neither more (they may be another reader's) nor one at a time. Functions that
// may fill the buffer several times (fgets, getdelim, fread) are done here on the stream's own buffer, fill
// by fill. All other streams go to libc untouched. Source: POSIX fgets, getdelim, fread; the fields are those
// that getc's macro has always used (bits/types/struct_FILE.h).
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>

#include "preload/hooks.h"
#include "preload/real.h"
#include "preload/stream.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {
namespace {

constexpr int kUnbuffered = 0x2, kLineBuffered = 0x200, kLinked = 0x80, kNoWrites = 0x8;
constexpr size_t kUsualBuffer = 4096;  // what libc takes for a pipe

class Locked {
 public:
  explicit Locked(FILE* stream) : stream_(stream) { flockfile(stream_); }
  ~Locked() { funlockfile(stream_); }
  Locked(const Locked&) = delete;

 private:
  FILE* stream_;
};

bool IsStream(const FILE* stream) {
  return stream->_fileno >= 0 && IsStreamInput(stream->_fileno);
}

size_t Buffered(const FILE* stream) {
  return static_cast<size_t>(stream->_IO_read_end - stream->_IO_read_ptr);
}

size_t BufferSize(const FILE* stream) {
  if ((stream->_flags & kUnbuffered) != 0) return 1;
  return stream->_IO_buf_base == nullptr ? kUsualBuffer
                                         : static_cast<size_t>(stream->_IO_buf_end - stream->_IO_buf_base);
}

// As libc does before it waits for input: a prompt must be seen.
void ShowPrompt(const FILE* stream) {
  if ((stream->_flags & (kUnbuffered | kLineBuffered)) == 0) return;
  if ((stdout->_flags & (kLinked | kNoWrites | kLineBuffered)) == (kLinked | kLineBuffered)) fflush(stdout);
}

// True: a read of `bytes` by libc will not have to wait for what is elsewhere. False: it would fail; the
// stream's error indicator is set as that read would have set it.
bool Ask(FILE* stream, size_t bytes) {
  const long flags = raw::Syscall(SYS_fcntl, stream->_fileno, F_GETFL);
  if (AskForInput(stream->_fileno, bytes, flags < 0 || (flags & O_NONBLOCK) == 0) >= 0) return true;
  stream->_flags |= _IO_ERR_SEEN;
  return false;
}

// Before a function that takes what is in the buffer or fills it once.
bool BeforeFill(FILE* stream) {
  if (!IsStream(stream) || Buffered(stream) > 0) return true;
  ShowPrompt(stream);
  return Ask(stream, BufferSize(stream));
}

// Fills the empty buffer. False: end of file or error, as the indicators say.
bool Fill(FILE* stream) {
  return BeforeFill(stream) && real::__underflow(stream) != EOF;
}

// Takes from the buffer up to and including `delimiter`, at most `limit` bytes. `*found`: it was there.
size_t TakeUntil(FILE* stream, char* to, size_t limit, int delimiter, bool* found) {
  size_t size = Buffered(stream);
  if (size > limit) size = limit;
  const void* end = memchr(stream->_IO_read_ptr, delimiter, size);
  *found = end != nullptr;
  if (*found) size = static_cast<size_t>(static_cast<const char*>(end) - stream->_IO_read_ptr) + 1;
  memcpy(to, stream->_IO_read_ptr, size);
  stream->_IO_read_ptr += size;
  return size;
}

char* GetString(char* buffer, int size, FILE* stream) {
  if (size <= 0) return nullptr;
  if (size == 1) {
    buffer[0] = '\0';
    return buffer;
  }
  // An error before this call is not this call's.
  const int earlier = stream->_flags & _IO_ERR_SEEN;
  stream->_flags &= ~_IO_ERR_SEEN;
  size_t length = 0;
  const size_t room = static_cast<size_t>(size) - 1;
  for (bool found = false; !found && length < room;) {
    if (Buffered(stream) == 0 && !Fill(stream)) break;
    length += TakeUntil(stream, buffer + length, room - length, '\n', &found);
  }
  const bool failed = length == 0 || ((stream->_flags & _IO_ERR_SEEN) != 0 && errno != EAGAIN);
  stream->_flags |= earlier;
  if (failed) return nullptr;
  buffer[length] = '\0';
  return buffer;
}

bool Grow(char** line, size_t* size, size_t needed) {
  if (needed <= *size) return true;
  size_t larger = *size < 60 ? 120 : 2 * *size;
  if (larger < needed) larger = needed;
  auto* grown = static_cast<char*>(realloc(*line, larger));
  if (grown == nullptr) return false;
  *line = grown;
  *size = larger;
  return true;
}

ssize_t GetDelimited(char** line, size_t* size, int delimiter, FILE* stream) {
  if (line == nullptr || size == nullptr) {
    errno = EINVAL;
    return -1;
  }
  if (*line == nullptr) *size = 0;
  size_t length = 0;
  for (bool found = false; !found;) {
    if (Buffered(stream) == 0 && !Fill(stream)) break;
    if (!Grow(line, size, length + Buffered(stream) + 1)) return -1;
    length += TakeUntil(stream, *line + length, Buffered(stream), delimiter, &found);
  }
  if (length == 0) return -1;
  (*line)[length] = '\0';
  return static_cast<ssize_t>(length);
}

// Straight into the caller's memory, in whole buffers, as libc reads what is larger than its buffer.
bool ReadDirectly(FILE* stream, char* to, size_t wanted, size_t* got) {
  const size_t unit = BufferSize(stream);
  wanted -= wanted % unit;
  if (!Ask(stream, wanted)) return false;
  const ssize_t size = real::read(stream->_fileno, to, wanted);
  if (size <= 0) {
    stream->_flags |= size == 0 ? _IO_EOF_SEEN : _IO_ERR_SEEN;
    return false;
  }
  *got += static_cast<size_t>(size);
  return true;
}

size_t Read(char* to, size_t wanted, FILE* stream) {
  size_t got = 0;
  while (got < wanted) {
    if (Buffered(stream) > 0) {
      size_t size = Buffered(stream);
      if (size > wanted - got) size = wanted - got;
      memcpy(to + got, stream->_IO_read_ptr, size);
      stream->_IO_read_ptr += size;
      got += size;
    } else if (stream->_IO_buf_base != nullptr && wanted - got >= BufferSize(stream)) {
      if (!ReadDirectly(stream, to + got, wanted - got, &got)) break;
    } else if (!Fill(stream)) {
      break;
    }
  }
  return got;
}

size_t ReadItems(void* to, size_t size, size_t count, FILE* stream) {
  size_t bytes;
  if (__builtin_mul_overflow(size, count, &bytes) || bytes == 0) return 0;
  const size_t got = Read(static_cast<char*>(to), bytes, stream);
  return got == bytes ? count : got / size;
}

}  // namespace

namespace hooks {

int __underflow(FILE* stream) {
  return BeforeFill(stream) ? real::__underflow(stream) : EOF;
}
int __uflow(FILE* stream) {
  return BeforeFill(stream) ? real::__uflow(stream) : EOF;
}

int getc_unlocked(FILE* stream) {
  return BeforeFill(stream) ? real::getc_unlocked(stream) : EOF;
}
int fgetc_unlocked(FILE* stream) {
  return hooks::getc_unlocked(stream);
}
int getc(FILE* stream) {
  if (!IsStream(stream)) return real::getc(stream);
  const Locked locked(stream);
  return hooks::getc_unlocked(stream);
}
int getchar() {
  return hooks::getc(stdin);
}
int getchar_unlocked() {
  return hooks::getc_unlocked(stdin);
}

char* fgets_unlocked(char* buffer, int size, FILE* stream) {
  return IsStream(stream) ? GetString(buffer, size, stream) : real::fgets_unlocked(buffer, size, stream);
}
char* fgets(char* buffer, int size, FILE* stream) {
  if (!IsStream(stream)) return real::fgets(buffer, size, stream);
  const Locked locked(stream);
  return GetString(buffer, size, stream);
}
char* __fgets_chk(char* buffer, size_t room, int size, FILE* stream) {
  if (!IsStream(stream) || size < 0 || static_cast<size_t>(size) > room) {
    return real::__fgets_chk(buffer, room, size, stream);
  }
  return hooks::fgets(buffer, size, stream);
}

size_t fread_unlocked(void* to, size_t size, size_t count, FILE* stream) {
  return IsStream(stream) ? ReadItems(to, size, count, stream)
                          : real::fread_unlocked(to, size, count, stream);
}
size_t fread(void* to, size_t size, size_t count, FILE* stream) {
  if (!IsStream(stream)) return real::fread(to, size, count, stream);
  const Locked locked(stream);
  return ReadItems(to, size, count, stream);
}
size_t __fread_chk(void* to, size_t room, size_t size, size_t count, FILE* stream) {
  size_t bytes;
  if (!IsStream(stream) || __builtin_mul_overflow(size, count, &bytes) || bytes > room) {
    return real::__fread_chk(to, room, size, count, stream);
  }
  return hooks::fread(to, size, count, stream);
}

ssize_t getdelim(char** line, size_t* size, int delimiter, FILE* stream) {
  if (!IsStream(stream)) return real::getdelim(line, size, delimiter, stream);
  const Locked locked(stream);
  return GetDelimited(line, size, delimiter, stream);
}
ssize_t getline(char** line, size_t* size, FILE* stream) {
  return hooks::getdelim(line, size, '\n', stream);
}

}  // namespace hooks
}  // namespace elsewhere::preload
