// Extended attributes of mapped files: there are none.
#include <errno.h>

#include "preload/files.h"
#include "preload/hooks.h"
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
ssize_t fgetxattr(int, const char*, void*, size_t) {
  return NotOffered();
}
int setxattr(const char* path, const char* name, const void* value, size_t size, int flags) {
  return NotOffered(path, [&](const char* at) { return real::setxattr(at, name, value, size, flags); });
}
int lsetxattr(const char* path, const char* name, const void* value, size_t size, int flags) {
  return NotOffered(path, [&](const char* at) { return real::lsetxattr(at, name, value, size, flags); });
}
int fsetxattr(int, const char*, const void*, size_t, int) {
  return NotOffered();
}
ssize_t listxattr(const char* path, char* list, size_t size) {
  return NotOffered(path, [&](const char* at) { return real::listxattr(at, list, size); });
}
ssize_t llistxattr(const char* path, char* list, size_t size) {
  return NotOffered(path, [&](const char* at) { return real::llistxattr(at, list, size); });
}
ssize_t flistxattr(int, char*, size_t) {
  return NotOffered();
}
int removexattr(const char* path, const char* name) {
  return NotOffered(path, [&](const char* at) { return real::removexattr(at, name); });
}
int lremovexattr(const char* path, const char* name) {
  return NotOffered(path, [&](const char* at) { return real::lremovexattr(at, name); });
}
int fremovexattr(int, const char*) {
  return NotOffered();
}

}  // namespace hooks
}  // namespace elsewhere::preload
