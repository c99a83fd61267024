// Files below /proc/N, seen from a process on a worker.
//
// The program's pids are home's, and so is the list of processes that it sees. Of a process that lives on
// this host the files are those of this host's kernel, under the kernel's pid; in `stat` and `status` the
// pids are the session's. Of all others they are home's, read by this process's deputy: home's processes, and
// the deputies of those on other hosts. /proc/self stays the kernel's, as it is for a raw system call; but it
// is a link to the session's pid, and of its `stat` and `status` only the process's own pid is the kernel's.
// What is shared by name is home's kernel's, and so are the lists and limits of it: /proc/sysvipc and, below
// /proc/sys, those of System V and of message queues. They are read at home, and not written from here. All
// else is this host's.
//
// Known by their text: absolute paths below /proc, and relative ones that begin with a number where they are
// relative to /proc itself. Async-signal-safe, except directories.
#pragma once

#include <dirent.h>
#include <errno.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "preload/self.h"

namespace elsewhere::preload {

// May `path` name a process? One comparison at home.
bool MayNameProcess(const char* path);
inline bool NamesProcess(const char* path) {
  return OnWorker() && MayNameProcess(path);
}

struct ProcessPath {
  enum class Place { kHere, kHome, kSelf };
  Place place;
  pid_t session_pid;
  const char* rest;  // behind the pid: "/stat"
  char path[192];    // for the kernel that knows the process
};
// False: no process.
bool FindProcess(int directory, const char* path, ProcessPath* found);

// open(2) of a process's file. False: it is none, or home does not know it either.
bool OpenProcessFile(int directory, const char* path, int flags, int* fd);

// The same calls at home; -1 with errno, ENOENT where there is no such process.
int StatusAtHome(const char* path, struct stat* status, int flags);
int AccessAtHome(const char* path, int mode, int flags);
ssize_t LinkAtHome(const char* path, char* buffer, size_t room);
// Bytes of a file; 0 at its end.
int64_t ReadAtHome(const char* path, int64_t offset, void* to, size_t room);
// Entries of a directory as getdents64 gives them, all at once.
int64_t ListAtHome(const char* path, void* to, size_t room);

// Where "/proc/self" and "/proc/thread-self" lead; 0: `path` is neither.
size_t SelfLink(const char* path, char* buffer, size_t room);

// A call on a path: on `local(directory, path)` or, with home's path, `home(path)`. What neither knows may be
// the kernel's own pid, which a program can have from the kernel.
template <class Local, class Home>
auto OnProcess(const ProcessPath& found, int directory, const char* path, Local local, Home home)
    -> decltype(local(directory, path)) {
  if (found.place == ProcessPath::Place::kHere) return local(directory, found.path);
  if (found.place == ProcessPath::Place::kSelf) return local(directory, path);
  const int before = errno;
  const auto result = home(found.path);
  if (result != static_cast<decltype(result)>(-1) || errno != ENOENT) return result;
  errno = before;
  return local(directory, path);
}

// ---- Directories: what readdir tells of "/proc", and of a process's directory at home

extern constinit std::atomic<int> listings;  // how many are open
inline bool HasListings() {
  return listings.load(std::memory_order_relaxed) != 0;
}
DIR* OpenProcessDirectory(const char* path, bool* handled);
// `directory` was just made from a descriptor: of /proc itself?
void FollowDirectory(DIR* directory);

}  // namespace elsewhere::preload
