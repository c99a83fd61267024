// Names that are not there, in a session with maps.
//
// What the kernel does not find may be behind a symbolic link that leads into a mapped directory, so its
// ENOENT is followed by one more look, which says whether a link is on the way. Programs that search look in
// the same directories again and again; where names were missing twice in a row, that look comes first and is
// the only one, for without a link its ENOENT is the answer. What is remembered of directories is a guess of
// which look to begin with, nothing else: it may be wrong, of another directory, or old.
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>

#include <atomic>

#include "preload/files.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {
namespace {

constexpr size_t kGuesses = 64;
constexpr size_t kHashed = 24;  // bytes at a directory's end
constexpr uint32_t kMisses = 3, kExpected = 2;

// A directory's hash, with how often names were missing in it in its lowest bits.
constinit std::atomic<uint32_t> guesses[kGuesses] = {};
constinit std::atomic<bool> guessed = false;

uint32_t DirectoryHash(int directory, const char* path) {
  const char* slash = strrchr(path, '/');
  const size_t length = slash == nullptr ? 0 : static_cast<size_t>(slash - path);
  uint64_t hash =
      14695981039346656037ull ^ length ^ (*path == '/' ? 0 : static_cast<uint64_t>(directory) << 32);
  for (size_t i = length > kHashed ? length - kHashed : 0; i < length; ++i)
    hash = (hash ^ static_cast<uint8_t>(path[i])) * 1099511628211ull;
  return static_cast<uint32_t>(hash >> 24) & ~kMisses;
}

std::atomic<uint32_t>& GuessOf(uint32_t hash) {
  return guesses[(hash >> 8) % kGuesses];
}

long Look(int directory, const char* path) {
  open_how how{};
  how.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC;
  how.resolve = RESOLVE_NO_SYMLINKS;
  const long fd = raw::Syscall(SYS_openat2, directory, raw::Address(path), raw::Address(&how), sizeof how);
  if (fd < 0) return fd;
  raw::Close(static_cast<int>(fd));
  return 0;
}

}  // namespace

bool HasLinks(int directory, const char* path) {
  if (Look(directory, path) != -ENOENT) return true;
  const uint32_t hash = DirectoryHash(directory, path);
  std::atomic<uint32_t>& guess = GuessOf(hash);
  const uint32_t before = guess.load(std::memory_order_relaxed);
  const uint32_t misses = (before & ~kMisses) == hash ? before & kMisses : 0;
  guess.store(hash | (misses < kExpected ? misses + 1 : misses), std::memory_order_relaxed);
  guessed.store(true, std::memory_order_relaxed);
  return false;
}

bool IsMissing(int directory, const char* path) {
  if (!guessed.load(std::memory_order_relaxed) || path == nullptr || !IsReadable(path) || *path == '\0')
    return false;
  const uint32_t hash = DirectoryHash(directory, path);
  std::atomic<uint32_t>& guess = GuessOf(hash);
  if (guess.load(std::memory_order_relaxed) != (hash | kExpected)) return false;
  if (Look(directory, path) == -ENOENT) return true;
  guess.store(0, std::memory_order_relaxed);
  return false;
}

}  // namespace elsewhere::preload
