// Extended attributes of mapped files: there are none.
#include <errno.h>

#include "preload/files.h"
#include "preload/hooks.h"
#include "preload/output_file.h"
#include "preload/real.h"

namespace elsewhere::preload {
namespace {

template <class Local>
auto NotOffered(const char* path, Local local) -> decltype(local(path)) {
  return OnPath(
      AT_FDCWD, path,
      [](const MappedPath&, FileCall* call) {
        call->answer.error = ENOTSUP;
        errno = ENOTSUP;
        return -1;
      },
      [&](int, const char* name) { return local(name); });
}

int NotOffered() {
  errno = ENOTSUP;
  return -1;
}

}  // namespace

namespace hooks {

ssize_t getxattr(const char* path, const char* name, void* value, size_t size) {
  return NotOffered(path, [&](const char* at) { return real::getxattr(at, name, value, size); });
}
ssize_t lgetxattr(const char* path, const char* name, void* value, size_t size) {
  return NotOffered(path, [&](const char* at) { return real::lgetxattr(at, name, value, size); });
}
ssize_t fgetxattr(int fd, const char* name, void* value, size_t size) {
  if (IsOutputFile(fd)) return output::fgetxattr(fd, name, value, size);
  return NotOffered();
}
int setxattr(const char* path, const char* name, const void* value, size_t size, int flags) {
  return NotOffered(path, [&](const char* at) { return real::setxattr(at, name, value, size, flags); });
}
int lsetxattr(const char* path, const char* name, const void* value, size_t size, int flags) {
  return NotOffered(path, [&](const char* at) { return real::lsetxattr(at, name, value, size, flags); });
}
int fsetxattr(int fd, const char* name, const void* value, size_t size, int flags) {
  if (IsOutputFile(fd)) return output::fsetxattr(fd, name, value, size, flags);
  return NotOffered();
}
ssize_t listxattr(const char* path, char* list, size_t size) {
  return NotOffered(path, [&](const char* at) { return real::listxattr(at, list, size); });
}
ssize_t llistxattr(const char* path, char* list, size_t size) {
  return NotOffered(path, [&](const char* at) { return real::llistxattr(at, list, size); });
}
ssize_t flistxattr(int fd, char* list, size_t size) {
  if (IsOutputFile(fd)) return output::flistxattr(fd, list, size);
  return NotOffered();
}
int removexattr(const char* path, const char* name) {
  return NotOffered(path, [&](const char* at) { return real::removexattr(at, name); });
}
int lremovexattr(const char* path, const char* name) {
  return NotOffered(path, [&](const char* at) { return real::lremovexattr(at, name); });
}
int fremovexattr(int fd, const char* name) {
  if (IsOutputFile(fd)) return output::fremovexattr(fd, name);
  return NotOffered();
}

}  // namespace hooks
}  // namespace elsewhere::preload
