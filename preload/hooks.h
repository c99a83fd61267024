// hooks::x is what happens in place of libc's x: declared here from the table, defined in the file of its
// family.
#pragma once

#include "preload/signatures.h"

namespace elsewhere::preload::hooks {
#define HOOK(R, name, P, A) R name P;
#define GUARD(R, name, P, A, condition) R name P;
#include "preload/hooks.def"
}  // namespace elsewhere::preload::hooks
