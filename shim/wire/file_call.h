// Calls about mapped files: what a process asks its host's agent, and what both see in shared memory.
//
// A call that names a path travels as one packet on the process's connection (paths do not fit into a slot,
// and an opened file comes back as a descriptor): kFileCall with a FileRequest, and one end of a new socket
// pair on which the agent sends one FileAnswer. So any number of threads ask at once, from signal handlers
// too, and an agent that dies is an end of file. Calls about an open file go through the table (abi.h) and
// name it by device and inode of its local file.
//
// Plain C layouts, included by freestanding code; changes bump kAbiVersion.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <atomic>

namespace elsewhere::abi {

inline constexpr uint32_t kFileCount = 4096;  // open mapped files of a host with an entry; others ask always
inline constexpr uint32_t kMostMaps = 16;
inline constexpr size_t kFilePathSize = 4096;  // PATH_MAX, with the final zero

// What every process knows of an open mapped file. Written by the agent.
struct alignas(64) FileEntry {
  std::atomic<uint32_t> whole;  // 1: all of it is in the local file
  std::atomic<uint32_t> used;   // 1: names a file
  std::atomic<uint64_t> device, inode;
  // What is written behind it the agent finds by itself. UINT64_MAX: the agent has to look at the store
  // first.
  std::atomic<uint64_t> known_size;
  std::atomic<uint64_t> notify_at;     // who writes up to here says so: it is sent while it is written
  std::atomic<uint64_t> record_locks;  // 1: processes of this host have or had some: they go by a close
  uint64_t reserved[2];
};
static_assert(sizeof(FileEntry) == 64);

// Locks on mapped files (runtime/file/file_locks.h). kClose: the process has closed a descriptor of the file.
enum class FileLockCommand : uint32_t { kGet = 0, kTry = 1, kWait = 2, kClose = 3 };
// kProcess: the lock itself. The others are the kernel's; this is the host's right to have them.
enum class FileLockKind : uint32_t { kProcess = 0, kDescription = 1, kFlock = 2 };
enum class FileLockType : uint32_t { kNone = 0, kShared = 1, kExclusive = 2 };
struct FileLock {
  FileLockType type;
  int32_t pid;    // -1: it belongs to a description
  uint64_t from;  // of a range of bytes
  uint64_t to;    // behind it; UINT64_MAX: it has no end
};

enum class FileOperation : uint32_t {
  kNone = 0,
  kOpen = 1,  // arguments: flags, mode (umask applied). Answers with a descriptor; result: as kFileFind; text
              // of a directory: its path in the host's tree. EREMOTE with a descriptor: of a FIFO, to be
              // opened by its name below /proc/self/fd.
  kStatus = 2,         // arguments: 1 = follow
  kAccess = 3,         // arguments: R_OK.., 1 = follow
  kReadLink = 4,       // text: the target
  kMakeDirectory = 5,  // arguments: mode
  kRemoveDirectory = 6,
  kUnlink = 7,
  kRename = 8,     // arguments: flags; second: the new path, on the same map
  kMakeLink = 9,   // second: the target
  kSetMode = 10,   // arguments: mode, 1 = follow
  kSetOwner = 11,  // arguments: user, group, 1 = follow
  kSetTimes = 12,  // arguments: atime, mtime in nanoseconds or kTimeOmitted, 1 = follow, 1 = both are now
  kTruncate = 13,  // arguments: size
  kEnter = 14,     // a directory that is to be the current one; text: its path in the host's tree
  kResolve = 15,   // arguments: 1 = the last name may be missing; text: the path without links
  kName = 16,      // no path; arguments: device, inode of an open file's local file. text: path in its map;
                   // result: map
  // Of a path (second argument: 1 = follow) or, with a path that is empty, of an open file: third and fourth
  // are device and inode. The attribute's name is `second`; of kSetXattr the name, a zero, the value. Text:
  // the value, or the names.
  kGetXattr = 17,
  kListXattr = 18,
  kSetXattr = 19,  // arguments: flags
  kRemoveXattr = 20,
  kMakeNode = 21,     // arguments: mode with its type (umask applied), device
  kLinkFile = 22,     // a name for an open file without one; arguments: -, -, device, inode
  kHardLink = 23,     // second: the new path
  kSocketPath = 24,   // text: where a Unix socket of that name lies on this host
  kLongestPath = 25,  // of a directory; result: bytes that a path seen from there may have, with its end
  // arguments: 1 = follow. text: what in the host's tree stands for it; its changes show
  // there from now on.
  kWatch = 26,
  kSettle = 27,  // a directory: what was put off below it is in the store; EIO: it could not be (fsync)
};

// An argument of Operation::kFileFlush: a close asks, which with a write-back may be put off. Of
// kFileFlushAll: a fork asks, for which only that is to be sent.
inline constexpr int64_t kFileClosing = 1;

inline constexpr int64_t kTimeOmitted = INT64_MIN;

struct FileStatus {
  uint32_t mode;
  uint32_t uid;
  uint32_t gid;
  uint32_t links;
  uint64_t device;
  uint64_t inode;
  uint64_t special;  // of a device node: which device
  uint64_t size;
  uint64_t blocks;  // of 512 bytes
  int64_t atime_ns;
  int64_t mtime_ns;
  int64_t ctime_ns;
};

// Followed by `first` and `second` bytes of the two paths, without zeros; both are relative to the map.
inline constexpr uint32_t kFileGroups = 32;  // supplementary groups that are told

struct FileRequest {
  uint32_t type;  // PacketHeader
  uint32_t size;
  uint32_t operation;
  uint32_t map;
  int64_t arguments[4];
  uint32_t first;
  uint32_t second;
  uint32_t uid;  // whose permissions count: effective ids
  uint32_t gid;
  uint32_t group_count;  // 0 of root, whose groups do not matter
  uint32_t groups[kFileGroups];
  uint32_t reserved;
};
static_assert(sizeof(FileRequest) == 200);

// The text is `text_size` bytes, not terminated. EREMOTE: the path leads out of the map, to the absolute
// `text`.
struct FileAnswer {
  int64_t result;
  int32_t error;
  uint32_t text_size;
  FileStatus status;
  char text[kFilePathSize];
};

}  // namespace elsewhere::abi
