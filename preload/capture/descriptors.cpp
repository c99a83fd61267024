// The descriptor table: what /proc/self/fd lists, each with what identifies its open file description.

#include <fcntl.h>
#include <sys/stat.h>

#include "preload/capture/work.h"
#include "preload/descriptor_list.h"

namespace elsewhere::capture {
namespace {

constexpr char kDirectory[] = "/proc/self/fd/";
constexpr uint64_t kPathLimit = 4096;

bool IsOwn(const Work* work, int number, int listing) {
  if (number == listing || number == work->pagemap || number == work->request->arena) return true;
  for (uint32_t i = 0; i < work->request->own_descriptor_count; ++i) {
    if (work->request->own_descriptors[i] == number) return true;
  }
  return false;
}

uint32_t ReadPath(Work* work, const char* name) {
  char link[sizeof(kDirectory) + 16];
  uint64_t length = sizeof(kDirectory) - 1;
  for (uint64_t i = 0; i < length; ++i) link[i] = kDirectory[i];
  while (*name != '\0' && length < sizeof(link) - 1) link[length++] = *name++;
  link[length] = '\0';
  // The second half of the text buffer; the first holds directory entries.
  char* path = work->text + kTextBuffer / 2;
  const long got = raw::Syscall(SYS_readlink, raw::Address(link), raw::Address(path), raw::Word(kPathLimit));
  return raw::Failed(got) ? 0 : AddText(work, path, static_cast<uint64_t>(got));
}

bool AddDescriptor(Work* work, int number, const char* name) {
  struct stat status {};
  if (raw::Failed(raw::Syscall(SYS_fstat, number, raw::Address(&status)))) return true;
  const long flags = raw::Syscall(SYS_fcntl, number, F_GETFL);
  const long descriptor_flags = raw::Syscall(SYS_fcntl, number, F_GETFD);
  const bool has_offset = S_ISREG(status.st_mode) || S_ISDIR(status.st_mode);
  const long offset = has_offset ? raw::Syscall(SYS_lseek, number, 0, 1 /* SEEK_CUR */) : -1;
  const uint32_t path = ReadPath(work, name);
  const uint32_t position = work->descriptors.count;
  image::Descriptor* descriptor = path == image::kNone ? nullptr : work->descriptors.Add();
  if (descriptor == nullptr) return Fail(work, "too many descriptors");
  *descriptor = {number,
                 status.st_mode,
                 status.st_dev,
                 status.st_ino,
                 status.st_rdev,
                 static_cast<uint64_t>(status.st_size),
                 raw::Failed(offset) ? -1 : offset,
                 static_cast<uint32_t>(flags),
                 static_cast<uint32_t>(descriptor_flags),
                 path,
                 position,
                 image::kNone,
                 0};
  return true;
}

// The kernel lists descriptors in ascending order, which the format requires.
bool ReadEntries(Work* work, int listing) {
  for (;;) {
    const long got = raw::Syscall(SYS_getdents64, listing, raw::Address(work->text), kTextBuffer / 2);
    if (raw::Failed(got)) return Fail(work, "/proc/self/fd cannot be read", got);
    if (got == 0) return true;
    for (long at = 0; at < got;) {
      const auto* entry = reinterpret_cast<const dirent*>(work->text + at);
      const int number = DescriptorNamed(entry->d_name);
      if (number >= 0 && !IsOwn(work, number, listing) && !AddDescriptor(work, number, entry->d_name))
        return false;
      at += entry->d_reclen;
    }
  }
}

}  // namespace

bool ReadDescriptors(Work* work) {
  const long listing = raw::Syscall(SYS_open, raw::Address(kDirectory), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (raw::Failed(listing)) return Fail(work, "/proc/self/fd cannot be opened", listing);
  const bool good = ReadEntries(work, static_cast<int>(listing));
  raw::Close(static_cast<int>(listing));
  return good;
}

}  // namespace elsewhere::capture
