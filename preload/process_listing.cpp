// Listings of /proc: the processes are home's (process_files.h).
//
// Libc reads a directory without a hook below readdir, so a listing is a directory of this host's, opened as
// usual, of which readdir tells something else: a copy of what home's kernel said when it was opened, or
// rewound.
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <atomic>

#include "preload/children.h"
#include "preload/hooks.h"
#include "preload/process_files.h"
#include "preload/real.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {

constinit std::atomic<int> listings = 0;

namespace {

// Most of it is never touched.
constexpr size_t kRoom = 4 << 20;
constexpr uint32_t kMostListings = 64;

struct Listing {
  std::atomic<DIR*> directory;  // nullptr: free
  char path[192];
  pid_t session_pid;  // of the process on this host whose threads are listed; 0: it is home's directory
  uint8_t* entries;   // as getdents64 gives them, which is libc's struct dirent
  size_t size;
  size_t at;
  struct dirent renamed;
};
constinit Listing all[kMostListings] = {};

Listing* Find(DIR* directory) {
  for (Listing& listing : all) {
    if (listing.directory.load(std::memory_order_acquire) == directory) return &listing;
  }
  return nullptr;
}

// As ListAtHome, of this host.
int64_t ListHere(const char* path, uint8_t* to) {
  const long directory = raw::Syscall(SYS_open, raw::Address(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (raw::Failed(directory)) {
    errno = static_cast<int>(-directory);
    return -1;
  }
  int64_t done = 0;
  for (;;) {
    const long size =
        raw::Syscall(SYS_getdents64, directory, raw::Address(to) + done, static_cast<long>(kRoom) - done);
    if (size <= 0) break;
    done += size;
  }
  raw::Close(static_cast<int>(directory));
  return done;
}

bool Lists(const Listing& listing, const char* name) {
  for (size_t at = 0; at < listing.size;) {
    const auto* entry = reinterpret_cast<const struct dirent*>(listing.entries + at);
    if (strcmp(entry->d_name, name) == 0) return true;
    at += entry->d_reclen;
  }
  return false;
}

// A child that has ended is there until this process waits for it; its deputy has ended before.
void AddEndedChildren(Listing& listing) {
  constexpr uint32_t kMost = 1024;
  pid_t children[kMost];
  const uint32_t count = ListChildren(children, kMost);
  for (uint32_t i = 0; i < count; ++i) {
    char name[12];
    const auto length = static_cast<size_t>(snprintf(name, sizeof name, "%d", children[i]));
    const size_t size = (offsetof(struct dirent, d_name) + length + 8) / 8 * 8;
    if (children[i] <= 0 || Lists(listing, name) || size > kRoom - listing.size) continue;
    auto* entry = reinterpret_cast<struct dirent*>(listing.entries + listing.size);
    entry->d_ino = static_cast<ino_t>(children[i]);
    entry->d_off = static_cast<off_t>(listing.size);
    entry->d_reclen = static_cast<unsigned short>(size);
    entry->d_type = DT_DIR;
    memcpy(entry->d_name, name, length + 1);
    listing.size += size;
  }
}

bool Fill(Listing& listing) {
  const int64_t size = listing.session_pid != 0 ? ListHere(listing.path, listing.entries)
                                                : ListAtHome(listing.path, listing.entries, kRoom);
  listing.at = 0;
  listing.size = size > 0 ? static_cast<size_t>(size) : 0;
  if (size > 0 && strcmp(listing.path, "/proc") == 0) AddEndedChildren(listing);
  return size >= 0;
}

void Free(Listing& listing) {
  raw::Syscall(SYS_munmap, raw::Address(listing.entries), kRoom);
  listing.directory.store(nullptr, std::memory_order_release);
  listings.fetch_sub(1, std::memory_order_relaxed);
}

// False: errno.
bool Follow(DIR* directory, const char* path, pid_t session_pid) {
  Listing* listing = nullptr;
  for (Listing& one : all) {
    DIR* none = nullptr;
    if (!one.directory.compare_exchange_strong(none, directory)) continue;
    listing = &one;
    break;
  }
  if (listing == nullptr) {
    errno = EMFILE;
    return false;
  }
  listings.fetch_add(1, std::memory_order_relaxed);
  memcpy(listing->path, path, strlen(path) + 1);
  listing->session_pid = session_pid;
  const long memory = raw::Syscall(SYS_mmap, 0, kRoom, PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  listing->entries = reinterpret_cast<uint8_t*>(memory);
  if (raw::Failed(memory)) listing->entries = nullptr;
  if (listing->entries != nullptr && Fill(*listing)) return true;
  const int error = raw::Failed(memory) ? ENOMEM : errno;
  Free(*listing);
  errno = error;
  return false;
}

bool ListsThreads(const ProcessPath& found) {
  return strcmp(found.rest, "/task") == 0 || strcmp(found.rest, "/task/") == 0;
}

// A process's first thread has its pid, of which the program knows the session's.
struct dirent* Renamed(Listing& listing, struct dirent* entry) {
  const pid_t thread = atoi(entry->d_name);
  if (thread <= 0 || thread != KernelPidOf(listing.session_pid)) return entry;
  memcpy(&listing.renamed, entry, offsetof(struct dirent, d_name));
  listing.renamed.d_reclen = sizeof listing.renamed;
  snprintf(listing.renamed.d_name, sizeof listing.renamed.d_name, "%d", listing.session_pid);
  return &listing.renamed;
}

bool IsRoot(const char* path) {
  return strcmp(path, "/proc") == 0 || strcmp(path, "/proc/") == 0;
}

}  // namespace

DIR* OpenProcessDirectory(const char* path, bool* handled) {
  *handled = false;
  if (!OnWorker() || path == nullptr) return nullptr;
  ProcessPath found;
  const bool root = IsRoot(path);
  if (!root && !FindProcess(AT_FDCWD, path, &found)) return nullptr;
  *handled = true;
  const bool here = !root && found.place != ProcessPath::Place::kHome;
  const bool threads = here && ListsThreads(found);
  const int before = errno;
  DIR* directory = real::opendir(here ? found.path : "/proc");
  if (directory == nullptr || (here && !threads)) return directory;
  if (Follow(directory, root ? "/proc" : found.path, threads ? found.session_pid : 0)) return directory;
  const int error = errno;
  real::closedir(directory);
  *handled = error != ENOENT && error != EIO;
  errno = *handled ? error : before;
  return nullptr;
}

void FollowDirectory(DIR* directory) {
  struct stat there, root;
  if (directory == nullptr || !OnWorker() ||
      raw::Failed(raw::Syscall(SYS_fstat, dirfd(directory), raw::Address(&there))) ||
      raw::Failed(raw::Syscall(SYS_stat, raw::Address("/proc"), raw::Address(&root))) ||
      there.st_dev != root.st_dev || there.st_ino != root.st_ino)
    return;
  const int before = errno;
  if (!Follow(directory, "/proc", 0)) errno = before;  // then it is this host's
}

namespace hooks {

DIR* fdopendir(int fd) {
  DIR* directory = real::fdopendir(fd);
  FollowDirectory(directory);
  return directory;
}

struct dirent* readdir(DIR* directory) {
  Listing* listing = Find(directory);
  if (listing == nullptr) return real::readdir(directory);
  if (listing->at >= listing->size) return nullptr;
  auto* entry = reinterpret_cast<struct dirent*>(listing->entries + listing->at);
  listing->at += entry->d_reclen;
  return listing->session_pid != 0 ? Renamed(*listing, entry) : entry;
}

void rewinddir(DIR* directory) {
  real::rewinddir(directory);
  const int before = errno;
  if (Listing* listing = Find(directory)) Fill(*listing);
  errno = before;
}
long telldir(DIR* directory) {
  const Listing* listing = Find(directory);
  return listing != nullptr ? static_cast<long>(listing->at) : real::telldir(directory);
}
void seekdir(DIR* directory, long position) {
  Listing* listing = Find(directory);
  if (listing == nullptr) return real::seekdir(directory, position);
  if (position >= 0 && static_cast<size_t>(position) <= listing->size)
    listing->at = static_cast<size_t>(position);
}

int closedir(DIR* directory) {
  if (Listing* listing = Find(directory)) Free(*listing);
  return real::closedir(directory);
}

}  // namespace hooks
}  // namespace elsewhere::preload
