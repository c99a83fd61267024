#include "preload/proxy/home_files.h"

#include <fcntl.h>

#include "shim/wire/raw_syscall.h"

namespace elsewhere::proxy {
namespace {

// The same object of this process, if `name` is a number; a process that may not be looked at counts as one.
bool IsInOurNamespace(const uint8_t* name) {
  char path[64] = "/proc/";
  uint64_t size = 6;
  for (const uint8_t* at = name; *at != 0; ++at) {
    if (*at < '0' || *at > '9' || size > 24) return true;
    path[size++] = static_cast<char>(*at);
  }
  for (const char* rest = "/ns/pid"; *rest != 0; ++rest) path[size++] = *rest;
  path[size] = 0;
  char own[64], its[64];
  const long own_size =
      raw::Syscall(SYS_readlink, raw::Address("/proc/self/ns/pid"), raw::Address(own), sizeof own);
  const long its_size = raw::Syscall(SYS_readlink, raw::Address(path), raw::Address(its), sizeof its);
  if (raw::Failed(its_size) || raw::Failed(own_size)) return true;
  bool same = its_size == own_size;
  for (long i = 0; same && i < own_size; ++i) same = own[i] == its[i];
  return same;
}

// Workers on this machine are other machines to the program: their processes are not in its list (its own
// are, as their deputies). In place; what is in `to` are `size` bytes of struct linux_dirent64.
long LeaveOutWorkers(uint8_t* to, long size) {
  long kept = 0;
  for (long at = 0; at < size;) {
    const uint8_t* entry = to + at;
    const long entry_size = entry[16] | entry[17] << 8;
    at += entry_size;
    if (!IsInOurNamespace(entry + 19)) continue;
    for (long i = 0; i < entry_size; ++i) to[kept++] = entry[i];
  }
  return kept;
}

}  // namespace

long ReadFile(const int64_t* arguments) {
  const long file = raw::Syscall(SYS_open, arguments[0], O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (raw::Failed(file)) return file;
  const long result = raw::Syscall(SYS_pread64, file, arguments[3], arguments[2], arguments[1]);
  raw::Close(static_cast<int>(file));
  return result;
}

long ListDirectory(const int64_t* arguments) {
  const long listing = raw::Syscall(SYS_open, arguments[0], O_RDONLY | O_CLOEXEC | O_DIRECTORY);
  if (raw::Failed(listing)) return listing;
  long done = 0, size;
  do {
    size = raw::Syscall(SYS_getdents64, listing, arguments[2] + done, arguments[1] - done);
    if (!raw::Failed(size)) done += size;
  } while (size > 0);
  raw::Close(static_cast<int>(listing));
  if (raw::Failed(size) && done == 0) return size;
  const auto* path = reinterpret_cast<const char*>(arguments[0]);
  constexpr char kRoot[] = "/proc";
  bool is_root = true;
  for (uint64_t i = 0; is_root && i < sizeof kRoot; ++i) is_root = path[i] == kRoot[i];
  return is_root ? LeaveOutWorkers(reinterpret_cast<uint8_t*>(arguments[2]), done) : done;
}

}  // namespace elsewhere::proxy
