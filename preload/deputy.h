// The child of a fork at home, on its way to running elsewhere (DESIGN.md section 4).
#pragma once

#include <cstdint>

#include "shim/wire/abi.h"
#include "shim/wire/image.h"

namespace elsewhere::preload {

// Where the restorer leaves what the worker's agent has to say. magic is 0 until then.
extern abi::RestoreNote restore_note;

// Offers this process to the agent. `registers` are those of the caller's frame, all signals are blocked,
// ResetSelfAfterFork has been called. Returns only if the child runs here after all, with everything as it
// was; the agent knows why and counts it (if it was reached at all).
//
// Once the capture was sent, the agent may have started the child elsewhere: if the agent is lost then,
// nobody can know, and the process ends by SIGKILL rather than run twice.
void BeDeputy(const image::Registers& registers, uint64_t fork_nanoseconds);

}  // namespace elsewhere::preload
