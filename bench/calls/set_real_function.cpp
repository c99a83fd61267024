#include <string.h>

#include "preload/real.h"

namespace elsewhere::preload {

// Makes `target` what the wrapper of `name` calls. False: the table has no such name.
extern "C" __attribute__((visibility("default"))) bool SetRealFunction(const char* wanted, void* target) {
#define EVERY(R, name, P, A)                                                           \
  if (strcmp(wanted, #name) == 0) {                                                    \
    __atomic_store_n(reinterpret_cast<void**>(&real::name), target, __ATOMIC_RELAXED); \
    return true;                                                                       \
  }
#include "preload/hooks.def"
  return false;
}

}  // namespace elsewhere::preload
