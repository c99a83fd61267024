#include <string.h>

#include "preload/real.h"

namespace elsewhere::preload {

// Makes `target` what the wrapper of `name` calls. False: the table has no such name.
extern "C" __attribute__((visibility("default"))) bool SetRealFunction(const char* wanted, void* target) {
#define REAL(R, name, P, A)                                                            \
  if (strcmp(wanted, #name) == 0) {                                                    \
    __atomic_store_n(reinterpret_cast<void**>(&real::name), target, __ATOMIC_RELAXED); \
    return true;                                                                       \
  }
#define HOOK(R, name, P, A) REAL(R, name, P, A)
#define GUARD(R, name, P, A, condition) REAL(R, name, P, A)
#define READS(R, name, P, A, fd, bytes, flags) REAL(R, name, P, A)
#define WRITES(R, name, P, A, fd, bytes) REAL(R, name, P, A)
#define READS_AT(R, name, P, A, fd, bytes, offset) REAL(R, name, P, A)
#define WRITES_AT(R, name, P, A, fd, bytes, offset) REAL(R, name, P, A)
#include "preload/hooks.def"
  return false;
}

}  // namespace elsewhere::preload
