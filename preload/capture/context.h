// Saving and entering an execution context, like setjmp and longjmp but across address spaces.
#pragma once

#include "shim/wire/image.h"

extern "C" {

// Stores what the caller expects a call to preserve, and returns 0. Returns a second time, with 1, in the
// process that elsewhere_context_enter continues; the caller's frame must not have been left in between.
// Async-signal-safe.
int elsewhere_context_save(elsewhere::image::Registers* registers) __attribute__((returns_twice));

// Not to be called: its address travels in the image (Thread::enter) and the restorer jumps to it, with
//   r12 = address of Registers, r13 = address of pairs (start, length) of memory to unmap, ended by a length
//   of 0,
// both in the dead part of the stack that `registers` names. It unmaps the ranges (the restorer itself),
// loads the registers and returns 1 to where elsewhere_context_save was called.
void elsewhere_context_enter();
}
