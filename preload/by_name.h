// The exported functions under names of our own: what a program asks for by a number is to be done as if it
// had called libc's function of that name.
#pragma once

#include "preload/signatures.h"

namespace elsewhere::preload::by_name {

#define DECLARED(R, name, P) __attribute__((visibility("hidden"))) R name P __asm__("elsewhere_" #name);
#define HOOK(R, name, P, A) DECLARED(R, name, P)
#define GUARD(R, name, P, A, condition) DECLARED(R, name, P)
#define READS(R, name, P, A, fd, bytes, flags) DECLARED(R, name, P)
#define WRITES(R, name, P, A, fd, bytes) DECLARED(R, name, P)
#define READS_AT(R, name, P, A, fd, bytes, offset) DECLARED(R, name, P)
#define WRITES_AT(R, name, P, A, fd, bytes, offset) DECLARED(R, name, P)
#include "preload/hooks.def"
#undef DECLARED

}  // namespace elsewhere::preload::by_name
