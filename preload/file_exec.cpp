#include "preload/file_exec.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "preload/hooks.h"
#include "preload/real.h"

namespace elsewhere::preload {
namespace {

constexpr size_t kCopied = 1 << 20;

bool CopyInto(int memory, int fd) {
  for (;;) {
    const long copied = raw::Syscall(SYS_sendfile, memory, fd, 0, kCopied);
    if (copied == 0) return true;
    if (copied < 0 && copied != -EINTR) return false;
  }
}

// "#! interpreter argument": false, it is no script.
bool TakeLine(MappedProgram* program) {
  char* at = program->line;
  if (at[0] != '#' || at[1] != '!') return false;
  at[strcspn(at, "\n")] = '\0';
  at += 2;
  at += strspn(at, " \t");
  program->interpreter = at;
  at += strcspn(at, " \t");
  if (*at != '\0') {
    *at++ = '\0';
    at += strspn(at, " \t");
    for (size_t end = strlen(at); end > 0 && (at[end - 1] == ' ' || at[end - 1] == '\t');) at[--end] = '\0';
    if (*at != '\0') program->argument = at;
  }
  return true;
}

}  // namespace

int CopyInMemory(int fd) {
  const long memory = raw::Syscall(SYS_memfd_create, raw::Address("program"), MFD_CLOEXEC);
  if (memory < 0) {
    errno = static_cast<int>(-memory);
    return -1;
  }
  raw::Syscall(SYS_fchmod, memory, 0700);
  if (CopyInto(static_cast<int>(memory), fd)) return static_cast<int>(memory);
  raw::Close(static_cast<int>(memory));
  errno = EIO;
  return -1;
}

int PrepareProgram(int fd, MappedProgram* program) {
  struct stat status;
  if (raw::Failed(raw::Syscall(SYS_fstat, fd, raw::Address(&status))) || !S_ISREG(status.st_mode)) {
    errno = EACCES;
    return -1;
  }
  if (!MakeWhole(fd, false)) return -1;
  const long size = raw::Syscall(SYS_pread64, fd, raw::Address(program->line), sizeof program->line - 1, 0);
  if (size < 0) {
    errno = static_cast<int>(-size);
    return -1;
  }
  program->line[size] = '\0';
  if (TakeLine(program)) {
    if (*program->interpreter != '\0') return 0;
    errno = ENOEXEC;
    return -1;
  }
  program->memory = CopyInMemory(fd);
  if (program->memory < 0) return -1;
  snprintf(program->path, sizeof program->path, "/proc/self/fd/%d", program->memory);
  return 0;
}

int PrepareProgram(const char* path, MappedProgram* program) {
  if (hooks::faccessat(AT_FDCWD, path, X_OK, 0) != 0) return -1;
  const int fd = OnPath(
      AT_FDCWD, path,
      [](const MappedPath& at, FileCall* call) { return OpenMapped(at, O_RDONLY | O_CLOEXEC, 0, call); },
      [&](int, const char* name) {
        program->outside = strlen(name) < sizeof program->place;
        errno = ENAMETOOLONG;
        if (program->outside) stpcpy(program->place, name);
        return -1;
      });
  if (fd < 0) return program->outside ? 0 : -1;
  const int result = PrepareProgram(fd, program);
  const int error = errno;
  SetKind(fd, DescriptorKind::kNothing);
  raw::Close(fd);
  errno = error;
  return result;
}

}  // namespace elsewhere::preload
