// From a fork at home to a deputy.
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "shim/wire/image.h"

namespace elsewhere::preload {

// Run by the child of a real fork, with all signals blocked: captures the process, whose execution continues
// at `registers` wherever it is restored, hands it to the agent and waits for the decision. Returns when the
// child is to run here after all, and only then: it is the child now. When it runs elsewhere, this process
// becomes its proxy and ends as it ends. Raw system calls only.
void BecomeDeputy(const image::Registers& registers, pid_t parent, uint64_t fork_nanoseconds);

// In the restored process, before anything of the program runs.
void ContinueElsewhere();

// CLOCK_MONOTONIC.
uint64_t NowNanoseconds();

}  // namespace elsewhere::preload
